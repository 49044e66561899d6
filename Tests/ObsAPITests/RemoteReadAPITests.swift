import ObsCompress
import ObsCore
import ObsHash
import ObsTestSupport
import ObsNet
import ObsWire
import XCTest

@testable import ObsAPI

final class RemoteReadAPITests: XCTestCase {
    private func filled() throws -> API {
        let api = try API()
        for (seconds, value) in [(1_699_999_940.0, 0.5), (1_699_999_970, 1), (1_700_000_000, 2)] {
            api.write([([("__name__", "up"), ("job", "a")], seconds, value), ([("__name__", "up"), ("job", "b")], seconds, -value)])
        }
        return api
    }

    private func request(_ queries: [(start: Int64, end: Int64, matchers: [(UInt64, String, String)])], accepted: [UInt64]) -> [UInt8] {
        var writer = ProtobufWriter()
        for query in queries {
            writer.message(1) { message in
                message.int(1, query.start)
                message.int(2, query.end)
                for (type, name, value) in query.matchers {
                    message.message(3) {
                        $0.varint(1, type)
                        $0.string(2, name)
                        $0.string(3, value)
                    }
                }
            }
        }
        for type in accepted { writer.varint(2, type) }
        return snappyCompress(writer.bytes)
    }

    private func read(_ api: API, _ body: [UInt8]) -> (status: Int, type: String, body: [UInt8]) {
        let answer = api.send("POST", "/api/v1/read", [("Content-Type", "application/x-protobuf"), ("Content-Encoding", "snappy")], body: body)
        return (answer.status, answer.type ?? "", answer.body)
    }

    /// Labels, times and values, one text a series.
    private func series(_ reader: inout ProtobufReader, chunked: Bool) -> String {
        var message = reader.message()
        var labels: [String] = []
        var samples: [String] = []
        while message.next() {
            var part = message.message()
            var texts: [Int: String] = [:]
            var data: [UInt8] = []
            while part.next() {
                switch (part.tag.number, part.tag.wireType) {
                case (1, .length): texts[1] = String(decoding: part.bytes(), as: UTF8.self)
                case (2, .length): texts[2] = String(decoding: part.bytes(), as: UTF8.self)
                case (1, .fixed64): texts[1] = "\(part.double())"
                case (4, .length): data = Array(part.bytes())
                default: texts[Int(part.tag.number)] = "\(part.varint())"
                }
            }
            if message.tag.number == 1 {
                labels.append("\(texts[1] ?? "")=\(texts[2] ?? "")")
            } else if chunked {
                XCTAssertEqual(texts[3], "1")
                var chunk = ChunkReader(data)
                let found = chunk.samples()
                XCTAssertEqual(texts[1], "\(found.times[0])")
                XCTAssertEqual(texts[2], "\(found.times[found.times.count - 1])")
                samples += zip(found.times, found.values).map { "\($1)@\($0)" }
            } else {
                samples.append("\(texts[1] ?? "")@\(texts[2] ?? "")")
            }
        }
        return "\(labels.joined(separator: ",")) \(samples.joined(separator: " "))"
    }

    private func results(_ body: [UInt8]) throws -> [[String]] {
        let plain = try decompress(body, .snappy, decodedBytesMax: 1 << 20)
        return plain.withUnsafeBytes { bytes in
            var reader = ProtobufReader(bytes)
            var results: [[String]] = []
            while reader.next() {
                var result = reader.message()
                var found: [String] = []
                while result.next() { found.append(series(&result, chunked: false)) }
                results.append(found)
            }
            XCTAssertFalse(reader.failed)
            return results
        }
    }

