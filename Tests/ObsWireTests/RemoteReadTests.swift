import ObsCore
import XCTest

@testable import ObsWire

final class RemoteReadTests: XCTestCase {
    private func request(accepted: [UInt64], packed: Bool = true) -> [UInt8] {
        var writer = ProtobufWriter()
        writer.message(1) {
            $0.int(1, -5)
            $0.int(2, 1_700_000_000_000)
            for (type, name, value) in [(0, "__name__", "up"), (3, "job", "a.*"), (7, "", "")] as [(UInt64, String, String)] {
                $0.message(3) {
                    $0.varint(1, type)
                    $0.string(2, name)
                    $0.string(3, value)
                }
            }
            $0.message(4) { $0.int(1, 15_000) }
        }
        writer.message(1) { _ in }
        if packed {
            writer.message(2) { for type in accepted { $0.packed(varint: type) } }
        } else {
            for type in accepted { writer.varint(2, type) }
        }
        return writer.bytes
    }

    private func parse(_ bytes: [UInt8]) throws -> RemoteReadRequest { try bytes.withUnsafeBytes { try RemoteReadRequest($0) } }

    func testRequests() throws {
        for packed in [true, false] {
            let read = try parse(request(accepted: [9, 1, 0], packed: packed))
            XCTAssertEqual(read.queries.count, 2)
            XCTAssertEqual(read.queries[0].startMillis, -5)
            XCTAssertEqual(read.queries[0].endMillis, 1_700_000_000_000)
            XCTAssertEqual(read.queries[0].matchers.map { "\($0.type) \($0.name) \($0.value)" }, ["0 __name__ up", "3 job a.*", "7  "])
            XCTAssertEqual(try read.responseType(), .streamedChunks)
        }
        XCTAssertEqual(try parse(request(accepted: [])).responseType(), .samples)
        XCTAssertEqual(try parse(request(accepted: [0, 1])).responseType(), .samples)
        XCTAssertThrowsError(try parse(request(accepted: [5])).responseType())
    }

    func testWhatIsNoRequest() {
        XCTAssertThrowsError(try parse([0x0a, 0xff]))
        var many = ProtobufWriter()
        for _ in 0..<RemoteReadRequest.queriesMax + 1 { many.message(1) { _ in } }
        XCTAssertThrowsError(try parse(many.bytes))
        withMutations(of: request(accepted: [0, 1])) { _ = try? parse($0) }
    }

    /// What is written is what remote write reads.
    func testSeriesAreRemoteWritesOwn() throws {
        let labels = Labels([("__name__", "up"), ("job", "é")])
        var writer = ProtobufWriter()
        writer.timeSeries(1, labels, times: [1, 2], values: [0.5, SpecialValue.stale])
        let batch = try PrometheusRemoteWrite.decode(writer.bytes, limits: Limits()).batch
        XCTAssertEqual(batch.series.map { batch.labels(of: $0) }, [labels])
        XCTAssertEqual(batch.timesMillis, [1, 2])
        XCTAssertEqual(batch.values.map(\.bitPattern), [(0.5).bitPattern, SpecialValue.staleBits])
    }
}
