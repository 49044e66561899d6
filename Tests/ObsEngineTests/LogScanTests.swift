import ObsCore
import ObsDisk
import ObsEngine
import ObsRegex
import ObsStore
import ObsTestSupport
import XCTest

/// Scans and counts over heads and segments, against rows that were kept aside and asked one by one.
final class LogScanTests: EngineTestCase {
    private struct Row: Hashable {
        var level: String
        var app: String
        var time: Int64
        var line: String
    }

    /// Lines of several shapes, times that repeat, retries of earlier bodies, in segments that overlap, one merged, and a head.
    private func filled(_ random: inout SplitMix, identified: Bool) throws -> (engine: StorageEngine, rows: [Row]) {
        let engine = try open(makeRoot(), MemoryFileSystem()) { configuration in
            configuration.maintainsItself = false
            configuration.scanThreads = 2
            configuration.freeBytesMin = 0
        }
        var rows: [Row] = []
        var bodies: [[Row]] = []
        for part in 0..<4 {
            for _ in 0..<6 {
                var body: [Row] = []
                for _ in 0..<200 {
                    let level = ["info", "warn", "error"][Int(random.next() % 3)]
                    let time = Int64(part) * 3000 + Int64(random.next() % 4000)
                    body.append(Row(level: level, app: "app\(random.next() % 3)", time: time, line: line(&random, level)))
                }
                // A sender's retry.
                if let earlier = bodies.last, random.next() % 3 == 0 { body += earlier.prefix(20) }
                bodies.append(body)
                rows += body
                var batch = logBatch(body.map { (["level": $0.level, "app": $0.app], $0.time, $0.line) }, identified: identified)
                for row in 0..<batch.count { batch.attributes[row] = batch.bytes.intern(attributes(batch.timeNanos[row])) }
                _ = try engine.appendAndWait(batch, origin: origin())
            }
            if part < 3 { try engine.flush() }
            if part == 1 { try engine.merge() }
        }
        return (engine, identified ? Array(Set(rows)) : rows)
    }

    private func attributes(_ time: Int64) -> [UInt8] {
        var list: [UInt8] = []
        list.appendAttribute("n".utf8, .int(time % 5))
        return list
    }

    private func line(_ random: inout SplitMix, _ level: String) -> String {
        let number = random.next() % 1000
        switch random.next() % 5 {
        case 0: return "Connection from 10.0.\(number % 4).\(number % 255) refused after \(number) ms"
        case 1: return #"{"level":"\#(level)","status":\#(200 + number % 300),"id":"\#(hexString(random.next()))","msg":"Request took \#(number) ms"}"#
        case 2: return "worker\(number % 7): session OPENED for user root"
        case 3: return "disk \(number) failed: I/O error"
        default: return number % 50 == 0 ? "" : "näive \u{0}bytes \(number)"
        }
    }

    private static let filters: [(name: String, filters: [LineFilter])] = {
        func regex(_ pattern: String) -> LineFilter.Test { (try? .matches(Regex(pattern))) ?? .holds({ _ in false }, literals: []) }
        return [
            ("all", []), ("empty text", [LineFilter(contains: "")]), ("word", [LineFilter(contains: "refused")]),
            ("absent", [LineFilter(contains: "zyxwvuts")]),
            ("across a slot", [LineFilter(contains: "took 5")]), ("number", [LineFilter(contains: "42")]),
            ("two", [LineFilter(contains: "disk"), LineFilter(contains: "9")]),
            ("none of", [LineFilter([.contains(ByteSearch(Array("error".utf8)))], isNegated: true)]),
            ("alternatives", [LineFilter([.contains(ByteSearch(Array("OPENED".utf8))), .contains(ByteSearch(Array("näive".utf8)))])]),
            ("regex", [LineFilter([regex("refused after [0-9]{2} ms")])]), ("any case", [LineFilter([regex("(?i)session opened|CONNECTION")])]),
            ("no literal", [LineFilter([regex("[0-9]{3}")])]), ("not matching", [LineFilter([regex("(?i)disk.*error")], isNegated: true)]),
        ]
    }()

    private static let fields: [(name: String, fields: [FieldFilter])] = {
        let (level, status) = (FieldPath("level"), FieldPath("status"))
        return [
            ("status", [FieldFilter(.line, status, .compares(.greaterOrEqual, .number(.integer(300))))]),
            ("no status", [FieldFilter(.line, status, .exists, isNegated: true)]),
            (
                "error and msg",
                [
                    FieldFilter(.line, level, .compares(.equal, .text(Array("error".utf8)))), FieldFilter(.line, FieldPath("msg"), .holds { $0.count > 20 }),
                ]
            ),
            ("not 250", [FieldFilter(.line, [FieldPath("absent"), status], .compares(.equal, .number(.integer(250))), isNegated: true)]),
            ("id", [FieldFilter(.line, FieldPath("id"), .compares(.less, .text(Array("8".utf8))))]),
            ("attribute", [FieldFilter(.attributes, FieldPath("n"), .compares(.less, .number(.double(2.5))))]),
        ]
    }()

