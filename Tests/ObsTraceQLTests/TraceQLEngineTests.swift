import ObsCore
import ObsStore
import ObsTestSupport
import ObsTraceQL
import XCTest

final class TraceQLEngineTests: XCTestCase {
    private lazy var context = QueryContext(tenant: .default)

    private func store() throws -> InMemoryStore {
        let store = InMemoryStore()
        var batch = SpanBatch()
        func list(_ pairs: [(String, AttributeValue)]) -> [UInt8] {
            var bytes: [UInt8] = []
            for (key, value) in pairs { bytes.appendAttribute(key.utf8, value) }
            return bytes
        }
        for service in ["front", "back"] {
            batch.resources.append(batch.bytes.intern(list([("service.name", .string(service)), ("pod", .string("p-" + service))])))
            batch.services.append(batch.bytes.intern(service.utf8))
        }
        let names = ["GET", "query", "GET"].map { batch.bytes.intern($0.utf8) }
        let attributes = [list([("n", .int(1)), ("tags", .list(#"["a","b"]"#))]), list([("n", .string("1"))]), []].map { batch.bytes.intern($0) }
        // The child comes before its parent, and once more as a retry.
        for (span, parent, start, resource) in [(2, 1, 20, 2), (1, 0, 10, 1), (2, 1, 20, 2)] as [(UInt64, UInt64, Int64, UInt32)] {
            batch.appendRow(
                traceID: TraceID(high: 0, low: 7), spanID: span, parentID: parent, startNanos: start, durationNanos: 1, kind: UInt8(span), status: 0,
                name: names[span == 1 ? 0 : 1], attributes: attributes[Int(span) - 1], resource: resource)
        }
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
        return store
    }

    func testTraceByID() throws {
        let engine = TraceQLEngine(reader: try store())
        let trace = try XCTUnwrap(engine.trace(TraceID(high: 0, low: 7), context: context))
        XCTAssertEqual(trace.spanID, [1, 2])
        XCTAssertEqual((0..<2).map { trace.bytes.string(trace.services[Int(trace.resource[$0])]) }, ["front", "back"])
        XCTAssertEqual(attributeList(trace.bytes[trace.attributes[0].range]).map(\.key), ["n", "tags"])
        XCTAssertNil(try engine.trace(TraceID(high: 1, low: 7), context: context))
    }

    func testNamesAndValues() throws {
        let engine = TraceQLEngine(reader: try store())
        XCTAssertEqual(try engine.services(startNanos: 0, endNanos: 100, context: context), ["back", "front"])
        XCTAssertEqual(try engine.services(startNanos: 0, endNanos: 15, context: context), ["front"])
        XCTAssertEqual(try engine.operations(service: "back", startNanos: 0, endNanos: 100, context: context), [SpanOperation(name: "query", kind: 2)])
        let names = try engine.tagNames(scope: nil, filter: nil, startNanos: 0, endNanos: 100, limit: 0, context: context)
        XCTAssertEqual(names.first { $0.scope == .span }?.names, ["n", "tags"])
        XCTAssertEqual(names.first { $0.scope == .resource }?.names, ["pod", "service.name"])
        XCTAssertEqual(names.first { $0.scope == .intrinsic }?.names.contains("nestedSetParent"), false)
        func values(_ name: String, _ filter: String? = nil) throws -> [String] {
            try engine.tagValues(name, filter: filter, startNanos: 0, endNanos: 100, limit: 0, context: context).map { "\($0.type) \($0.text)" }
        }
        XCTAssertEqual(try values("span.n"), ["int 1", "string 1"])
        XCTAssertEqual(try values("tags"), ["string a", "string b"])
        XCTAssertEqual(try values(".service.name", "{ name = \"GET\" }"), ["string front"])
        XCTAssertEqual(try values("resource.pod", "{ name = "), ["string p-back", "string p-front"])
        XCTAssertEqual(try values("service.name"), ["string back", "string front"])
        XCTAssertEqual(try values("status"), ["keyword error", "keyword ok", "keyword unset"])
        XCTAssertEqual(try values("rootServiceName"), ["string front"])
        XCTAssertEqual(try values("name"), ["string GET", "string query"])
    }
}
