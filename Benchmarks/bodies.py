"""Request bodies of the benchmarks, made once and kept: the same bytes on every machine and every run.

A body file is `<length, 4 bytes little endian><body>` again and again. Everything is drawn from one seeded generator, so figures of
different days compare. Times start at a fixed instant (BASE), not now: run servers with retention switched off.
"""
import json
import math
import random
import struct

BASE = 1_767_225_600  # 2026-01-01T00:00:00Z
VERSION = 2  # part of the cache's name: raise it when a byte below changes


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def field(number, payload):
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def text(number, value):
    return field(number, value.encode())


def snappy_literal(raw):
    """A snappy block that is one literal: valid, not smaller."""
    return varint(len(raw)) + b"\xfc" + struct.pack("<I", len(raw) - 1) + raw


def snappy_tag(literal):
    """A literal element."""
    n = len(literal) - 1
    return (bytes([n << 2]) if n < 60 else b"\xf0" + bytes([n]) if n < 256 else b"\xf4" + struct.pack("<H", n)) + literal


class SnappyTemplate:
    """Compresses bodies that differ only in some places, by the greedy search of snappy's own encoder (4-byte hashes, blocks of 64 KiB) done once:
    a search in Python for each body would take many minutes. Places that vary are literals in each."""

    def __init__(self, raw, varying):
        """`varying`: sorted, disjoint (start, end) that differ from body to body."""
        fixed = bytearray(b"\1" * len(raw))
        for start, end in varying:
            fixed[start:end] = bytes(end - start)
        self.size, self.elements, literal, at = len(raw), [], 0, 0
        for block in range(0, len(raw), 65536):
            stop, seen = min(len(raw), block + 65536), {}
            while at < stop - 4:
                word = raw[at:at + 4]
                candidate = seen.get(word)
                seen[word] = at
                length = 0
                if candidate is not None:
                    while length < 64 and at + length < stop and raw[candidate + length] == raw[at + length] and fixed[candidate + length] and fixed[at + length]:
                        length += 1
                if length < 4:
                    at += 1
                    continue
                self.add_literal(literal, at)
                self.elements.append(bytes([length - 1 << 2 | 2]) + struct.pack("<H", at - candidate))
                at += length
                literal = at
            self.add_literal(literal, stop)
            literal = at = stop

    def add_literal(self, start, end):
        if end > start:
            self.elements.append((start, end))

    def compress(self, raw):
        return varint(self.size) + b"".join(e if isinstance(e, bytes) else snappy_tag(raw[e[0]:e[1]]) for e in self.elements)


class BodyFile:
    def __init__(self, path):
        self.file = open(path, "wb")

    def add(self, body):
        self.file.write(struct.pack("<I", len(body)) + body)


def read(path):
    with open(path, "rb") as file:
        while head := file.read(4):
            yield file.read(struct.unpack("<I", head)[0])


# MARK: metrics

METRICS = [  # name, kind, label that multiplies
    ("http_requests_total", "counter", "route"), ("http_request_duration_seconds_sum", "seconds", "route"), ("cpu_seconds_total", "seconds", "cpu"),
    ("network_receive_bytes_total", "bytes", "device"), ("memory_used_bytes", "gauge_int", "pool"), ("queue_length", "gauge_small", "queue"),
    ("temperature_celsius", "gauge_tenth", "sensor"), ("up", "constant", "target"), ("limit_bytes", "constant", "pool"), ("load", "gauge_hundredth", "core"),
]


def series_values(kind, r, steps):
    value, level = r.randrange(10**6), r.randrange(20, 80)
    rate = r.random() * 20
    for step in range(steps):
        if kind == "counter":
            value += int(rate * r.random())
            yield value
        elif kind == "seconds":
            value += r.random() * rate
            yield round(value, 6)
        elif kind == "bytes":
            value += int(rate * 10000 * r.random())
            yield value
        elif kind == "gauge_int":
            value = max(0, value + r.randrange(-8, 9) * 4096)
            yield value
        elif kind == "gauge_small":
            yield max(0, int(r.gauss(2, 3)))
        elif kind == "gauge_tenth":
            yield round(level + 5 * math.sin(step / 60) + r.random(), 1)
        elif kind == "gauge_hundredth":
            yield round(level / 20 + r.random(), 2)
        else:
            yield level