    func testAgainstRows() throws {
        var random = SplitMix(state: 11)
        for identified in [false, true] {
            let (engine, rows) = try filled(&random, identified: identified)
            defer { engine.close() }
            for (name, filters, fields) in Self.filters.map({ ($0.name, $0.filters, []) }) + Self.fields.map({ ($0.name, [], $0.fields) }) {
                let start = Int64(random.next() % 6000)
                let end = start + 500 + Int64(random.next() % 9000)
                let app = random.next() % 2 == 0 ? "app1" : nil
                let matchers = app.map { [LabelMatcher(equal: "app", $0)] } ?? []
                let wanted = rows.filter { row in
                    var line = row.line
                    let attributes = attributes(row.time)
                    return row.time >= start && row.time < end && app ?? row.app == row.app
                        && line.withUTF8 { text in filters.allSatisfy { $0.passes(UnsafeRawBufferPointer(text)) } }
                        && fields.allSatisfy { field in
                            field.source == .line
                                ? line.withUTF8 { field.passes(UnsafeRawBufferPointer($0)) } : attributes.withUnsafeBytes { field.passes($0) }
                        }
                }
                let place = "\(name), identified \(identified), \(start)..<\(end)"
                let selection = LogSelection(matchers: matchers, startNanos: start, endNanos: end, lines: filters, fields: fields)
                try check(engine, selection, wanted, place)
                try checkFields(engine, selection, wanted, place)
            }
        }
    }

    private func check(_ engine: StorageEngine, _ selection: LogSelection, _ wanted: [Row], _ place: String) throws {
        var selection = selection
        for direction in [LogSelection.Direction.forward, .backward] {
            selection.direction = direction
            for limit in [nil, 7] as [Int?] {
                selection.limit = limit
                let sink = LogCollector()
                try engine.scanLogs(selection, context: context(), into: sink)
                let found = sink.rows.map { Row(level: $0.labels["level"] ?? "", app: $0.labels["app"] ?? "", time: $0.time, line: $0.line) }
                XCTAssertEqual(counted(found), counted(wanted), place)
            }
        }
        // Columns that nobody asks for do not come, and do not matter for what does.
        selection.columns = []
        let sink = LogCollector()
        try engine.scanLogs(selection, context: context(), into: sink)
        XCTAssertEqual(sink.rows.map(\.time).sorted(), wanted.map(\.time).sorted(), place)
        for grid in [LogCountGrid.whole, LogCountGrid(startNanos: selection.startNanos, widthNanos: 1000, count: 5)] {
            var counts: [Labels: [Int]] = [:]
            for row in wanted {
                guard let bucket = grid.bucket(row.time) else { continue }
                counts[Labels([("level", row.level), ("app", row.app)]), default: [Int](repeating: 0, count: grid.count)][bucket] += 1
            }
            let found = try engine.countLogs(selection, grid: grid, context: context())
            XCTAssertEqual(found, counts.sorted { $0.key < $1.key }.map { LogCounts(labels: $0.key, counts: $0.value) }, place)
        }
    }

    /// Counts by value of a field, whatever else is asked.
    private func checkFields(_ engine: StorageEngine, _ selection: LogSelection, _ wanted: [Row], _ place: String) throws {
        for (source, paths) in [
            (FieldSource.line, [FieldPath("level")]), (.line, [FieldPath("absent"), FieldPath("status")]), (.line, [FieldPath("id")]),
            (.attributes, [FieldPath("n")]),
        ] {
            for isByStream in [false, true] {
                var counts: [String: Int] = [:]
                for row in wanted {
                    let text = source == .line ? Array(row.line.utf8) : attributes(row.time)
                    let value = text.withUnsafeBytes { text in paths.lazy.compactMap { $0.withValue(in: text, source) { $0.text($1) } }.first }
                    guard let value else { continue }
                    counts[String(decoding: value, as: UTF8.self) + (isByStream ? " \(Labels([("level", row.level), ("app", row.app)]))" : ""), default: 0] += 1
                }
                let found = try engine.countFieldValues(selection, source, paths, isByStream: isByStream, context: context())
                let texts = found.map { (String(decoding: $0.value, as: UTF8.self) + ($0.labels.map { " \($0)" } ?? ""), $0.count) }
                XCTAssertEqual(Dictionary(texts, uniquingKeysWith: +), counts, "\(place), \(paths)")
                XCTAssertEqual(found.map(\.value), found.map(\.value).sorted { $0.lexicographicallyPrecedes($1) })
            }
        }
    }

