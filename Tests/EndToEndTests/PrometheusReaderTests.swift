import Foundation
import ObsCompress
import ObsCore
import ObsNet
import ObsTestSupport
import ObsWire
import XCTest

/// Debian's Prometheus reads from obsd what was written to it: by remote read, and by federation. What it answers over that must be what obsd answers.
final class PrometheusReaderTests: XCTestCase {
    private let client = HTTPClient()

    /// Samples of the last half hour, every 15 s and some milliseconds, among them what is special.
    private struct Samples {
        /// Milliseconds of the newest ones.
        let end: Int64
        var series: [(labels: Labels, times: [Int64], values: [Double])] = []

        /// - Parameter withinOneBlock: Prometheus cuts its chunks every two hours; then none is cut there.
        init(withinOneBlock: Bool = false) {
            let now = Int64(Date().timeIntervalSince1970) * 1000 - 5123
            let border = now / 7_200_000 * 7_200_000
            end = withinOneBlock && now - border < 1_900_000 ? border - 1000 : now
            var random = SplitMix(state: 3)
            for number in 0..<12 {
                let name = number < 8 ? "requests_total" : "temperature"
                let labels = Labels([("__name__", name), ("instance", "host-\(number)"), ("job", "ä \"b\""), ("zone", "z\(number % 3)")])
                var times: [Int64] = []
                var values: [Double] = []
                var total = 0.0
                for step in (0..<120).reversed() {
                    times.append(end - Int64(step) * 15_000 - Int64(random.next() % 700))
                    total += Double(random.next() % 1000) / 8
                    if number == 2, step == 60 { total = 0 }
                    values.append(name == "temperature" ? Double(random.next() % 4000) / 100 - 20 : total)
                }
                switch number {
                case 8: values.replaceSubrange(10..<14, with: [.infinity, -.infinity, .nan, 0])
                case 9: values[119] = SpecialValue.stale
                case 10: values[60] = SpecialValue.stale
                default: break
                }
                series.append((labels, times, values))
            }
        }

        var writeRequest: [UInt8] {
            var writer = ProtobufWriter()
            for one in series { writer.timeSeries(1, one.labels, times: one.times, values: one.values) }
            return snappyCompress(writer.bytes)
        }
    }

    private func ask(_ address: String, _ path: String, _ parameters: [(String, String)]) throws -> JSONTree {
        let query = parameters.map { "\($0.0)=\(percentEncode($0.1))" }.joined(separator: "&")
        // A server that still starts refuses the connection, or answers 503 in plain text.
        guard let answer = try? client.perform(HTTPClientRequest(url: "http://\(address)\(path)?\(query)")), answer.status != 503 else {
            return JSONTree(nil)
        }
        return try JSONTree(answer.body)
    }

    private func prometheus(_ folder: TemporaryFolder, _ name: String, _ config: String, _ flags: [String] = []) throws -> (Background, String) {
        let address = "127.0.0.1:\(freePort())"
        let file = try folder.write("\(name).yml", config)
        let server = try Background(
            Place.debian("usr/bin/prometheus"),
            ["--config.file=\(file)", "--storage.tsdb.path=\(folder.path)/\(name)", "--web.listen-address=\(address)", "--log.level=warn"] + flags,
            log: "\(folder.path)/\(name).log")
        XCTAssertTrue(try eventually({ try ask(address, "/api/v1/query", [("query", "1")])["status"].text }, until: { $0 == "success" }) == "success")
        return (server, address)
    }

    /// Rows as texts, numbers to twelve digits: versions differ in how they add up.
    private func rounded(_ result: JSONTree) -> [String] {
        func text(_ points: [JSONTree]) -> String {
            points.map { "\($0[0].number) \(["NaN", "+Inf", "-Inf"].contains($0[1].text) ? $0[1].text : String(format: "%.12g", $0[1].number))" }.joined(
                separator: ",")
        }
        return result.list.map { "\($0["metric"]) \($0["value"].exists ? text([$0["value"]]) : text($0["values"].list))" }.sorted()
    }

    private func seconds(_ millis: Int64) -> String { String(format: "%.3f", Double(millis) / 1000) }

