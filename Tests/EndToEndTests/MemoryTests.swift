import CZlib
import Foundation
import ObsCompress
import ObsCore
import ObsNet
import ObsWire
import XCTest

/// Whatever is sent and asked, from several connections at once: the process stays under its ceiling, answers why, and goes on.
final class MemoryTests: XCTestCase {
    private static let ceilingBytes = 256 << 20
    private var folder: TemporaryFolder!
    private var obsd: ObsdProcess!

    override func setUpWithError() throws {
        folder = try TemporaryFolder()
        obsd = try ObsdProcess(data: folder.path + "/data", ["--memory", "256MB"])
    }

    override func tearDownWithError() throws {
        XCTAssertEqual(try obsd.get("/-/healthy").status, 200)
        XCTAssertEqual(obsd.stop(), 0)
        obsd = nil
        folder = nil
    }

    /// `VmHWM`: the most the process ever had resident.
    private func peakBytes(_ process: ObsdProcess? = nil) throws -> Int {
        let status = try String(contentsOfFile: "/proc/\((process ?? obsd).processID)/status", encoding: .utf8)
        let line = try XCTUnwrap(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
        return try XCTUnwrap(line.split(separator: " ").compactMap { Int($0) }.first) << 10
    }

    private func used(_ account: String) throws -> Double {
        let page = String(decoding: try obsd.get("/metrics").body, as: UTF8.self)
        let line = page.split(separator: "\n").first { $0.hasPrefix("obsd_memory_used_bytes{account=\"\(account)\"}") }
        return try XCTUnwrap(line?.split(separator: " ").last.flatMap { Double($0) }, account)
    }

    /// Runs `body` on that many threads at once and gives all it returns.
    private func atOnce<Value: Sendable>(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Value) throws -> [Value] {
        let results = Monitor<[Result<Value, any Error>]>([])
        for index in 0..<count {
            startThread("client", stackBytes: 8 << 20) {
                let result = Result { try body(index) }
                results.update { $0.append(result) }
            }
        }
        let all = try XCTUnwrap(results.wait(timeoutNanos: 300 * nanosPerSecond) { $0.count == count ? $0 : nil })
        return try all.map { try $0.get() }
    }

    private struct Attempt: Sendable {
        var path: String
        var type: String
        var encoding: String?
        var body: [UInt8]
        var statuses: Set<Int>
    }

    private func send(_ attempts: [Attempt], connections: Int, to process: ObsdProcess? = nil) throws {
        let base = "http://\((process ?? obsd).http)"
        let answers = try atOnce(connections) { connection in
            let client = HTTPClient()
            return try attempts.indices.map { index in
                // Each connection begins elsewhere, so that different ones meet.
                let place = (index + connection) % attempts.count
                let attempt = attempts[place]
                let headers = [("Content-Type", attempt.type)] + (attempt.encoding.map { [("Content-Encoding", $0)] } ?? [])
                var request = HTTPClientRequest(url: base + attempt.path, method: "POST", headers: headers, body: attempt.body)
                request.timeoutMillis = 120_000
                let answer = try client.perform(request)
                return (place, answer.status, String(decoding: answer.body.prefix(300), as: UTF8.self), answer.header("retry-after"))
            }
        }
        for (place, status, text, retryAfter) in answers.joined() {
            let attempt = attempts[place]
            let isBusy = status == 429 || status == 503
            XCTAssertTrue(attempt.statuses.contains(status) || isBusy, "\(place) \(attempt.path) \(attempt.encoding ?? ""): \(status) \(text)")
            if isBusy {
                XCTAssertNotNil(retryAfter, text)
                XCTAssertTrue(text.contains("memory"), text)
            }
        }
    }

    /// Every door that takes a body in any compression, with the types it takes.
    private static let doors = [
        ("/insert/jsonline", "application/json"), ("/api/v1/write", "application/x-protobuf"), ("/loki/api/v1/push", "application/json"),
        ("/v1/metrics", "application/x-protobuf"), ("/v1/metrics", "application/json"), ("/v1/logs", "application/x-protobuf"),
        ("/v1/logs", "application/json"),
        ("/v1/traces", "application/x-protobuf"), ("/v1/traces", "application/json"),
    ]

    /// Ten gigabytes of zeros as one gzip member, right to its last byte. Not by compressing them all: a piece that ends at a byte and refers to nothing before
    /// it means the same wherever it stands.
    private func tenGigabytes() throws -> [UInt8] {
        let zeros = [UInt8](repeating: 0, count: 16 << 20)
        var piece = [UInt8](repeating: 0, count: 1 << 20)
        var stream = z_stream()
        XCTAssertEqual(obs_deflate_init(&stream, 9, -15), Z_OK)
        zeros.withUnsafeBufferPointer { input in
            piece.withUnsafeMutableBufferPointer { output in
                stream.next_in = UnsafeMutablePointer(mutating: input.baseAddress)
                stream.avail_in = uInt(input.count)
                stream.next_out = output.baseAddress
                stream.avail_out = uInt(output.count)
                XCTAssertEqual(deflate(&stream, Z_FULL_FLUSH), Z_OK)
            }
        }
        piece.removeLast(Int(stream.avail_out))
        deflateEnd(&stream)
        let checksum = zeros.withUnsafeBufferPointer { crc32(0, $0.baseAddress, uInt($0.count)) }
        var bytes: [UInt8] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]
        var whole: UInt = 0
        for _ in 0..<640 {
            bytes += piece
            whole = crc32_combine(whole, checksum, zeros.count)
        }
        bytes += [1, 0, 0, 0xff, 0xff]
        withUnsafeBytes(of: (UInt32(truncatingIfNeeded: whole).littleEndian, UInt32(truncatingIfNeeded: 640 * zeros.count).littleEndian)) { bytes += $0 }
        return bytes
    }

