internal import ObsCore
internal import ObsDisk
internal import ObsStore
internal import ObsTestSupport
import XCTest

@testable import ObsEngine

/// Type, unit and help of metric families, wherever the samples beside them are.
final class MetadataTests: EngineTestCase {
    private func write(_ engine: StorageEngine, _ families: [(name: String, type: MetricType, help: String)], time: Int64, tenant: String = "default") throws {
        var batch = MetricBatch()
        batch.append(Labels([("__name__", "up")]), timeMillis: time, value: 1)
        for family in families {
            let name = batch.bytes.intern(family.name.utf8)
            let help = batch.bytes.intern(family.help.utf8)
            batch.metadata.append(MetricBatch.Metadata(family: name, type: family.type, help: help, unit: .empty))
        }
        _ = try engine.appendAndWait(batch, origin: origin(tenant))
    }

    private func families(_ engine: StorageEngine, tenant: String = "default") throws -> [String] {
        try engine.metricFamilies(context: context(tenant)).sorted.map {
            "\(String(decoding: $0.name, as: UTF8.self)) \($0.entry.type.word) \(String(decoding: $0.entry.help, as: UTF8.self))"
        }
    }

    private func openQuiet(_ root: String, _ disk: any FileSystem) throws -> StorageEngine { try open(root, disk) { $0.maintainsItself = false } }

    func testNewestStaysThroughFlushMergeAndStart() throws {
        let root = makeRoot()
        let disk = MemoryFileSystem()
        var engine = try openQuiet(root, disk)
        try write(engine, [("a", .counter, "first"), ("b", .gauge, "kept")], time: 1)
        try write(engine, [("x", .summary, "other")], time: 1, tenant: "other")
        XCTAssertEqual(try families(engine), ["a counter first", "b gauge kept"])
        for flush in 2..<12 as Range<Int64> {
            try engine.flush()
            try write(engine, [("a", .histogram, "of \(flush)")], time: flush)
            XCTAssertEqual(try families(engine), ["a histogram of \(flush)", "b gauge kept"])
        }
        // From the log, the newest.
        engine.close()
        engine = try openQuiet(root, disk)
        XCTAssertTrue(engine.waitReplayed())
        XCTAssertEqual(try families(engine), ["a histogram of 11", "b gauge kept"])
        try engine.merge()
        XCTAssertGreaterThan(engine.status().signals[0].merges, 0)
        XCTAssertEqual(try families(engine), ["a histogram of 11", "b gauge kept"])
        engine.close()
        engine = try openQuiet(root, disk)
        XCTAssertEqual(try families(engine), ["a histogram of 11", "b gauge kept"])
        XCTAssertEqual(try families(engine, tenant: "other"), ["x summary other"])
        engine.close()
    }

    func testBounds() {
        var families = MetricFamilies()
        for number in 0..<MetricFamilies.countMax + 10 { families.set(Array("f\(number)".utf8), MetricFamilies.Entry(type: .gauge, unit: [], help: [])) }
        XCTAssertEqual(families.count, MetricFamilies.countMax)
        let before = families.byteSize
        families.set(Array("f1".utf8), MetricFamilies.Entry(type: .counter, unit: [1], help: [1, 2]))
        XCTAssertEqual(families[Array("f1".utf8)]?.type, .counter, "known ones still change")
        XCTAssertEqual(families.byteSize, before + 3)
    }
}
