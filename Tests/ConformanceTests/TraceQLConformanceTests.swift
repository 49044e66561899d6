import Foundation
import ObsCore
import ObsStore
import ObsTestSupport
import ObsTraceQL
import XCTest

/// Runs Tests/Fixtures/traceql/*.test. The format:
///
///     load                             spans: trace, span, parent (- for none), service, start, duration, name, then in any order a kind,
///       a1 1 - front 1s 100ms GET server error http.code=500 r.env="p" event=exception event.type="x" link=b1/2 tags=[a,b]
///     eval 0s 10s { .x = 1 }           start, end (exclusive); options `limit=2`, `spss=1`, `attributes` before the query
///       a1: 1 3 | 2                    a trace and its span sets, newest first; a set's attributes as `[count()=2]` after it
///     eval summary 0s 10s {}           trace, root service, root name, start, duration, spans and errors by service
///       a1 front GET 1s 100ms back=1/1 front=2/0
///     eval fail { .x                   a part of the error
///       parse error at line 1, col 6: …
///     clear
///
/// Attribute keys that begin with `r.` belong to the resource, with `i.` to the scope. A `_` in a name stands for a blank.
final class TraceQLConformanceTests: XCTestCase {
    func testFixtures() throws {
        for (file, text) in try fixtures("traceql") {
            var store = InMemoryStore()
            for block in blocks(text) {
                let place = "\(file):\(block.line) \(block.head)"
                var words = Words(block.head)
                switch words.next() {
                case "clear": store = InMemoryStore()
                case "load": for line in block.body { try load(line, store) }
                case "eval":
                    do {
                        let found = try evaluate(&words, store)
                        XCTAssertEqual(found, block.body, place)
                    } catch let error as ObsError {
                        guard block.head.hasPrefix("eval fail") else {
                            XCTFail("\(place): \(error)")
                            continue
                        }
                        let wanted = block.body.joined(separator: "\n")
                        XCTAssertTrue(error.message.contains(wanted), "\(place): \(error.message)")
                    }
                default: XCTFail("\(place): unknown command")
                }
            }
        }
    }