    /// Counts by value of a field with few values come from the segment's footer, after a merge too; blocks without a wanted value are not read.
    func testFieldsReadNoBlock() throws {
        let engine = try open(makeRoot(), MemoryFileSystem()) { $0.maintainsItself = false }
        defer { engine.close() }
        for part in 0..<2 {
            var rows: [(stream: [String: String], time: Int64, line: String)] = []
            for row in 0..<5000 {
                let id = hexString(UInt64(row) &* 0x9e37_79b9_7f4a_7c15)
                rows.append((["app": "a"], Int64(part * 5000 + row), #"{"status":\#(200 + row % 3),"took":\#(row),"id":"\#(id)"}"#))
            }
            var batch = logBatch(rows)
            for row in 0..<batch.count {
                var list: [UInt8] = []
                list.appendAttribute("request".utf8, .string(hexString(UInt64(row + part * 5000) &* 0xd6e8_feb8_6659_fd93)))
                batch.attributes[row] = batch.bytes.intern(list)
            }
            _ = try engine.appendAndWait(batch, origin: origin())
            try engine.flush()
        }
        func count(_ fields: [FieldFilter], blocks: ClosedRange<Int>, at place: UInt = #line) throws -> Int {
            let context = try context()
            let selection = LogSelection(matchers: [], startNanos: 0, endNanos: 20_000, fields: fields)
            let found = try engine.countFieldValues(selection, .line, [FieldPath("status")], isByStream: true, context: context)
            let sink = LogCollector()
            try engine.scanLogs(selection, context: self.context(), into: sink)
            XCTAssertEqual(found.reduce(0) { $0 + $1.count }, sink.rows.count, line: place)
            XCTAssertTrue(blocks.contains(Int(context.statistics.blocks)), "\(context.statistics.blocks) blocks", line: place)
            return sink.rows.count
        }
        for isMerged in [false, true] {
            if isMerged { try engine.merge() }
            XCTAssertEqual(try count([], blocks: 0...0), 10_000)
            XCTAssertEqual(try count([FieldFilter(.line, FieldPath("status"), .compares(.equal, .number(.integer(500))))], blocks: 0...0), 0)
            XCTAssertEqual(try count([FieldFilter(.line, FieldPath("took"), .compares(.greater, .number(.integer(5000))))], blocks: 0...0), 0)
            XCTAssertEqual(try count([FieldFilter(.line, FieldPath("status"), .compares(.less, .number(.integer(500))))], blocks: 0...0), 10_000)
            XCTAssertEqual(try count([FieldFilter(.line, FieldPath("status"), .compares(.equal, .number(.integer(201))))], blocks: 1...2), 3334)
            XCTAssertEqual(try count([FieldFilter(.line, FieldPath("absent"), .exists)], blocks: 0...0), 0)
            let id = hexString(UInt64(4321) &* 0xd6e8_feb8_6659_fd93)
            XCTAssertEqual(try count([FieldFilter(.attributes, FieldPath("request"), .compares(.equal, .text(Array(id.utf8))))], blocks: 1...1), 1)
        }
    }

    private func counted(_ rows: [Row]) -> [Row: Int] { rows.reduce(into: [:]) { $0[$1, default: 0] += 1 } }

    /// Counts by stream of what lies in one bucket come from the block index: with the file's blocks out of reach they come all the same.
    func testCountsReadNoBlock() throws {
        let engine = try open(makeRoot(), MemoryFileSystem()) { $0.maintainsItself = false }
        defer { engine.close() }
        let rows = (0..<3000).map { (["app": "a\($0 % 3)"], Int64($0), "line \($0)") }
        _ = try engine.appendAndWait(logBatch(rows, identified: true), origin: origin())
        try engine.flush()
        let context = try context()
        let found = try engine.countLogs(LogSelection(matchers: [], startNanos: 0, endNanos: 3000), grid: .whole, context: context)
        XCTAssertEqual(found.map(\.counts), [[1000], [1000], [1000]])
        XCTAssertEqual(context.statistics.blocks, 0)
        _ = try engine.countLogs(LogSelection(matchers: [], startNanos: 1, endNanos: 3000), grid: .whole, context: context)
        XCTAssertGreaterThan(context.statistics.blocks, 0)
    }

    /// A reader that keeps few lines is not given a whole block.
    func testPortions() throws {
        final class Few: LogSink {
            var given = 0
            var times: [Int64] = []
            var wantedNanos = Int64.min..<Int64.max
            func consume(_ batch: LogBatch, rows: [Int]) throws(ObsError) {
                given += rows.count
                times += rows.map { batch.timeNanos[$0] }
                times.sort(by: >)
                if times.count >= 10 { wantedNanos = times[9]..<Int64.max }
            }
        }
        let engine = try open(makeRoot(), MemoryFileSystem()) { $0.maintainsItself = false }
        defer { engine.close() }
        _ = try engine.appendAndWait(logBatch((0..<5000).map { (["app": "a\($0 % 2)"], Int64($0), "line \($0)") }), origin: origin())
        try engine.flush()
        let sink = Few()
        try engine.scanLogs(LogSelection(matchers: [], startNanos: 0, endNanos: 5000, limit: 10), context: context(), into: sink)
        XCTAssertEqual(sink.times.prefix(10), [4999, 4998, 4997, 4996, 4995, 4994, 4993, 4992, 4991, 4990])
        XCTAssertLessThan(sink.given, 50)
    }
}
