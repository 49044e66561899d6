import ObsCore
import ObsDisk
import ObsSegment
import ObsStore
import XCTest

final class MetricSegmentTests: XCTestCase {
    private let odd: [Double] = [
        0, -0.0, 1, -1, .infinity, -.infinity, .nan, SpecialValue.stale, SpecialValue.normalNaN, Double(bitPattern: 0xfff8_dead_beef_0001),
        .leastNonzeroMagnitude, -.leastNonzeroMagnitude, .leastNormalMagnitude, .greatestFiniteMagnitude, 0.1, 1e22, 123_456.789, 9_007_199_254_740_992,
    ]

    private func labels(_ name: String, _ instance: String) -> Labels { Labels([("__name__", name), ("instance", instance), ("job", "node")]) }

    /// Order of labels, times shared by most.
    private func fleet(hosts: Int, metrics: Int, samples: Int) -> [Series] {
        var random = Random(7)
        return (0..<metrics).flatMap { metric in
            (0..<hosts).map { host in
                var counter = Double(random.below(1000))
                return Series(
                    labels: labels("metric_\(metric)", "host-\(host):9100"), times: (0..<samples).map { Int64(1_700_000_000_000 + $0 * 15_000 + host) },
                    values: (0..<samples).map { _ in
                        counter += Double(random.below(50))
                        return metric % 3 == 0 ? 0.25 : metric % 3 == 1 ? counter : counter / 1000
                    })
            }
        }.sorted { $0.labels < $1.labels }
    }

    func testRoundtrip() throws {
        let cases: [[Series]] = [
            [Series(labels: .empty, times: [0], values: [1])],
            [Series(labels: labels("a", "1"), times: [.min, -1, 0, .max], values: [1, 2, 3, 4])],
            [Series(labels: labels("odd", "1"), times: odd.indices.map { Int64($0) }, values: odd)],
            odd.enumerated().map { Series(labels: labels("odd", "\(100 + $0)"), times: [Int64($0)], values: [$1]) },
            [Series(labels: labels("long", "1"), times: (0..<65_537).map { Int64($0 * 10) }, values: (0..<65_537).map { Double($0 % 1000) / 8 })],
            fleet(hosts: 40, metrics: 30, samples: 9),
            fleet(hosts: 3, metrics: 3, samples: 2050),
        ]
        for series in cases {
            for level in [0, 2] {
                let disk = MemoryFileSystem()
                var draft = draft
                draft.level = level
                let info = try writeMetrics(series, disk, draft: draft)
                XCTAssertEqual(try readMetrics(disk), series)
                XCTAssertEqual(try readSegmentInfo(disk, path), info)
                XCTAssertEqual(info.rows, series.reduce(0) { $0 + Int64($1.times.count) })
                XCTAssertEqual(info.minTime, series.map { $0.times[0] }.min())
                XCTAssertEqual(info.maxTime, series.map { $0.times[$0.times.count - 1] }.max())
                XCTAssertEqual(info.bytes, Int64(try disk.size(path)))
                XCTAssertEqual(info.walRanges, draft.walRanges)
                XCTAssertNoThrow(try verify(disk, path))
                XCTAssertFalse(disk.exists(path + ".tmp"))
            }
        }
    }

    func testRandomBitsRoundtrip() throws {
        var random = Random(3)
        for _ in 0..<20 {
            var series: [Series] = []
            for number in 0..<(1 + random.below(20)) {
                var time = Int64(bitPattern: random.next()) / 4
                let count = 1 + random.below(200)
                let times = (0..<count).map { _ -> Int64 in
                    time += 1 + Int64(random.below(3) == 0 ? random.below(1 << 40) : 1000)
                    return time
                }
                series.append(
                    Series(
                        labels: Labels([("n", "\(1000 + number)"), ("v", String(decoding: random.bytes(5), as: UTF8.self))]), times: times,
                        values: times.map { _ in random.below(2) == 0 ? Double(bitPattern: random.next()) : Double(random.below(10)) }))
            }
            let disk = MemoryFileSystem()
            _ = try writeMetrics(series, disk)
            XCTAssertEqual(try readMetrics(disk), series)
        }
    }

    func testLabelsThatAreNotText() throws {
        var builders = (0..<3).map { _ in LabelsBuilder() }
        builders[0].set([0x61], [0, 0xff, 0])
        builders[1].set([0x61], [0xc3, 0x28])
        builders[2].set([0xff, 0], [0x41])
        let series = builders.map { Series(labels: $0.labels(), times: [1], values: [1]) }.sorted { $0.labels < $1.labels }
        let disk = MemoryFileSystem()
        _ = try writeMetrics(series, disk)
        XCTAssertEqual(try readMetrics(disk), series)
    }

