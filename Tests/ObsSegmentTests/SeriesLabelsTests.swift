import ObsCore
import ObsDisk
import ObsSegment
import ObsStore
import XCTest

/// Gathering, ranking and sorting of label sets, seen through the segments made with them.
final class SeriesLabelsTests: XCTestCase {
    /// Few letters, lengths around the eight bytes of a word, long shared prefixes, zero bytes and prefixes of each other.
    private func value(_ random: inout Random) -> [UInt8] {
        let prefix = [UInt8](repeating: 0x61, count: [0, 0, 7, 8, 9, 16, 95, 96, 97, 140][random.below(10)])
        return prefix + (0..<random.below(4)).map { _ in [0, 0x61, 0x62, 0xff][random.below(4)] }
    }

    private func labelSets(_ count: Int, _ random: inout Random) -> [Labels] {
        var sets: Set<Labels> = []
        for _ in 0..<count {
            var builder = LabelsBuilder()
            for name in 0..<random.below(6) {
                let value = value(&random)
                if !value.isEmpty { builder.set([0x61 + UInt8(random.below(name + 1))], value) }
            }
            sets.insert(builder.labels())
        }
        return sets.sorted { $0.bytes.count != $1.bytes.count ? $0.bytes.count > $1.bytes.count : $0.bytes.lexicographicallyPrecedes($1.bytes) }
    }

    /// Label sets in one buffer that does not move, as a head has them.
    private func withBytes(_ sets: [Labels], _ body: ([UnsafeRawBufferPointer]) throws -> Void) rethrows {
        let all = sets.flatMap(\.bytes)
        try all.withUnsafeBytes { all in
            var start = 0
            var views: [UnsafeRawBufferPointer] = []
            for set in sets {
                views.append(UnsafeRawBufferPointer(rebasing: all[start..<start + set.bytes.count]))
                start += set.bytes.count
            }
            try body(views)
        }
    }

    func testAnyOrderBecomesLabelOrder() throws {
        var random = Random(11)
        for count in [0, 1, 2, 9, 40, 300, 3000] {
            let sets = labelSets(count, &random)
            for stays in [true, false] {
                withBytes(sets) { bytes in
                    let labels = SeriesLabels()
                    labels.reserve(sets.count / 2)
                    for set in bytes {
                        // What need not stay is overwritten at once.
                        var copy = [UInt8](set)
                        if stays { labels.append(set, stays: true) } else { copy.withUnsafeBytes { labels.append($0, stays: false) } }
                        for index in copy.indices { copy[index] = 0xee }
                    }
                    labels.rank(isOrdered: false)
                    XCTAssertEqual(labels.count, sets.count)
                    XCTAssertEqual((0..<sets.count).map { sets[labels.number($0)] }, sets.sorted())
                }
            }
        }
    }

    func testLabelsLastEqualLabelsFirst() throws {
        var random = Random(12)
        for count in [1, 50, 2500] {
            let sets = labelSets(count, &random)
            let series = sets.sorted().map { Series(labels: $0, times: [5], values: [1]) }
            let first = MemoryFileSystem()
            let info = try writeMetrics(series, first)
            let last = MemoryFileSystem()
            try withBytes(sets) { bytes in
                let labels = SeriesLabels()
                for set in bytes { labels.append(set, stays: true) }
                labels.rank(isOrdered: false)
                let writer = try MetricSegmentWriter(fileSystem: last, path: path, draft: draft)
                for _ in sets {
                    try [Int64(5)].withUnsafeBufferPointer { times in try [1.0].withUnsafeBufferPointer { try writer.add(times: times, values: $0) } }
                }
                XCTAssertEqual(try writer.finish(labels), info)
            }
            XCTAssertEqual(try readMetrics(last), series)
        }
    }

    func testPostingsOfLabels() throws {
        let names = ["all", "few", "own"]
        let series = (0..<2500).map { number in
            var pairs = [("all", "x"), ("own", "\(10_000 + number)")]
            if number % 100 == 0 { pairs.append(("few", "\(number % 3)")) }
            return Series(labels: Labels(pairs), times: [1], values: [1])
        }.sorted { $0.labels < $1.labels }
        let disk = MemoryFileSystem()
        _ = try writeMetrics(series, disk)
        let reader = try MetricSegmentReader.open(disk, path)
        XCTAssertEqual(try reader.labelNames(), names)
        for (name, value) in [("all", "x"), ("few", "0"), ("few", "1"), ("few", "2"), ("own", "10000"), ("own", "12499"), ("own", "11023")] {
            let expected = series.indices.filter { series[$0].labels[name] == value }
            XCTAssertFalse(expected.isEmpty)
            XCTAssertEqual(try reader.select([LabelMatcher(equal: name, value)]), expected, "\(name)=\(value)")
        }
    }
}
