"""Sends traces, metrics and logs with the OpenTelemetry SDK over OTLP/HTTP (protobuf, gzip) and prints, as JSON, what it sent.

usage: otel.py http://host:port COUNT RUN      COUNT traces of three spans each and COUNT log records; RUN becomes service.instance.id
"""
import json
import sys
import time

from google.protobuf.json_format import MessageToDict
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

base, count, run = sys.argv[1], int(sys.argv[2]), sys.argv[3]
resource = Resource.create({
    "service.name": "checkout", "service.namespace": "shop", "service.instance.id": run,
    "deployment.environment.name": "test", "host.cores": 8, "tags": ["a", "b"],
})


class Keeper(SpanProcessor):
    """Remembers what ended, so that the test knows every id and time."""

    def __init__(self):
        self.spans = []

    def on_end(self, span):
        self.spans.append(span)


def traces():
    keeper = Keeper()
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(keeper)
    provider.add_span_processor(BatchSpanProcessor(
        OTLPSpanExporter(endpoint=base + "/v1/traces", compression=Compression.Gzip), max_queue_size=10 * count + 1000, max_export_batch_size=64))
    tracer = provider.get_tracer("shop.checkout", "1.2.3", schema_url="https://opentelemetry.io/schemas/1.26.0")
    earlier = None
    for i in range(count):
        links = [Link(earlier, {"reason": "retry"})] if earlier else []
        with tracer.start_as_current_span("POST /order", kind=SpanKind.SERVER, links=links, attributes={
            "order.number": i, "ratio": i / 8, "vip": i % 2 == 0, "items": ["tea", "\u00fcber"], "empty": "",
        }) as root:
            earlier = root.get_span_context()
            with tracer.start_as_current_span("charge card", kind=SpanKind.CLIENT, attributes={"peer.service": "bank"}) as charge:
                charge.add_event("attempt", {"number": 1})
                if i % 5 == 0:
                    charge.set_status(Status(StatusCode.ERROR, "card refused"))
                    charge.record_exception(ValueError("no money"))
                else:
                    charge.set_status(Status(StatusCode.OK))
            with tracer.start_as_current_span("store", attributes={"rows": -(2 ** 53) - i}):
                pass
    assert provider.force_flush()
    provider.shutdown()
    return MessageToDict(encode_spans(keeper.spans))


def metrics():
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=base + "/v1/metrics", compression=Compression.Gzip), export_interval_millis=10 ** 9)
    provider = MeterProvider(resource=resource, metric_readers=[reader])
    meter = provider.get_meter("shop.meter", "0.1")
    orders = meter.create_counter("orders.placed", unit="1", description="Orders so far")
    volume = meter.create_counter("disk.io", unit="By")
    waits = meter.create_histogram("wait", unit="ms", description="Time waited", explicit_bucket_boundaries_advisory=[5.0, 10.0, 25.0])
    queue = meter.create_up_down_counter("queue.length", unit="{orders}")
    fill = meter.create_gauge("fill", unit="1")
    for i in range(count):
        orders.add(1, {"country": "de" if i % 4 else "fr", "http.status_code": 200})
        volume.add(2 ** 40)
        waits.record(i % 30, {"step": "pay"})
        queue.add(3)
        queue.add(-1)
        fill.set(i / count)
    before = time.time()
    assert provider.force_flush()
    provider.shutdown()
    return {"sent": before}


def logs():
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(
        OTLPLogExporter(endpoint=base + "/v1/logs", compression=Compression.Gzip), max_queue_size=10 * count + 1000, max_export_batch_size=50))
    logger = provider.get_logger("shop.log", "9")
    start = time.time_ns()
    sent = []
    severities = [(SeverityNumber.INFO, "INFO"), (SeverityNumber.WARN, "WARN"), (SeverityNumber.ERROR, "ERROR")]
    for i in range(count):
        number, text = severities[i % 3]
        body = {"order": i, "who": {"name": "\u00c5sa", "id": i}} if i % 10 == 9 else f"order {i} placed\twith \"quotes\" and \u2603"
        line = json.dumps(body, ensure_ascii=False, separators=(",", ":")) if isinstance(body, dict) else body
        logger.emit(LogRecord(
            timestamp=start + i, observed_timestamp=start + i, trace_id=0xABC0 + i, span_id=0xDEF0 + i, trace_flags=trace.TraceFlags(1),
            severity_number=number, severity_text=text, body=body, attributes={"order.number": i, "user": {"name": "x"}}))
        sent.append({"time": str(start + i), "line": line, "level": text, "traceId": f"{0xABC0 + i:032x}", "spanId": f"{0xDEF0 + i:016x}", "number": str(i)})
    assert provider.force_flush()
    provider.shutdown()
    return sent


json.dump({"traces": traces(), "metrics": metrics(), "logs": logs()}, sys.stdout)