    private func load(_ line: String, _ store: InMemoryStore) throws {
        var words = Words(line)
        let trace = try XCTUnwrap(TraceID(hex: words.next()))
        let span = try XCTUnwrap(UInt64(words.next(), radix: 16))
        let parent = UInt64(words.next(), radix: 16) ?? 0
        let service = words.next()
        let start = try nanos(words.next())
        let duration = try nanos(words.next())
        let name = words.next().replacingOccurrences(of: "_", with: " ")
        var resource: [UInt8] = []
        resource.appendAttribute("service.name".utf8, .string(service))
        var attributes: [UInt8] = []
        var scope: [UInt8] = []
        var event: (name: String, attributes: [UInt8])?
        var links: [UInt8] = []
        var kind: UInt8 = 0
        var status: UInt8 = 0
        while !words.rest.isEmpty {
            let word = words.next()
            guard let equals = word.firstIndex(of: "=") else {
                if let index = SpanKind.words.firstIndex(of: word) { kind = UInt8(index) }
                if let index = SpanStatus.words.firstIndex(of: word) { status = UInt8(index) }
                continue
            }
            let key = String(word[..<equals])
            let text = String(word[word.index(after: equals)...])
            if key == "event" {
                event = (text, [])
            } else if key == "link" {
                let parts = text.split(separator: "/")
                links.appendSpanLink(
                    traceID: try XCTUnwrap(TraceID(hex: parts[0])), spanID: try XCTUnwrap(UInt64(parts[1], radix: 16)), traceState: [], attributeList: [],
                    droppedAttributes: 0, flags: 0)
            } else if key.hasPrefix("event.") {
                event?.attributes.appendAttribute(key.dropFirst(6).utf8, value(text))
            } else if key.hasPrefix("r.") {
                resource.appendAttribute(key.dropFirst(2).utf8, value(text))
            } else if key.hasPrefix("i.") {
                scope.appendAttribute((key == "i.name" ? "name" : "attr." + key.dropFirst(2)).utf8, value(text))
            } else {
                attributes.appendAttribute(key.utf8, value(text))
            }
        }
        var events: [UInt8] = []
        if let event { events.appendSpanEvent(timeNanos: start + 1_000_000, name: event.name.utf8, attributeList: event.attributes, droppedAttributes: 0) }
        var batch = SpanBatch()
        batch.resources.append(batch.bytes.intern(resource))
        batch.services.append(batch.bytes.intern(service.utf8))
        batch.scopes.append(batch.bytes.intern(scope))
        let ranges = [Array(name.utf8), attributes, events, links].map { batch.bytes.intern($0) }
        batch.appendRow(
            traceID: trace, spanID: span, parentID: parent, startNanos: start, durationNanos: duration, kind: kind, status: status, name: ranges[0],
            attributes: ranges[1], events: ranges[2], links: ranges[3], resource: 1, scope: 1)
        _ = try store.appendAndWait(batch, origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
    }

    private func value(_ text: String) -> AttributeValue {
        if text.hasPrefix("\"") { return .string(String(text.dropFirst().dropLast())) }
        if text.hasPrefix("[") {
            return .list("[" + text.dropFirst().dropLast().split(separator: ",").map { Int($0) == nil ? "\"\($0)\"" : "\($0)" }.joined(separator: ",") + "]")
        }
        if text == "true" || text == "false" { return .bool(text == "true") }
        if let number = Int64(text) { return .int(number) }
        return Double(text).map { .double($0) } ?? .string(text)
    }

    private func evaluate(_ words: inout Words, _ store: InMemoryStore) throws -> [String] {
        let engine = TraceQLEngine(reader: store)
        let context = QueryContext(tenant: .default)
        var limit = 20
        var spansPerSet = 100
        var summary = false
        var withAttributes = false
        var times: [Int64] = []
        while true {
            var ahead = words
            let word = ahead.next()
            if word == "summary" {
                summary = true
            } else if word == "attributes" {
                withAttributes = true
            } else if word == "fail" {
                times = [0, 1_000_000_000_000]
            } else if word.hasPrefix("limit=") {
                limit = try XCTUnwrap(Int(word.dropFirst(6)))
            } else if word.hasPrefix("spss=") {
                spansPerSet = try XCTUnwrap(Int(word.dropFirst(5)))
            } else if times.count < 2, parseDurationMillis(word) != nil {
                times.append(try nanos(word))
            } else {
                break
            }
            words = ahead
        }
        let query = words.rest.replacingOccurrences(of: "\\N", with: "\n")
        let found: [TraceSummary]
        if query.hasPrefix("tags ") {
            let tags = query.dropFirst(5).split(separator: " ").map { $0.split(separator: "=") }.map { (key: String($0[0]), value: String($0[1])) }
            found = try engine.search(
                tags: tags.filter { !$0.key.hasSuffix("Duration") }, durationNanosMin: try tags.first { $0.key == "minDuration" }.map { try nanos($0.value) },
                durationNanosMax: try tags.first { $0.key == "maxDuration" }.map { try nanos($0.value) }, startNanos: times[0], endNanos: times[1],
                limit: limit,
                context: context)
        } else {
            found = try engine.search(query, startNanos: times[0], endNanos: times[1], limit: limit, spansPerSet: spansPerSet, context: context)
        }
        return found.map { trace in
            let id = String(trace.traceID.description.drop { $0 == "0" })
            if summary {
                return
                    ([
                        id, trace.rootServiceName, trace.rootTraceName, formatDuration(millis: trace.startNanos / 1_000_000),
                        formatDuration(millis: trace.durationNanos / 1_000_000),
                    ] + trace.serviceStats.map { "\($0.service)=\($0.spanCount)/\($0.errorCount)" }).joined(separator: " ")
            }
            let sets = trace.spanSets.map { set in
                (set.spans.map { span in
                    String(span.spanID, radix: 16)
                        + (withAttributes ? "(" + span.attributes.map { "\($0.key)=\($0.value.text)" }.joined(separator: ",") + ")" : "")
                } + (set.attributes.isEmpty ? [] : ["[" + set.attributes.map { "\($0.key)=\($0.value.text)" }.joined(separator: ",") + "]"])
                    + (set.matched > set.spans.count ? ["of \(set.matched)"] : [])).joined(separator: " ")
            }
            return sets.isEmpty ? "\(id):" : "\(id): " + sets.joined(separator: " | ")
        }
    }
}
