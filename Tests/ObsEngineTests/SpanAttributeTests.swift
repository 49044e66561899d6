import ObsCore
import ObsDisk
import ObsEngine
import ObsStore
import ObsTestSupport
import XCTest

/// Conditions on attributes of spans and of their resources, of heads and of segments.
final class SpanAttributeTests: EngineTestCase {
    func testAttributes() throws {
        let engine = try open(makeRoot(), MemoryFileSystem()) { $0.maintainsItself = false }
        defer { engine.close() }
        let model = InMemoryStore()
        var rows: [(trace: UInt64, span: UInt64, service: String, name: String, start: Int64, duration: Int64)] = []
        for row in 0..<600 { rows.append((UInt64(row / 3 + 1), UInt64(row + 1), "s\(row % 4)", "n", Int64(row), 10)) }
        var batch = spanBatch(rows)
        for resource in batch.resources.indices {
            var list: [UInt8] = []
            list.appendAttribute("zone".utf8, .string("z\(resource % 2)"))
            batch.resources[resource] = batch.bytes.intern(list)
        }
        for row in 0..<batch.count {
            var list: [UInt8] = []
            list.appendAttribute("http.url".utf8, .string("/users/\(row % 50)"))
            if row % 2 == 0 { list.appendAttribute("status".utf8, .int(Int64(200 + row % 7 * 50))) }
            if row % 5 == 0 { list.appendAttribute("ratio".utf8, .double(Double(row) / 8)) }
            batch.attributes[row] = batch.bytes.intern(list)
        }
        _ = try engine.appendAndWait(batch, origin: origin())
        model.append(batch, origin: try origin()) { _ in }
        let conditions: [(Int, [SpanAttributeFilter])] = [
            (12, [SpanAttributeFilter(.span, "http.url", .compares(.equal, .text(Array("/users/7".utf8))))]),
            (0, [SpanAttributeFilter(.span, "http.url", .compares(.equal, .text(Array("/users".utf8))))]),
            (-1, [SpanAttributeFilter(.span, "status", .compares(.greaterOrEqual, .number(.integer(500))))]),
            (300, [SpanAttributeFilter(.span, "status", .exists, isNegated: true)]),
            (1, [SpanAttributeFilter(.span, "ratio", .compares(.less, .number(.double(0.5))))]),
            (-1, [SpanAttributeFilter(.resource, "zone", .compares(.equal, .text(Array("z1".utf8))))]),
            (0, [SpanAttributeFilter(.resource, "http.url", .exists)]),
            (-1, [SpanAttributeFilter(.resource, "zone", .exists), SpanAttributeFilter(.span, "http.url", .holds { $0.count > 8 }, isNegated: true)]),
        ]
        for isFlushed in [false, true] {
            if isFlushed { try engine.flush() }
            for (count, attributes) in conditions {
                let selection = SpanSelection(attributes: attributes)
                let found = try readSpans(engine, selection).rows.map(\.span).sorted()
                XCTAssertEqual(found, try readSpans(model, selection).rows.map(\.span).sorted())
                if count >= 0 { XCTAssertEqual(found.count, count) } else { XCTAssertTrue((1..<600).contains(found.count)) }
            }
        }
    }
}