    func testSelect() throws {
        let disk = MemoryFileSystem()
        var series = fleet(hosts: 12, metrics: 5, samples: 2)
        series.append(Series(labels: Labels([("__name__", "up"), ("zone", "a")]), times: [1], values: [1]))
        series.append(Series(labels: Labels([("__name__", "up"), ("zone", "b")]), times: [1], values: [1]))
        series.sort { $0.labels < $1.labels }
        let info = try writeMetrics(series, disk)
        XCTAssertEqual(info.names, ["metric_0", "metric_1", "metric_2", "metric_3", "metric_4", "up"])
        let reader = try MetricSegmentReader.open(disk, path)
        let matchers: [[LabelMatcher]] = try [
            [], [LabelMatcher(equal: "__name__", "metric_3")], [LabelMatcher(equal: "__name__", "nothing")], [LabelMatcher(equal: "nothing", "x")],
            [LabelMatcher(equal: "__name__", "zzz")], [LabelMatcher(equal: "__name__", "a")], [LabelMatcher(equal: "zone", "")],
            [LabelMatcher("zone", .notEqual, "")], [LabelMatcher("zone", .notEqual, "a")], [LabelMatcher("zone", .matches, "a|")],
            [LabelMatcher("zone", .matchesNot, "a|")], [LabelMatcher("instance", .matches, "host-1.*")], [LabelMatcher("instance", .matchesNot, "host-1.*")],
            [LabelMatcher("__name__", .matches, ".+"), LabelMatcher("instance", .notEqual, "host-3:9100")],
            [LabelMatcher(equal: "__name__", "metric_2"), LabelMatcher("instance", .matches, "host-(3|4|99):9100"), LabelMatcher(equal: "job", "node")],
        ]
        for one in matchers {
            let expected = series.indices.filter { one.match(series[$0].labels) }
            XCTAssertEqual(try reader.select(one), expected, "\(one)")
        }
        XCTAssertEqual(try reader.labelNames(), ["__name__", "instance", "job", "zone"])
        XCTAssertEqual(try reader.labelValues("zone"), ["a", "b"])
        XCTAssertEqual(try reader.labelValues("nothing"), [])
    }

    func testSelectOverManyPages() throws {
        let series = (0..<5000).map { Series(labels: Labels([("__name__", "m"), ("id", "\(100_000 + $0)")]), times: [Int64($0)], values: [Double($0)]) }
        let disk = MemoryFileSystem()
        _ = try writeMetrics(series, disk)
        let reader = try MetricSegmentReader.open(disk, path)
        for number in [0, 1, 1023, 1024, 1025, 2047, 2048, 4999] {
            XCTAssertEqual(try reader.select([LabelMatcher(equal: "id", "\(100_000 + number)")]), [number])
            XCTAssertEqual(try reader.labels(number), series[number].labels)
            XCTAssertEqual(try reader.timeRange(number), Int64(number)...Int64(number))
        }
        XCTAssertEqual(try reader.select([LabelMatcher(equal: "id", "099999")]), [])
        XCTAssertEqual(try reader.select([LabelMatcher("id", .matches, "10[0-9]+7")]).count, 500)
        XCTAssertEqual(try reader.labelValues("id").count, 5000)
    }

    /// Posting lists of every form: runs (the name), scattered (shard), dense (parity), one series each (id).
    func testSelectByListsOfAllForms() throws {
        var random = Random(9)
        let series = (0..<3000).map { number in
            var pairs = [("__name__", "m\(number / 700)"), ("id", "\(100_000 + number)"), ("shard", "\(number * 7919 % 61)"), ("parity", "\(number % 2)")]
            if random.below(3) > 0 { pairs.append(("zone", "abcde".map { String($0) }[random.below(5)])) }
            return Series(labels: Labels(pairs), times: [Int64(number)], values: [1])
        }.sorted { $0.labels < $1.labels }
        let disk = MemoryFileSystem()
        _ = try writeMetrics(series, disk)
        let reader = try MetricSegmentReader.open(disk, path)
        let matchers: [LabelMatcher] = try [
            LabelMatcher(equal: "__name__", "m2"), LabelMatcher("__name__", .notEqual, "m0"), LabelMatcher("__name__", .matches, "m[13]"),
            LabelMatcher(equal: "parity", "1"), LabelMatcher("parity", .notEqual, "1"), LabelMatcher(equal: "shard", "17"),
            LabelMatcher("shard", .matches, "1."),
            LabelMatcher("shard", .matchesNot, "1."), LabelMatcher("shard", .notEqual, "17"), LabelMatcher("id", .matches, "10[12].*"),
            LabelMatcher("id", .notEqual, "100077"), LabelMatcher(equal: "zone", ""), LabelMatcher("zone", .notEqual, "c"),
            LabelMatcher("zone", .matches, "a|"),
        ]
        for a in matchers {
            for b in matchers {
                let expected = series.indices.filter { [a, b].match(series[$0].labels) }
                XCTAssertEqual(try reader.select([a, b]), expected, "\(a) \(b)")
                XCTAssertEqual(try reader.select(any: [[a], [b]]), series.indices.filter { [a].match(series[$0].labels) || [b].match(series[$0].labels) })
                let zones = Set(expected.compactMap { series[$0].labels["zone"] }).sorted()
                var found: [String] = []
                try reader.forEachLabelValue("zone", of: expected) {
                    found.append(String(decoding: $0, as: UTF8.self))
                    return found.count < 4
                }
                XCTAssertEqual(found, Array(zones.prefix(4)))
                XCTAssertEqual(try reader.labelNames(of: expected), Set(expected.flatMap { series[$0].labels.pairs.map(\.name) }).sorted())
            }
        }
        XCTAssertEqual(try reader.inReach(1000...1999, of: Array(0..<3000)), series.indices.filter { (1000...1999).contains(series[$0].times[0]) })
    }

