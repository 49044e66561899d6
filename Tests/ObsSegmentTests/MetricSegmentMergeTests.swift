import Foundation
import ObsCore
import ObsDisk
import ObsStore
import XCTest

@testable import ObsSegment

final class MetricSegmentMergeTests: XCTestCase {
    private typealias Samples = [Labels: [Int64: Double]]

    private func file(_ name: String) -> String { "/d/1970-01-01/\(name).seg" }

    @discardableResult
    private func write(_ name: String, _ series: [Series], _ disk: any FileSystem) throws -> SegmentInfo {
        let writer = try MetricSegmentWriter(fileSystem: disk, path: file(name), draft: SegmentDraft(id: name, tenant: .default))
        for one in series.sorted(by: { $0.labels < $1.labels }) { try writer.add(labels: one.labels, times: one.times, values: one.values) }
        return try writer.finish()
    }

    @discardableResult
    private func merge(_ names: [String], into name: String, _ disk: any FileSystem, deleted: [MetricSegmentMerge.Deleted?]? = nil) throws -> SegmentInfo? {
        let merge = try MetricSegmentMerge(names.map(file), disk, deleted: deleted ?? names.map { _ in nil }, check: {}, grow: { _ in })
        return try merge.write(disk, path: file(name), draft: SegmentDraft(id: name, tenant: .default, level: 1, replaces: names))
    }

    private func read(_ name: String, _ disk: any FileSystem) throws -> Samples {
        let reader = try MetricSegmentReader.open(disk, file(name))
        var found: Samples = [:]
        var last: Labels?
        for ordinal in 0..<reader.seriesCount {
            let labels = try reader.labels(ordinal)
            if let last { XCTAssertLessThan(last, labels) }
            last = labels
            let samples = try reader.samples(ordinal, range: .min ... .max)
            XCTAssertEqual(samples.times, samples.times.sorted())
            found[labels] = Dictionary(uniqueKeysWithValues: zip(samples.times, samples.values))
            XCTAssertEqual(try reader.select(labels.pairs.map { LabelMatcher(equal: $0.name, $0.value) }).contains(ordinal), true)
        }
        XCTAssertNoThrow(try verify(disk, file(name)))
        return found
    }

    private func series(_ number: Int, _ times: Range<Int>, step: Int64 = 10) -> Series {
        var random = Random(UInt64(number &+ times.lowerBound &* 31 &+ 1))
        let labels = Labels([("__name__", "m\(number)"), ("host", "h\(number % 3)"), ("odd\(number % 2)", "x")])
        return Series(labels: labels, times: times.map { Int64($0) * step }, values: times.map { _ in Double(random.below(1 << 40)) })
    }

    private func blocks(_ name: String, _ disk: any FileSystem) throws -> [[UInt8]] {
        let reader = try MetricSegmentReader.open(disk, file(name))
        return try (reader.timeBlocks + reader.valueBlocks).map { try reader.file.frames(at: $0).bytes }
    }

    /// Full chunks one after the other: no block is written anew, and all bytes are those of the inputs.
    func testFullBlocksAreCopied() throws {
        let disk = MemoryFileSystem()
        try write("a", (0..<32).map { series($0, 0..<2048) }, disk)
        try write("b", (8..<40).map { series($0, 2048..<4096) }, disk)
        XCTAssertGreaterThan(try blocks("a", disk).count, 4)
        let wanted = try read("a", disk).merging(read("b", disk)) { $0.merging($1) { $1 } }
        try merge(["a", "b"], into: "out", disk)
        XCTAssertEqual(try read("out", disk), wanted)
        let values = try ["a", "b"].flatMap { try MetricSegmentReader.open(disk, file($0)).valueBlocks.count }
        XCTAssertEqual(try MetricSegmentReader.open(disk, file("out")).valueBlocks.count, values.reduce(0, +))
        let inputs = try Set(blocks("a", disk) + blocks("b", disk))
        let reader = try MetricSegmentReader.open(disk, file("out"))
        for place in reader.valueBlocks { XCTAssertTrue(inputs.contains(try reader.file.frames(at: place).bytes), "block at \(place.offset)") }
        // Again, of its own: everything is copied.
        try merge(["out"], into: "again", disk)
        XCTAssertEqual(try read("again", disk), wanted)
        XCTAssertEqual(try Set(blocks("again", disk)), try Set(blocks("out", disk)))
    }