    func testRemoteRead() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let samples = Samples()
        XCTAssertEqual(try obsd.post("/api/v1/write", samples.writeRequest, type: "application/x-protobuf").status, 204)
        let (reader, theirs) = try prometheus(folder, "reader", "remote_read: [{url: 'http://\(obsd.http)/api/v1/read', read_recent: true}]")
        // Half of it from segments, half from memory is not needed: both are asked.
        for isFlushed in [false, true] {
            if isFlushed { XCTAssertEqual(try obsd.post("/-/flush", "").status, 200) }
            for expression in [
                "requests_total", "temperature", "sum by (zone) (rate(requests_total[2m]))", #"{job="ä \"b\"",zone!="z0"}"#, "count({__name__=~\"re.*\"})",
                "max_over_time(temperature[10m])", "requests_total offset 7m", #"requests_total{instance=~"host-[1-3]"}[5m]"#, "nothing",
                "avg_over_time(temperature{instance!=\"host-8\"}[29m])", "resets(requests_total[20m])", "quantile by (zone) (0.9, temperature)",
            ] {
                for time in [samples.end + 777, samples.end - 300_411, samples.end - 1_500_777] {
                    let parameters = [("query", expression), ("time", seconds(time))]
                    let wanted = rounded(try ask(obsd.http, "/api/v1/query", parameters)["data"]["result"])
                    let found = rounded(try ask(theirs, "/api/v1/query", parameters)["data"]["result"])
                    XCTAssertEqual(found, wanted, "\(expression) at \(time)")
                    if time == samples.end + 777, expression != "nothing" { XCTAssertFalse(wanted.isEmpty, expression) }
                }
            }
            let range = [("start", seconds(samples.end - 1_000_333)), ("end", seconds(samples.end + 99)), ("step", "33.7")]
            for expression in ["rate(requests_total[1m7s])", "temperature", "sum(requests_total) by (zone) / 3"] {
                let parameters = [("query", expression)] + range
                let wanted = rounded(try ask(obsd.http, "/api/v1/query_range", parameters)["data"]["result"])
                XCTAssertFalse(wanted.isEmpty, expression)
                XCTAssertEqual(rounded(try ask(theirs, "/api/v1/query_range", parameters)["data"]["result"]), wanted, expression)
            }
        }
        withExtendedLifetime(reader) {}
    }

    /// The same request of both: the same chunks.
    func testStreamedChunksAreTheirs() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let samples = Samples(withinOneBlock: true)
        let (server, theirs) = try prometheus(folder, "writer", "", ["--web.enable-remote-write-receiver"])
        for address in [obsd.http, theirs] {
            let headers = [(name: "Content-Type", value: "application/x-protobuf"), (name: "Content-Encoding", value: "snappy")]
            XCTAssertEqual(
                try client.perform(
                    HTTPClientRequest(url: "http://\(address)/api/v1/write", method: "POST", headers: headers, body: samples.writeRequest)
                ).status, 204)
        }
        func read(_ address: String, start: Int64, _ accepted: UInt64) throws -> HTTPClientResponse {
            var writer = ProtobufWriter()
            for name in ["requests_total", "temperature"] {
                writer.message(1) { query in
                    query.int(1, start)
                    query.int(2, samples.end)
                    query.message(3) {
                        $0.varint(1, 0)
                        $0.string(2, "__name__")
                        $0.string(3, name)
                    }
                }
            }
            writer.varint(2, accepted)
            let headers = [(name: "Content-Type", value: "application/x-protobuf"), (name: "Content-Encoding", value: "snappy")]
            return try client.perform(
                HTTPClientRequest(url: "http://\(address)/api/v1/read", method: "POST", headers: headers, body: snappyCompress(writer.bytes)))
        }
        for start in [0, samples.end - 600_000] {
            let wanted = try read(theirs, start: start, 1)
            let found = try read(obsd.http, start: start, 1)
            XCTAssertEqual(found.status, 200)
            XCTAssertEqual(found.header("content-type"), wanted.header("content-type"))
            XCTAssertEqual(chunks(found.body, from: start), chunks(wanted.body, from: start))
            XCTAssertEqual(chunks(found.body, from: start).count, 12)
            let block = try blockSeries(try read(obsd.http, start: start, 0).body)
            XCTAssertEqual(block, try blockSeries(try read(theirs, start: start, 0).body))
            XCTAssertEqual(block.map(\.count), [8, 4])
        }
        // A whole chunk, bit for bit.
        XCTAssertEqual(firstChunk(try read(obsd.http, start: 0, 1).body), firstChunk(try read(theirs, start: 0, 1).body))
        withExtendedLifetime(server) {}
    }

    /// Chunks of each series, labels first, one text each: times and bits of the samples from `start` on.
    private func chunks(_ body: [UInt8], from start: Int64) -> [String: [String]] {
        var found: [String: [String]] = [:]
        forEachChunk(body) { labels, data in
            var reader = ChunkReader(data)
            let samples = reader.samples()
            for (time, value) in zip(samples.times, samples.values) where time >= start {
                found[labels, default: []].append("\(time) \(value.bitPattern)")
            }
        }
        return found
    }

    /// The `TimeSeries` messages of each result of a block, in no order that Prometheus promises.
    private func blockSeries(_ body: [UInt8]) throws -> [Set<[UInt8]>] {
        try decompress(body, .snappy, decodedBytesMax: 1 << 24).withUnsafeBytes { bytes in
            var results: [Set<[UInt8]>] = []
            var reader = ProtobufReader(bytes)
            while reader.next() {
                var result = reader.message()
                var series: Set<[UInt8]> = []
                while result.next() { series.insert(Array(result.bytes())) }
                results.append(series)
            }
            return results
        }
    }

    private func firstChunk(_ body: [UInt8]) -> [UInt8] {
        var first: [UInt8] = []
        forEachChunk(body) { _, data in if first.isEmpty { first = data } }
        XCTAssertGreaterThan(first.count, 100)
        return first
    }

    private func forEachChunk(_ body: [UInt8], _ use: (String, [UInt8]) -> Void) {
        body.withUnsafeBytes { bytes in
            var at = 0
            while at < bytes.count, let length = readVarint(bytes, &at) {
                var reader = ProtobufReader(UnsafeRawBufferPointer(rebasing: bytes[at + 4..<at + 4 + Int(length)]))
                at += 4 + Int(length)
                while reader.next() {
                    guard reader.tag.number == 1 else {
                        reader.skip()
                        continue
                    }
                    var series = reader.message()
                    var labels = ""
                    while series.next() {
                        var part = series.message()
                        while part.next() {
                            switch (series.tag.number, part.tag.wireType) {
                            case (1, .length): labels += String(decoding: part.bytes(), as: UTF8.self) + " "
                            case (2, .length): use(labels, Array(part.bytes()))
                            default: part.skip()
                            }
                        }
                    }
                }
            }
        }
    }

    func testFederation() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let samples = Samples()
        XCTAssertEqual(try obsd.post("/api/v1/write", samples.writeRequest, type: "application/x-protobuf").status, 204)
        let (server, theirs) = try prometheus(
            folder, "federating",
            """
            global: {scrape_interval: 1s, scrape_timeout: 1s}
            scrape_configs:
              - job_name: federate
                honor_labels: true
                metrics_path: /federate
                params: {'match[]': ['requests_total', '{__name__="temperature",zone!="z9"}']}
                static_configs: [{targets: ['\(obsd.http)']}]
            """)
        XCTAssertEqual(
            try eventually(
                { try ask(theirs, "/api/v1/query", [("query", "count(requests_total)")])["data"]["result"][0]["value"][1].number }, until: { $0 == 8 }), 8)
        for name in ["requests_total", "temperature"] {
            let parameters = [("query", "\(name)"), ("time", seconds(samples.end + 1000))]
            func series(_ address: String) throws -> [String] {
                try ask(address, "/api/v1/query", parameters)["data"]["result"].list.map(\.description).sorted()
            }
            let wanted = try series(obsd.http)
            // One of the temperatures has ended.
            XCTAssertEqual(wanted.count, name == "requests_total" ? 8 : 3)
            XCTAssertEqual(try series(theirs), wanted)
        }
        let stamps = [("query", "timestamp(requests_total)")]
        XCTAssertEqual(
            try ask(theirs, "/api/v1/query", stamps)["data"]["result"].list.map { $0["value"][1].text }.sorted(),
            samples.series.prefix(8).map { seconds($0.times[119]) }.map { formatSampleValue(Double($0) ?? 0) }.sorted())
        XCTAssertEqual(try ask(theirs, "/api/v1/targets", [])["data"]["activeTargets"][0]["health"].text, "up")
        withExtendedLifetime(server) {}
    }
}
