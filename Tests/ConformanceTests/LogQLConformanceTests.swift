import Foundation
import ObsCore
import ObsLogQL
import ObsStore
import ObsTestSupport
import XCTest

/// Runs Tests/Fixtures/logql/*.test. The format:
///
///     load {app="web"}                 records of a stream: time, optional metadata in [], line
///       1s [trace_id="ab"] the line
///     eval logs 0s 10s {app="web"}     start, end (exclusive); options `forward`, `limit=2`, `interval=1s` before the query
///       1s {app="web"} [trace_id="ab"] <a="parsed"> the line
///     eval range 0s 60s 10s count_over_time({}[10s])
///       {app="web"} _ 1 2              values by step, _ for none
///     eval instant 60s sum(…)
///       {} 3
///     eval fail {app=                  parses and runs as a log query or metric query over 0s…100s
///       parse error at line 1, col 6: …
///     clear
///
/// Empty groups are left out of an expected entry, as is `detected_level="unknown"`. `\n` in a query or line is a newline.
final class LogQLConformanceTests: XCTestCase {
    func testFixtures() throws {
        for (file, text) in try fixtures("logql") {
            var store = InMemoryStore()
            for block in blocks(text) {
                if block.head == "clear" { store = InMemoryStore() } else { try run(block, store, file: file) }
            }
        }
    }

    private func run(_ block: FixtureBlock, _ store: InMemoryStore, file: String) throws {
        let place = "\(file):\(block.line) \(block.head)"
        var words = Words(block.head)
        switch words.next() {
        case "load": try load(words.rest, block.body, store)
        case "eval":
            do {
                let found = try evaluate(&words, store)
                XCTAssertEqual(found, block.body, place)
            } catch let error as ObsError {
                guard block.head.hasPrefix("eval fail") else { return XCTFail("\(place): \(error)") }
                let wanted = block.body.joined(separator: "\n")
                XCTAssertTrue(error.message.contains(wanted), "\(place): \(error.message)")
            }
        default: XCTFail("\(place): unknown command")
        }
    }

    private func load(_ selector: String, _ lines: [String], _ store: InMemoryStore) throws {
        var batch = LogBatch()
        let labels = Labels(try parseLogSelector(selector).map { ($0.name, $0.value) })
        batch.streams = [batch.bytes.intern(labels.bytes)]
        for line in lines {
            var words = Words(line)
            let time = try nanos(words.next())
            var attributes: [UInt8] = []
            var traceID = TraceID.none
            var severity: UInt8 = 0
            if words.rest.hasPrefix("[") {
                let end = try XCTUnwrap(words.rest.firstIndex(of: "]"))
                for matcher in try parseLogSelector("{" + words.rest[words.rest.index(after: words.rest.startIndex)..<end] + "}") {
                    switch matcher.name {
                    case "trace_id": traceID = try XCTUnwrap(TraceID(hex: matcher.value))
                    case "level": severity = Severity.number(Array(matcher.value.utf8))
                    default: attributes.appendAttribute(matcher.name.utf8, .string(matcher.value))
                    }
                }
                words.rest = String(words.rest[words.rest.index(after: end)...].drop { $0 == " " })
            }
            let text = words.rest.replacingOccurrences(of: "\\e", with: "\u{1b}")
            let range = batch.bytes.intern(text.utf8)
            let list = batch.bytes.intern(attributes)
            batch.appendRow(stream: 0, timeNanos: time, severity: severity, line: range, attributes: list, traceID: traceID)
        }
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
    }

    private func evaluate(_ words: inout Words, _ store: InMemoryStore) throws -> [String] {
        let engine = LogQLEngine(reader: store)
        let context = QueryContext(tenant: .default)
        switch words.next() {
        case "logs":
            let start = try nanos(words.next())
            let end = try nanos(words.next())
            var direction = LogSelection.Direction.backward
            var limit = 100
            var interval: Int64 = 0
            while true {
                var ahead = words
                let word = ahead.next()
                if word == "forward" {
                    direction = .forward
                } else if word.hasPrefix("limit=") {
                    limit = Int(word.dropFirst(6)) ?? 0
                } else if word.hasPrefix("interval=") {
                    interval = try nanos(String(word.dropFirst(9)))
                } else {
                    break
                }
                words = ahead
            }
            let result = try engine.range(
                query(words), startNanos: start, endNanos: end, stepNanos: nil, intervalNanos: interval, limit: limit, direction: direction, context: context)
            return render(result)
        case "range":
            let start = try nanos(words.next())
            let end = try nanos(words.next())
            let step = try nanos(words.next())
            let result = try engine.range(
                query(words), startNanos: start, endNanos: end, stepNanos: step, intervalNanos: 0, limit: 100, direction: .backward, context: context)
            guard case .matrix(let series) = result else { return render(result) }
            return series.map { one in
                let points = Dictionary(uniqueKeysWithValues: zip(one.timesMillis, one.values))
                return
                    ([text(one.labels)] + stride(from: start, through: end, by: Int64.Stride(step)).map { points[$0 / 1_000_000].map(formatSampleValue) ?? "_" })
                    .joined(separator: " ")
            }
        case "instant":
            let at = try nanos(words.next())
            return render(try engine.instant(query(words), atNanos: at, limit: 100, direction: .backward, context: context))
        default:
            return render(
                try engine.range(
                    query(words), startNanos: 0, endNanos: 100_000_000_000, stepNanos: nil, intervalNanos: 0, limit: 100, direction: .backward, context: context
                ))
        }
    }

    private func query(_ words: Words) -> String { words.rest.replacingOccurrences(of: "\\N", with: "\n") }

    private func render(_ result: LogQLResult) -> [String] {
        switch result {
        case .streams(let streams):
            streams.flatMap { stream in
                stream.entries.map { entry in
                    var parts = ["\(formatDuration(millis: entry.timeNanos / 1_000_000))", text(stream.labels)]
                    let metadata = entry.structuredMetadata.pairs.filter { $0 != ("detected_level", "unknown") }
                    if !metadata.isEmpty { parts.append("[\(list(metadata))]") }
                    if !entry.parsed.isEmpty { parts.append("<\(list(entry.parsed.pairs))>") }
                    parts.append(String(decoding: entry.line, as: UTF8.self))
                    return parts.joined(separator: " ").trimmingCharacters(in: .whitespaces)
                }
            }
        case .matrix(let series): series.map { "\(text($0.labels)) \($0.values.map(formatSampleValue).joined(separator: " "))" }
        case .vector(let samples): samples.map { "\(text($0.labels)) \(formatSampleValue($0.value))" }
        case .scalar(let value): ["scalar \(formatSampleValue(value))"]
        }
    }

    private func text(_ labels: Labels) -> String { "{\(list(labels.pairs.filter { $0 != ("detected_level", "unknown") }))}" }
    private func list(_ pairs: [(name: String, value: String)]) -> String {
        pairs.map { "\($0.name)=\"\(escapedForQuotes($0.value))\"" }.joined(separator: ", ")
    }
}