    /// At every door: refused by its length where bodies are smaller; where it fits, by what it inflates to, long before ten gigabytes.
    func testTenGigabytesInOneMember() throws {
        let bomb = try tenGigabytes()
        XCTAssertTrue((9 << 20...12 << 20).contains(bomb.count), "\(bomb.count)")
        let attempts = Self.doors.map { Attempt(path: $0.0, type: $0.1, encoding: "gzip", body: bomb, statuses: [413]) }
        // Loki's protobuf is snappy, whatever its header says.
        let snappy = Attempt(path: "/loki/api/v1/push", type: "application/x-protobuf", encoding: "gzip", body: bomb, statuses: [400, 413])
        try send(attempts + [snappy], connections: 2)
        XCTAssertLessThan(try peakBytes(), Self.ceilingBytes)

        let larger = try ObsdProcess(data: folder.path + "/larger", ["--memory", "512MB"])
        try send(attempts + [snappy], connections: 4, to: larger)
        let client = HTTPClient()
        for attempt in attempts {
            let headers = [("Content-Type", attempt.type), ("Content-Encoding", "gzip")]
            let answer = try client.perform(HTTPClientRequest(url: "http://\(larger.http)\(attempt.path)", method: "POST", headers: headers, body: bomb))
            XCTAssertEqual(answer.status, 413, attempt.path)
            XCTAssertTrue(String(decoding: answer.body, as: UTF8.self).contains("decompressed body is larger than"), "\(attempt.path): inflated, not weighed")
        }
        XCTAssertLessThan(try peakBytes(larger), 512 << 20)
        XCTAssertEqual(larger.stop(), 0)

        // And where no length is told.
        let file = folder.path + "/bomb.gz"
        try Data(bomb).write(to: URL(fileURLWithPath: file))
        for (path, type) in Self.doors {
            let run = try Run(
                "/usr/bin/curl",
                [
                    "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: \(type)", "-H", "Content-Encoding: gzip", "-H",
                    "Transfer-Encoding: chunked", "--data-binary", "@\(file)", "http://\(obsd.http)\(path)",
                ])
            XCTAssertTrue(run.output.hasSuffix("413"), "\(path): \(run.output) \(run.errors)")
        }
        XCTAssertLessThan(try peakBytes(), Self.ceilingBytes)
    }