    func testSamplesOfRange() throws {
        let times = (0..<3000).map { Int64($0 * 10) }
        let values = times.map { Double($0) }
        let disk = MemoryFileSystem()
        _ = try writeMetrics([Series(labels: labels("m", "1"), times: times, values: values)], disk)
        let reader = try MetricSegmentReader.open(disk, path)
        XCTAssertEqual(try reader.sampleCount(0), 3000)
        let bounds: [(Int64, Int64)] = [
            (0, 0), (1, 9), (-5, -1), (29_990, 29_990), (29_991, Int64.max), (10_230, 10_250), (5, 25_000), (Int64.min, Int64.max), (10_240, 10_240),
        ]
        for (low, high) in bounds {
            let range = low...high
            let samples = try reader.samples(0, range: range)
            XCTAssertEqual(samples.times, times.filter { range.contains($0) }, "\(range)")
            XCTAssertEqual(samples.values, samples.times.map { Double($0) })
        }
    }

    func testScrapesShareTheirTimes() throws {
        let times: [Int64] = (0..<100).map { (scrape: Int64) in scrape * 15_000 + (scrape * 7919) % 13 }
        let values = [Double](repeating: 1, count: 100)
        let disk = MemoryFileSystem()
        let info = try writeMetrics((0..<1000).map { Series(labels: labels("m", "\(1000 + $0)"), times: times, values: values) }, disk)
        XCTAssertLessThan(info.bytes, 20_000)  // 100,000 samples
    }

    func testDamageIsNoticed() throws {
        let disk = MemoryFileSystem()
        _ = try writeMetrics(fleet(hosts: 3, metrics: 2, samples: 4), disk)
        try checkDamage(disk) { try readMetrics(disk) }
    }

    func testAnAbandonedSegmentLeavesNothing() throws {
        let disk = MemoryFileSystem()
        var writer: MetricSegmentWriter? = try MetricSegmentWriter(fileSystem: disk, path: path, draft: draft)
        try writer?.add(labels: labels("a", "b"), times: [1], values: [1])
        XCTAssertTrue(disk.exists(path + ".tmp"))
        writer = nil
        XCTAssertFalse(disk.exists(path + ".tmp"))
        XCTAssertFalse(disk.exists(path))
        let empty = try MetricSegmentWriter(fileSystem: disk, path: path, draft: draft)
        XCTAssertThrowsError(try empty.finish())
        XCTAssertFalse(disk.exists(path + ".tmp"))
    }

    /// After a power cut at any change there is the whole segment or none.
    func testPowerCutAtEveryChange() throws {
        let series = fleet(hosts: 2, metrics: 2, samples: 3)
        let rehearsal = MemoryFileSystem()
        _ = try writeMetrics(series, rehearsal)
        for change in 0..<rehearsal.changes {
            let disk = MemoryFileSystem()
            disk.failChanges(after: change)
            XCTAssertThrowsError(try writeMetrics(series, disk))
            disk.cutPower()
            XCTAssertFalse(disk.exists(path))
        }
        rehearsal.cutPower()
        XCTAssertEqual(try readMetrics(rehearsal), series)
    }

    func testAFullDiskIsOverload() throws {
        let disk = MemoryFileSystem()
        disk.setCapacity(bytes: 100)
        XCTAssertThrowsError(try writeMetrics(fleet(hosts: 5, metrics: 5, samples: 5), disk)) { XCTAssertEqual(($0 as? ObsError)?.code, .overloaded) }
        XCTAssertEqual(try disk.list(DiskLayout.folder(of: path)), [])
    }

    func testAnotherSignalIsRefused() throws {
        let disk = MemoryFileSystem()
        _ = try writeLogs([LogRow()], disk)
        XCTAssertThrowsError(try MetricSegmentReader.open(disk, path)) { XCTAssertEqual(($0 as? ObsError)?.code, .corrupt) }
    }
}