    /// A deleted sample: the block it is in is written anew, no other.
    /// Of chunks that are copied and of those that are joined: nothing is read to sum up, and it is what the samples come to.
    func testStatisticsGoAlong() throws {
        let disk = MemoryFileSystem()
        func gauge(_ number: Int, _ times: Range<Int>) -> Series {
            let labels = Labels([("__name__", "g\(number)")])
            return Series(labels: labels, times: times.map { Int64($0) * 10 }, values: times.map { Double($0 * 37 % (11 + number)) / 10 })
        }
        try write("a", (0..<8).map { gauge($0, 0..<1024) } + [series(9, 0..<30), series(10, 100..<700)], disk)
        try write("b", (4..<12).map { gauge($0, 1024..<2048) } + [series(9, 20..<60), series(10, 0..<90)], disk)
        let fullBefore = try statistics("a", disk)
        try merge(["a", "b"], into: "c", disk)
        let reader = try MetricSegmentReader.open(disk, file("c"))
        var scan = SeriesScan(reader, range: .min ... .max)
        for ordinal in 0..<reader.seriesCount {
            var read = 0
            let summary = try scan.summary(ordinal, .values, deleted: [], read: &read)
            let samples = try reader.samples(ordinal, range: .min ... .max)
            var expected = SampleSummary()
            expected.append(timesMillis: samples.times, values: samples.values)
            XCTAssertEqual(read, 0)
            XCTAssertEqual(
                [summary.count, Int(summary.firstMillis), Int(summary.lastMillis)], [expected.count, Int(expected.firstMillis), Int(expected.lastMillis)])
            XCTAssertEqual(
                [summary.first, summary.last, summary.smallest, summary.greatest, summary.total],
                [expected.first, expected.last, expected.smallest, expected.greatest, expected.total])
        }
        // Copied, not made again.
        try merge(["a"], into: "d", disk)
        XCTAssertEqual(try statistics("d", disk), fullBefore)
    }

    private func statistics(_ name: String, _ disk: any FileSystem) throws -> [SampleSummary] {
        let table = try MetricSegmentReader.open(disk, file(name)).table
        return try table.readStatistics(0, table.readChunks(0).chunks)
    }

    func testMaskedSampleRewritesItsBlockOnly() throws {
        let disk = MemoryFileSystem()
        try write("a", (0..<64).map { series($0, 0..<1024) }, disk)
        let victim = series(5, 0..<1024)
        try merge(["a"], into: "out", disk, deleted: [{ Labels(canonical: Array($0)) == victim.labels ? [100...119] : [] }])
        var wanted = try read("a", disk)
        XCTAssertNotNil(wanted[victim.labels]?.removeValue(forKey: 100))
        XCTAssertNotNil(wanted[victim.labels]?.removeValue(forKey: 110))
        XCTAssertEqual(try read("out", disk), wanted)
        let before = try MetricSegmentReader.open(disk, file("a"))
        let after = try Set(blocks("out", disk))
        let kept = try before.valueBlocks.map { after.contains(try before.file.frames(at: $0).bytes) }
        XCTAssertEqual(kept.filter { !$0 }.count, 1, "\(kept)")
        XCTAssertGreaterThan(kept.count, 3)
    }

    /// A repeated instant: only the chunks it is in are decoded, and the older segment's sample stays.
    func testOverlapIsMerged() throws {
        let disk = MemoryFileSystem()
        try write("a", [series(1, 0..<3072)], disk)
        try write("b", [Series(labels: series(1, 0..<1).labels, times: [10_250, 10_255], values: [-1, -2])], disk)
        try merge(["a", "b"], into: "out", disk)
        var wanted = try read("a", disk)
        wanted[series(1, 0..<1).labels]?[10_255] = -2
        XCTAssertEqual(try read("out", disk), wanted)
        let chunks = try MetricSegmentReader.open(disk, file("out")).table.chunks(0)
        XCTAssertEqual(chunks.map(\.samples), [1024, 513, 512, 1024])
    }

