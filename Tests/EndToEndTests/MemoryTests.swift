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
    private func peakBytes() throws -> Int {
        let status = try String(contentsOfFile: "/proc/\(obsd.processID)/status", encoding: .utf8)
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

    private func send(_ attempts: [Attempt], connections: Int) throws {
        let base = "http://\(obsd.http)"
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
        var series = ProtobufWriter()
        series.message(1) { series in
            for (name, value) in [("__name__", "m"), ("long", String(repeating: "x", count: 1 << 20))] {
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
            Attempt(path: "/api/v1/write", type: protobuf, encoding: "snappy", body: snappyCompress(series.bytes), statuses: [400]),
            Attempt(path: "/loki/api/v1/push", type: json, encoding: nil, body: brackets, statuses: [400, 413, 422]),
            Attempt(path: "/loki/api/v1/push", type: json, encoding: "gzip", body: gzipCompress(brackets), statuses: [400, 413, 422]),
        ]
        try send(attempts, connections: 4)
        for length in ["1000000000", "9000000000000000000"] {
            let run = try Run(
                "/usr/bin/curl",
                [
                    "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Content-Type: application/json", "-H", "Content-Length: \(length)", "-d", "{}",
                    "http://\(obsd.http)/insert/jsonline",
                ])
            XCTAssertEqual(run.output, "413", run.errors)
        }
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
        for part in 0..<40 {
            let body = samples(part: part, series: 50, samples: 1000)
            let answer = try eventually {
                try obsd.post("/api/v1/write", body, type: "application/x-protobuf", headers: [("Content-Encoding", "snappy")])
            } until: {
                $0.status == 204
            }
            XCTAssertEqual(answer.status, 204, String(decoding: answer.body, as: UTF8.self))
        }
        // All samples of all series: 32 MB in memory and again as text.
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
        XCTAssertEqual(try obsd.value(#"sum(count_over_time({__name__="heavy"}[3h]))"#), 2_000_000)
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