    /// Index of the query and series of each frame.
    private func frames(_ body: [UInt8]) -> [(Int, String)] {
        var frames: [(Int, String)] = []
        body.withUnsafeBytes { bytes in
            var at = 0
            while at < bytes.count {
                guard let length = readVarint(bytes, &at) else { return XCTFail("no length") }
                let sum = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt32.self))
                let frame = UnsafeRawBufferPointer(rebasing: bytes[at + 4..<at + 4 + Int(length)])
                XCTAssertEqual(crc32c(frame), sum)
                at += 4 + Int(length)
                var reader = ProtobufReader(frame)
                var one = (0, "")
                while reader.next() {
                    if reader.tag.number == 1 { one.1 = series(&reader, chunked: true) } else { one.0 = Int(reader.varint()) }
                }
                frames.append(one)
            }
        }
        return frames
    }

    private let all: (Int64, Int64, [(UInt64, String, String)]) = (1_699_999_970_000, 1_700_000_000_000, [(0, "__name__", "up")])
    private let a = "__name__=up,job=a 1.0@1699999970000 2.0@1700000000000"
    private let b = "__name__=up,job=b -1.0@1699999970000 -2.0@1700000000000"

    func testSamples() throws {
        let api = try filled()
        for accepted in [[], [0], [0, 1], [7, 0]] as [[UInt64]] {
            let answer = read(api, request([all, (0, 1, all.2), (1_700_000_000_000, 0, all.2), (0, all.1, [(3, "job", "b|c")])], accepted: accepted))
            XCTAssertEqual(answer.status, 200)
            XCTAssertEqual(answer.type, "application/x-protobuf")
            XCTAssertEqual(
                try results(answer.body), [[a, b], [], [], ["__name__=up,job=a 0.5@1699999940000 1.0@1699999970000 2.0@1700000000000"]])
        }
        XCTAssertEqual(try results(read(api, request([], accepted: [])).body), [])
    }

    func testChunks() throws {
        let api = try filled()
        let answer = read(api, request([all, (0, 1, all.2), (0, .max, [(0, "job", "b"), (1, "__name__", "down")])], accepted: [1, 0]))
        XCTAssertEqual(answer.status, 200)
        XCTAssertEqual(answer.type, "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse")
        let frames = frames(answer.body)
        XCTAssertEqual(frames.map(\.0), [0, 0, 2])
        XCTAssertEqual(frames.map(\.1), [a, b, "__name__=up,job=b -0.5@1699999940000 -1.0@1699999970000 -2.0@1700000000000"])
    }

    func testExternalLabels() throws {
        let api = try filled(externalLabels: Labels([("job", "mine"), ("region", "eu")]))
        let answer = read(api, request([(all.0, all.1, [(0, "region", "eu"), (0, "__name__", "up"), (2, "job", "a")])], accepted: []))
        XCTAssertEqual(try results(answer.body), [["__name__=up,job=a,region=eu 1.0@1699999970000 2.0@1700000000000"]])
        XCTAssertEqual(try results(read(api, request([(all.0, all.1, [(0, "region", "us")])], accepted: [])).body), [[]])
    }

    private func filled(externalLabels: Labels) throws -> API {
        let api = try API(externalLabels: externalLabels)
        for (seconds, value) in [(1_699_999_940.0, 0.5), (1_699_999_970, 1), (1_700_000_000, 2)] {
            api.write([([("__name__", "up"), ("job", "a")], seconds, value)])
        }
        return api
    }

    func testWhatIsRefused() throws {
        let api = try filled()
        func check(_ body: [UInt8], _ text: String, line: UInt = #line) {
            let answer = read(api, body)
            XCTAssertEqual(answer.status, 400, line: line)
            XCTAssertTrue(String(decoding: answer.body, as: UTF8.self).contains(text), String(decoding: answer.body, as: UTF8.self), line: line)
        }
        check([1, 2, 3], "snappy")
        check(snappyCompress([0x0a, 0xff]), "malformed")
        check(request([all], accepted: [5]), "response types")
        check(request([(0, 1, [(9, "a", "b")])], accepted: []), "invalid matcher type 9")
        check(request([(0, 1, [(2, "a", "(")])], accepted: []), "missing")
        XCTAssertEqual(api.get("/api/v1/read").status, 405)
    }
}