def remote_write(path, samples):
    """2,000 series; a body holds two scrapes of half of them, one sample a TimeSeries, as Prometheus' two shards send it."""
    r = random.Random(1)
    series, steps = 2000, max(2, samples // 2000 // 2 * 2)
    prefixes, values = [], []
    for i in range(series):
        name, kind, label = METRICS[i % len(METRICS)]
        number = i // len(METRICS)
        labels = sorted({"__name__": name, "instance": f"10.0.{number % 20}.7:9100", "job": "node", "cluster": "eu-west-1a", label: f"{label}-{number // 20}"}.items())
        prefixes.append(b"".join(field(1, text(1, k) + text(2, v)) for k, v in labels))
        values.append(list(series_values(kind, r, steps)))
    out, templates = BodyFile(path), [None, None]
    for step in range(0, steps, 2):
        for shard in range(2):
            raw, varying = bytearray(), []
            for s in (step, step + 1):
                stamp = b"\x10" + varint((BASE + s * 15) * 1000)
                for i in range(shard, series, 2):
                    raw += field(1, prefixes[i] + field(2, b"\x09" + struct.pack("<d", values[i][s]) + stamp))
                    varying.append((len(raw) - 15, len(raw) - 7))
                    varying.append((len(raw) - 6, len(raw)))
            raw = bytes(raw)
            templates[shard] = templates[shard] or SnappyTemplate(raw, varying)
            out.add(templates[shard].compress(raw))
    return series * steps


def new_series(path, samples, series_a_body=1000):
    """Series seen three times, a minute apart, and never again: containers of short-lived pods, some 200 bytes of labels each."""
    r = random.Random(4)
    series = samples // 3
    containers = [f"{r.getrandbits(64):016x}{i:08x}" for i in range(series)]
    out, template = BodyFile(path), None
    for step in range(3):
        stamp = b"\x10" + varint((BASE + step * 60) * 1000)
        for first in range(0, series - series_a_body + 1, series_a_body):
            raw, varying = bytearray(), []
            for i in range(first, first + series_a_body):
                labels = {"__name__": "container_memory_working_set_bytes", "cluster": "eu-west-1a", "container": SERVICES[i % 8].ljust(8, "s"), "id": containers[i],
                          "job": "kubelet", "metrics_path": "/metrics/cadvisor", "namespace": "shop", "node": f"node-{i % 50:02d}", "pod": f"worker-{containers[i][-8:]}"}
                body, places = b"", []
                for key, value in labels.items():
                    pair = field(1, text(1, key) + text(2, value))
                    body += pair
                    if key in ("container", "id", "node", "pod"):
                        places.append((len(body) - len(value), len(body)))
                sample = field(2, b"\x09" + struct.pack("<d", r.randrange(10**6) * 4096) + stamp)
                whole = field(1, body + sample)
                start = len(raw) + len(whole) - len(body) - len(sample)
                raw += whole
                varying += [(start + a, start + b) for a, b in places] + [(len(raw) - 15, len(raw) - 7), (len(raw) - 6, len(raw))]
            raw = bytes(raw)
            if first == 0 and step == 0:
                template = SnappyTemplate(raw, varying)
            out.add(template.compress(raw) if template.size == len(raw) else snappy_literal(raw))
    return series // series_a_body * series_a_body * 3


# MARK: logs

SERVICES = "gateway checkout cart catalog payment shipping search email".split()
MESSAGES = [
    "request completed", "cache miss for key product:{n}", "payment authorised for order {n}", "slow query on table orders took {n} ms, plan cached",
    "user {n} signed in from a new device", "retrying upstream call, attempt {d} of 5", "item {n} added to basket", "connection pool exhausted, waiting for a free slot",
]


def json_logs(path, lines, lines_a_body=1000):
    """Structured lines of about 240 bytes and 8 fields, 16 streams."""
    r = random.Random(2)
    out = BodyFile(path)
    for first in range(0, lines, lines_a_body):
        body = []
        for i in range(first, min(lines, first + lines_a_body)):
            millis = i * 25 + r.randrange(25)
            second = millis // 1000
            stamp = f"2026-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}.{millis % 1000:03d}Z"
            message = r.choice(MESSAGES).format(n=r.randrange(100000), d=r.randrange(1, 6))
            body.append(json.dumps({
                "timestamp": stamp, "level": r.choices(("info", "warn", "error", "debug"), (80, 8, 4, 8))[0], "service": r.choice(SERVICES), "host": f"node-{r.randrange(2)}",
                "trace_id": f"{r.getrandbits(128):032x}", "message": message, "duration_ms": round(r.lognormvariate(3, 1), 2), "status": r.choices((200, 201, 404, 500), (85, 8, 5, 2))[0],
            }, separators=(",", ":")))
        out.add(("\n".join(body) + "\n").encode())
    return lines


# MARK: traces

def attribute(key, value):
    """A KeyValue's bytes."""
    inner = b"\x18" + varint(value) if isinstance(value, int) else text(1, value)
    return text(1, key) + field(2, inner)


def trace_shapes(r):
    """Ten traces of 6 to 14 spans as lists of (service, parent's place, fixed tail of the span)."""
    shapes = []
    for number in range(10):
        spans = []
        for place in range(6 + number * 8 // 9):
            service = SERVICES[0] if place == 0 else r.choice(SERVICES)
            route = f"/{service}/v1/{r.choice(('list', 'create', 'item', 'update'))}"
            attributes = [
                ("http.request.method", r.choice(("GET", "POST"))), ("http.route", route), ("http.response.status_code", r.choice((200, 200, 200, 404, 500))),
                ("server.address", f"{service}.prod.svc.cluster.local"), ("server.port", 8080), ("network.protocol.version", "1.1"),
                ("db.system" if place % 3 == 2 else "rpc.system", "postgresql" if place % 3 == 2 else "http"), ("thread.name", f"worker-{r.randrange(8)}"),
                ("enduser.tier", r.choice(("free", "pro", "enterprise"))), ("code.function.name", f"{service}.handlers.{route.rsplit('/', 1)[1]}_request"),
            ]
            head = text(5, f"{attributes[0][1]} {route}") + b"\x30" + bytes([2 if place == 0 else r.choice((1, 2, 3))])
            tail = b"".join(field(9, attribute(k, v)) for k, v in attributes)
            spans.append((service, None if place == 0 else r.randrange(place), head, tail))
        shapes.append(spans)
    return shapes


def otlp_spans(path, spans, spans_a_body=1000):
    """Traces of ten shapes with their own ids, times, users and requests, grouped by service as a collector's batch processor does."""
    r = random.Random(3)
    shapes = trace_shapes(r)
    resources = {
        service: field(1, b"".join(field(1, attribute(k, v)) for k, v in (
            ("service.name", service), ("service.version", f"1.{i}.3"), ("deployment.environment.name", "prod"), ("k8s.pod.name", f"{service}-5d8f9c-{i:03d}"),
            ("telemetry.sdk.language", ("go", "java", "swift", "python")[i % 4]))))
        for i, service in enumerate(SERVICES)}
    scope = field(1, text(1, "instrumentation.http") + text(2, "1.2.3"))
    out, made = BodyFile(path), 0
    while made < spans:
        groups, held = {}, 0
        while held < spans_a_body and made < spans:
            trace, start = r.randbytes(16), (BASE + made // 100) * 10**9 + r.randrange(10**9)
            ids = [r.randbytes(8) for _ in range(14)]
            varying = field(9, attribute("enduser.id", f"user-{r.randrange(50000):05d}")) + field(9, attribute("http.request.id", f"{r.getrandbits(64):016x}"))
            for place, (service, parent, head, tail) in enumerate(r.choice(shapes)):
                begin = start + place * 700_000 + r.randrange(500_000)
                body = b"\x0a\x10" + trace + b"\x12\x08" + ids[place] + (b"" if parent is None else b"\x22\x08" + ids[parent]) + head
                body += b"\x39" + struct.pack("<Q", begin) + b"\x41" + struct.pack("<Q", begin + int(r.lognormvariate(15, 1))) + tail + varying
                groups.setdefault(service, []).append(field(2, body))
                held += 1
                made += 1
        out.add(b"".join(field(1, resources[s] + field(2, scope + b"".join(g))) for s, g in groups.items()))
    return made