    func testBombsAndGiants() throws {
        let json = "application/json"
        let protobuf = "application/x-protobuf"
        // Five gigabytes of zeros; ten are more as sent than a body may have here, and refused by their length.
        let member = gzipCompress([UInt8](repeating: 0, count: 16 << 20))
        let gzip = (0..<300).reduce(into: [UInt8]()) { all, _ in all += member }
        // Frames that say nothing of their size, and say too much.
        let zstd = [UInt8](repeating: 0, count: 1 << 20)
        let zstdBomb = (0..<1000).reduce(into: [UInt8]()) { all, _ in all += zstdCompress(zstd, level: 1) }
        let snappyBomb = snappyCompress([UInt8](repeating: 0, count: 100 << 20))
        let forged: [UInt8] = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00]
        let labels = (0..<10_000).map { "\"l\($0)\":\"v\($0)\"" }.joined(separator: ",")
        let now = Int(Date().timeIntervalSince1970 * 1e9)
        let manyLabels = Array("{\"streams\":[{\"stream\":{\(labels)},\"values\":[[\"\(now)\",\"x\"]]}]}".utf8)
        let longValue = Array(
            "{\"streams\":[{\"stream\":{\"a\":\"\(String(repeating: "x", count: 1 << 20))\"},\"values\":[[\"\(now)\",\"x\"]]}]}".utf8)
        func series(_ labels: [(String, String)]) -> [UInt8] {
            var writer = ProtobufWriter()
            writer.message(1) { series in
                for (name, value) in [("__name__", "m")] + labels {
                    series.message(1) { label in
                        label.string(1, name)
                        label.string(2, value)
                    }
                }
                series.message(2) { sample in
                    sample.double(1, 1)
                    sample.int(2, Int64(now / 1_000_000))
                }
            }
            return snappyCompress(writer.bytes)
        }
        func gauge(_ attributes: [(String, String)]) -> [UInt8] {
            let list = attributes.map { #"{"key":"\#($0.0)","value":{"stringValue":"\#($0.1)"}}"# }.joined(separator: ",")
            let point = #"{"timeUnixNano":"\#(now)","asDouble":1,"attributes":[\#(list)]}"#
            return Array(#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[\#(point)]}}]}]}]}"#.utf8)
        }
        let tenThousand = (0..<10_000).map { ("l\($0)", "v\($0)") }
        let megabyte = [("long", String(repeating: "x", count: 1 << 20))]
        // Small values in brackets: the most a parser can make of a byte.
        let brackets = Array(("{\"streams\":[" + String(repeating: "{},", count: 150_000) + "{}]}").utf8)
        let attempts = [
            Attempt(path: "/insert/jsonline", type: json, encoding: "gzip", body: gzip, statuses: [413]),
            Attempt(path: "/api/v1/write", type: protobuf, encoding: "gzip", body: gzip, statuses: [413]),
            Attempt(path: "/v1/traces", type: protobuf, encoding: "zstd", body: zstdBomb, statuses: [413]),
            Attempt(path: "/api/v1/write", type: protobuf, encoding: "snappy", body: snappyBomb, statuses: [413]),
            Attempt(path: "/api/v1/write", type: protobuf, encoding: "snappy", body: forged, statuses: [413]),
            Attempt(path: "/loki/api/v1/push", type: protobuf, encoding: nil, body: forged, statuses: [413]),
            Attempt(path: "/loki/api/v1/push", type: json, encoding: nil, body: manyLabels, statuses: [400]),
            Attempt(path: "/loki/api/v1/push", type: json, encoding: nil, body: longValue, statuses: [400]),
            Attempt(path: "/api/v1/write", type: protobuf, encoding: "snappy", body: series(megabyte), statuses: [400]),
            Attempt(path: "/api/v1/write", type: protobuf, encoding: "snappy", body: series(tenThousand), statuses: [400]),
            // OTLP's way to refuse a point: 200 and a partial success that says why.
            Attempt(path: "/v1/metrics", type: json, encoding: nil, body: gauge(megabyte), statuses: [200]),
            Attempt(path: "/v1/metrics", type: json, encoding: nil, body: gauge(tenThousand), statuses: [200]),
            Attempt(path: "/loki/api/v1/push", type: json, encoding: nil, body: brackets, statuses: [400, 413, 422]),
            Attempt(path: "/loki/api/v1/push", type: json, encoding: "gzip", body: gzipCompress(brackets), statuses: [400, 413, 422]),
        ]
        try send(attempts, connections: 4)
        for (path, type) in Self.doors {
            for length in ["1000000000", "9000000000000000000"] {
                let run = try Run(
                    "/usr/bin/curl",
                    [
                        "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: \(type)", "-H", "Content-Length: \(length)", "-d", "{}",
                        "http://\(obsd.http)\(path)",
                    ])
                XCTAssertEqual(run.output, "413", run.errors)
            }
        }
        XCTAssertNil(try obsd.value("count(m)"), "nothing of the giants was kept")
        XCTAssertLessThan(try peakBytes(), Self.ceilingBytes)
        XCTAssertEqual(try eventually(seconds: 20, { try used("ingest") }, until: { $0 == 0 }), 0)
        // And it is of use still.
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", #"{"app":"after","msg":"still here"}"#).status, 200)
        XCTAssertEqual(try obsd.logLines(#"{app="after"}"#).count, 1)
    }

    /// One body of remote write: many series, each with samples of the last hours.
    private func samples(part: Int, series count: Int, samples: Int) -> [UInt8] {
        let now = Int64(Date().timeIntervalSince1970 * 1000)
        var writer = ProtobufWriter()
        for index in 0..<count {
            writer.message(1) { series in
                for (name, value) in [("__name__", "heavy"), ("part", "\(part)"), ("index", "\(index)")] {
                    series.message(1) { label in
                        label.string(1, name)
                        label.string(2, value)
                    }
                }
                for sample in 0..<samples {
                    series.message(2) { one in
                        one.double(1, Double(sample * 7 % 101))
                        one.int(2, now - Int64((samples - sample) * 1000))
                    }
                }
            }
        }
        return snappyCompress(writer.bytes)
    }

    func testHeavyQueriesAreRefusedByName() throws {
        for part in 0..<60 {
            let body = samples(part: part, series: 50, samples: 1000)
            let answer = try eventually {
                try obsd.post("/api/v1/write", body, type: "application/x-protobuf", headers: [("Content-Encoding", "snappy")])
            } until: {
                $0.status == 204
            }
            XCTAssertEqual(answer.status, 204, String(decoding: answer.body, as: UTF8.self))
        }
        // All samples of all series: 48 MB in memory; their text would leave in pieces.
        let all = [("query", #"{__name__=~".+"}[3h]"#)]
        let url = "http://\(obsd.http)/api/v1/query?query=\(percentEncode(all[0].1))"
        let answers = try atOnce(4) { _ in try HTTPClient().perform(HTTPClientRequest(url: url)) }
        for answer in answers {
            let text = String(decoding: answer.body.prefix(400), as: UTF8.self)
            XCTAssertTrue([422, 503].contains(answer.status), "\(answer.status) \(text)")
            XCTAssertTrue(text.contains("268435456"), text)
        }
        let answer = try obsd.get("/api/v1/query", all)
        XCTAssertEqual(answer.status, 422)
        let tree = try JSONTree(answer.body)
        XCTAssertEqual(tree["errorType"].text, "execution")
        XCTAssertTrue(tree["error"].text.contains("more than 39321600 (query.max-bytes, a share of memory, 268435456 bytes)"), tree["error"].text)
        XCTAssertLessThan(try peakBytes(), Self.ceilingBytes)
        // A query ends a moment after its answer is sent.
        XCTAssertEqual(
            try eventually {
                try used("queries")
            } until: {
                $0 == 0
            }, 0)
        // The same data a series at a time is no burden.
        XCTAssertEqual(try obsd.value(#"sum(count_over_time({__name__="heavy"}[3h]))"#), 3_000_000)
        let refusals = String(decoding: try obsd.get("/metrics").body, as: UTF8.self).split(separator: "\n")
            .first { $0.hasPrefix("obsd_memory_refusals_total{account=\"queries\"}") }
        XCTAssertGreaterThanOrEqual(refusals?.split(separator: " ").last.flatMap { Double($0) } ?? 0, 5)
    }

    func testTheSettingItself() throws {
        let page = String(decoding: try obsd.get("/metrics").body, as: UTF8.self)
        XCTAssertTrue(page.contains("obsd_memory_limit_bytes 268435456"), page)
        func start(_ arguments: [String]) throws -> Run { try Run(Place.obsd, ["check"] + arguments) }
        XCTAssertEqual(try start(["--memory", "64MiB"]).status, 0)
        for (value, reason) in [
            ("10MB", #"flag --memory: "10MB" is less than 64 MiB, the least obsd works with"#), ("much", "is no size; write one like 512MB or 2TB"),
            ("8000PB", "is more than any machine has"),
        ] {
            let run = try start(["--memory", value])
            XCTAssertEqual(run.status, 2, value)
            XCTAssertTrue(run.errors.contains(reason), run.errors)
        }
        let small = try folder.write("small.yml", "obsd:\n  memory: 1MB\n")
        let run = try start(["--config", small])
        XCTAssertEqual(run.status, 2)
        XCTAssertTrue(run.errors.contains("obsd.memory of 1048576 bytes is less than 64 MiB"), run.errors)
        XCTAssertEqual(try start(["--config", small, "--memory", "1GB"]).status, 0)
        XCTAssertEqual(try start(["--config", try folder.write("fine.yml", "obsd:\n  memory: 512MB\n")]).status, 0)
    }
}