    /// Small chunks grow together, whatever the order of merges.
    func testSmallChunksAreJoined() throws {
        let disk = MemoryFileSystem()
        for part in 0..<16 { try write("p\(part)", [series(1, part * 100..<(part + 1) * 100), series(2 + part, 0..<5)], disk) }
        for group in 0..<4 { try merge((0..<4).map { "p\(group * 4 + $0)" }, into: "g\(group)", disk) }
        try merge((0..<4).map { "g\($0)" }, into: "out", disk)
        let found = try read("out", disk)
        XCTAssertEqual(found[series(1, 0..<1).labels]?.count, 1600)
        XCTAssertEqual(found.count, 17)
        let reader = try MetricSegmentReader.open(disk, file("out"))
        let ordinal = try XCTUnwrap(reader.select([LabelMatcher(equal: "__name__", "m1")]).first)
        XCTAssertEqual(try reader.table.chunks(ordinal).map(\.samples), [800, 800])
    }

    func testAgainstTheModel() throws {
        for seed in 1..<25 as Range<UInt64> {
            var random = Random(seed)
            let disk = MemoryFileSystem()
            var wanted: Samples = [:]
            var names: [String] = []
            let isMasked = seed % 3 == 0
            let mask: [ClosedRange<Int64>] = [500...2000, 9000...9000]
            for input in 0..<(1 + random.below(4)) {
                var all: [Series] = []
                for number in 0..<6 where random.below(4) > 0 {
                    let start = random.below(3) == 0 ? 0 : input * 1500 + random.below(50)
                    all.append(series(number, start..<(start + 1 + random.below(random.below(2) == 0 ? 30 : 2500)), step: Int64(1 + random.below(2))))
                }
                if all.isEmpty { all = [series(9, 0..<3)] }
                try write("i\(input)", all, disk)
                names.append("i\(input)")
                for one in all {
                    for (time, value) in zip(one.times, one.values) {
                        if isMasked, one.labels["host"] == "h1", mask.contains(where: { $0.contains(time) }) { continue }
                        if wanted[one.labels]?[time] == nil { wanted[one.labels, default: [:]][time] = value }
                    }
                }
            }
            let deleted: MetricSegmentMerge.Deleted? = isMasked ? { Labels(canonical: Array($0))["host"] == "h1" ? mask : [] } : nil
            let info = try merge(names, into: "out", disk, deleted: names.map { _ in deleted })
            XCTAssertEqual(info?.rows ?? 0, Int64(wanted.values.reduce(0) { $0 + $1.count }), "seed \(seed)")
            if info != nil { XCTAssertEqual(try read("out", disk), wanted, "seed \(seed)") }
        }
    }

    /// A series that is deleted whole takes its labels with it.
    func testUnusedLabelsGo() throws {
        let disk = MemoryFileSystem()
        try write("a", [series(0, 0..<5), series(1, 0..<5), series(2, 0..<5)], disk)
        try merge(["a"], into: "out", disk, deleted: [{ Labels(canonical: Array($0))["__name__"] == "m1" ? [.min ... .max] : [] }])
        let reader = try MetricSegmentReader.open(disk, file("out"))
        XCTAssertEqual(try reader.labelNames(), ["__name__", "host", "odd0"])
        XCTAssertEqual(try reader.labelValues("__name__"), ["m0", "m2"])
        XCTAssertEqual(reader.info.names, ["m0", "m2"])
        XCTAssertEqual(try read("out", disk).count, 2)
    }

    /// No memory, no segment, and nothing left behind.
    func testMemoryIsAskedFor() throws {
        let disk = MemoryFileSystem()
        try write("a", (0..<40).map { series($0, 0..<5) }, disk)
        try write("b", (0..<40).map { series($0, 5..<9) }, disk)
        var asked: [Int] = []
        let all = try MetricSegmentMerge(["a", "b"].map(file), disk, deleted: [nil, nil], check: {}, grow: { asked.append($0) })
        _ = try all.write(disk, path: file("out"), draft: SegmentDraft(id: "out", tenant: .default))
        XCTAssertGreaterThan(asked.filter { $0 > 0 }.count, 3)
        for limit in asked.indices {
            var calls = 0
            let grow = { (bytes: Int) throws(ObsError) in
                calls += 1
                if calls > limit { throw ObsError(.throttled, "no memory") }
            }
            XCTAssertThrowsError(
                try MetricSegmentMerge(["a", "b"].map(file), disk, deleted: [nil, nil], check: {}, grow: grow)
                    .write(disk, path: file("no"), draft: SegmentDraft(id: "no", tenant: .default)))
        }
        XCTAssertEqual(try disk.list("/d/1970-01-01").sorted(), ["a.seg", "b.seg", "out.seg"])
    }
}
