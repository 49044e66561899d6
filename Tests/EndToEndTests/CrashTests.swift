// What was acknowledged survives `kill -9`, and nothing is stored twice.
//
// Writers of every protocol number what they send and remember which requests were answered. The daemon is killed at a moment nobody chose, again and again on one
// data folder, while another thread asks for flushes, so that kills also hit segments being written and logs being deleted. After every start:
//  - a record of an acknowledged request is there, exactly once;
//  - a record of a request without an answer is there once or not at all, and a request is there whole or not at all (it is one record of the log);
//  - a record of a refused request is not there;
//  - rounds that were checked before still hold exactly what they held then.
import Foundation
import ObsCompress
import ObsCore
import ObsNet
import ObsWire
import XCTest

final class CrashTests: XCTestCase {
    /// `OBS_CRASH_ROUNDS=100 swift test --filter CrashTests` for the long run.
    private static let rounds = Int(ProcessInfo.processInfo.environment["OBS_CRASH_ROUNDS"] ?? "") ?? 20

    func testNothingAcknowledgedIsLostAndNothingDoubled() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        var kept: [[Protocol: Set<Int>]] = []
        var restarts: [Double] = []
        var unanswered = 0
        for round in 0..<Self.rounds {
            let sent = Dictionary(grouping: try ingestUntilKilled(obsd, round: round), by: \.kind)
            let began = Date()
            try obsd.start()
            restarts.append(Date().timeIntervalSince(began))
            let check = Check(obsd: obsd, round: round)
            var found: [Protocol: Set<Int>] = [:]
            for kind in Protocol.allCases {
                found[kind] = try check.found(kind, sent[kind] ?? [])
                unanswered += sent[kind]?.count { $0.outcome == .unanswered } ?? 0
            }
            kept.append(found)
            try checkTotals(obsd, kept)
        }
        // Once more what each round left, record by record, now that everything went through flushes and replays.
        _ = try obsd.post("/-/flush", "")
        for round in 0..<Self.rounds {
            for kind in Protocol.allCases where kind != .otlpTraces {
                XCTAssertEqual(try Check(obsd: obsd, round: round).records(kind, []).sorted(), kept[round][kind]?.sorted(), "\(kind) \(round)")
            }
        }
        try checkAllTraces(obsd, kept)
        let total = kept.reduce(0) { $0 + $1.values.reduce(0) { $0 + $1.count } }
        let segments = try obsd.json("/api/status")["signals"]?[0]?["segments"]?.int64 ?? 0
        print("crash: \(total) records kept, \(unanswered) requests unanswered, \(segments) metric segments; restarts in ms:", restarts.map { Int($0 * 1000) })
        XCTAssertGreaterThan(segments, 1, "no flush was hit")
        XCTAssertLessThan(restarts.max() ?? 0, 30)
    }

    /// Starts the writers, waits until each was answered, kills at a random moment after.
    private func ingestUntilKilled(_ obsd: ObsdProcess, round: Int) throws -> [Sent] {
        let writers = Protocol.allCases.flatMap { kind in (0..<2).map { Writer(kind, index: $0, round: round, http: obsd.http, otlp: obsd.otlp) } }
        let flusher = Flusher(http: obsd.http)
        let threads = writers.map { writer in Joinable { writer.run() } } + [Joinable { flusher.run() }]
        let answered = try eventually({ writers.allSatisfy(\.wasAnswered) }, until: { $0 })
        XCTAssertTrue(answered, "round \(round): \(obsd.logText)")
        usleep(UInt32.random(in: 10_000...200_000))
        // Every other time soon after a flush began: somewhere between its first byte and the log's deletion.
        if round % 2 == 1 { flusher.waitForNext() }
        usleep(UInt32.random(in: 0...30_000))
        obsd.crash()
        flusher.stop()
        for writer in writers { writer.stop() }
        for thread in threads { thread.join() }
        return writers.flatMap(\.sent)
    }

    private func checkAllTraces(_ obsd: ObsdProcess, _ kept: [[Protocol: Set<Int>]]) throws {
        var spans: [Int64] = []
        let query = [("q", "{ resource.service.name = \"crash\" }"), ("limit", "1000000"), ("spss", "1")]
        try obsd.json("/api/search", query)["traces"]?.forEachElement { spans.append($0["serviceStats"]?["crash"]?["spanCount"]?.int64 ?? 0) }
        let traces = kept.reduce(0) { $0 + ($1[.otlpTraces]?.count ?? 0) } / Sent.records
        XCTAssertEqual(spans, [Int64](repeating: Int64(Sent.records), count: traces))
    }

    private func checkTotals(_ obsd: ObsdProcess, _ kept: [[Protocol: Set<Int>]]) throws {
        let expected = kept.map { $0[.remoteWrite]?.count ?? 0 }
        var samples = [Int](repeating: 0, count: kept.count)
        try obsd.json("/api/v1/query", [("query", "sum by (round) (count_over_time(crash_record[2h]))")])["data"]?["result"]?.forEachElement { series in
            samples[Int(series["metric"]?["round"]?.string ?? "") ?? 0] = Int(series["value"]?[1]?.string ?? "") ?? 0
        }
        XCTAssertEqual(samples, expected)
        for kind in [Protocol.jsonLines, .loki] {
            var lines = [Int](repeating: 0, count: kept.count)
            let query = "sum by (round) (count_over_time({kind=\"\(kind)\"}[2h]))"
            try obsd.json("/loki/api/v1/query", [("query", query)])["data"]?["result"]?.forEachElement { series in
                lines[Int(series["metric"]?["round"]?.string ?? "") ?? 0] = Int(series["value"]?[1]?.string ?? "") ?? 0
            }
            XCTAssertEqual(lines, kept.map { $0[kind]?.count ?? 0 }, "\(kind)")
        }
    }
}

private enum Protocol: String, CaseIterable { case remoteWrite, jsonLines, loki, otlpTraces }

/// One request and what became of it. Its records are numbered `first..<first + Sent.records`.
private struct Sent {
    enum Outcome { case acknowledged, unanswered, refused }
    static let records = 10
    var kind: Protocol
    var first: Int
    var outcome: Outcome
    var numbers: Range<Int> { first..<first + Self.records }
}

/// Where records of a round lie in time: a microsecond apart, in the past, writers and protocols apart.
private enum Numbering {
    static let startMillis = Int64(Date().timeIntervalSince1970 * 1000) - 3_600_000
    /// Requests of one writer in one round, so that one log query shows them all.
    static let requestsMax = 150
    static let perWriter = requestsMax * Sent.records
    static func nanos(_ number: Int) -> Int64 { startMillis * 1_000_000 + Int64(number) * 1000 }
    static func millis(_ number: Int) -> Int64 { startMillis + Int64(number) }
    static func traceID(_ number: Int, round: Int) -> [UInt8] { bigEndian(UInt64(round + 1)) + bigEndian(UInt64(number / Sent.records + 1)) }
    static func bigEndian(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * $0)) } }
}

/// Sends requests one after the other until one gets no answer.
private final class Writer: @unchecked Sendable {  // state is under `state`; `sent` is read after the thread was joined
    private let kind: Protocol
    private let index: Int
    private let round: Int
    private let url: String
    private let client = HTTPClient()
    private let state = Monitor((answered: false, stopping: false))
    private(set) var sent: [Sent] = []

    init(_ kind: Protocol, index: Int, round: Int, http: String, otlp: String) {
        self.kind = kind
        self.index = index
        self.round = round
        switch kind {
        case .remoteWrite: url = "http://\(http)/api/v1/write"
        case .jsonLines: url = "http://\(http)/insert/jsonline?_stream_fields=kind,round,writer&_time_field=t"
        case .loki: url = "http://\(http)/loki/api/v1/push"
        case .otlpTraces: url = "http://\(otlp)/v1/traces"
        }
    }

    var wasAnswered: Bool { state.read { $0.answered } }
    func stop() { state.update { $0.stopping = true } }

    func run() {
        for request in 0..<Numbering.requestsMax where !state.read({ $0.stopping }) {
            let first = index * Numbering.perWriter + request * Sent.records
            let outcome = post(body(first..<first + Sent.records))
            sent.append(Sent(kind: kind, first: first, outcome: outcome))
            if outcome == .unanswered { return }
            if outcome == .acknowledged { state.update { $0.answered = true } }
        }
    }

    private func post(_ body: [UInt8]) -> Sent.Outcome {
        let type = [Protocol.remoteWrite: "application/x-protobuf", .otlpTraces: "application/x-protobuf"][kind] ?? "application/json"
        let headers: [(name: String, value: String)] = [("Content-Type", type)] + (kind == .remoteWrite ? [("Content-Encoding", "snappy")] : [])
        guard let answer = try? client.perform(HTTPClientRequest(url: url, method: "POST", headers: headers, body: body)) else { return .unanswered }
        return (200..<300).contains(answer.status) ? .acknowledged : .refused
    }

    private func body(_ numbers: Range<Int>) -> [UInt8] {
        switch kind {
        case .remoteWrite: remoteWrite(numbers)
        case .jsonLines:
            Array(
                numbers.map { "{\"kind\":\"jsonLines\",\"round\":\"\(round)\",\"writer\":\"\(index)\",\"t\":\(Numbering.nanos($0)),\"msg\":\"\($0)\"}\n" }
                    .joined().utf8)
        case .loki:
            Array(
                """
                {"streams":[{"stream":{"kind":"loki","round":"\(round)","writer":"\(index)"},
                "values":[\(numbers.map { "[\"\(Numbering.nanos($0))\",\"\($0)\"]" }.joined(separator: ","))]}]}
                """.utf8)
        case .otlpTraces: traces(numbers)
        }
    }

    /// Ten samples over two series.
    private func remoteWrite(_ numbers: Range<Int>) -> [UInt8] {
        var request = ProtobufWriter()
        for half in 0..<2 {
            request.message(1) { series in
                let labels = [("__name__", "crash_record"), ("half", "\(half)"), ("round", "\(round)"), ("writer", "\(index)")]
                for (name, value) in labels {
                    series.message(1) {
                        $0.string(1, name)
                        $0.string(2, value)
                    }
                }
                for number in numbers where number % 2 == half {
                    series.message(2) {
                        $0.double(1, Double(number))
                        $0.int(2, Numbering.millis(number))
                    }
                }
            }
        }
        return snappyCompress(request.bytes)
    }

    /// One trace of ten spans.
    private func traces(_ numbers: Range<Int>) -> [UInt8] {
        var request = ProtobufWriter()
        request.message(1) { resourceSpans in
            resourceSpans.message(1) { resource in
                resource.message(1) { attribute in
                    attribute.string(1, "service.name")
                    attribute.message(2) { $0.string(1, "crash") }
                }
            }
            resourceSpans.message(2) { scopeSpans in
                for number in numbers {
                    scopeSpans.message(2) { span in
                        span.bytes(1, Numbering.traceID(number, round: round))
                        span.bytes(2, Numbering.bigEndian(UInt64(number + 1)))
                        span.string(5, "\(number)")
                        span.fixed64(7, UInt64(Numbering.nanos(number)))
                        span.fixed64(8, UInt64(Numbering.nanos(number) + 500))
                    }
                }
            }
        }
        return request.bytes
    }
}

/// Asks for flushes at random moments.
private final class Flusher: Sendable {
    private let http: String
    private let stopping = Monitor(false)
    private let asked = Monitor(0)
    init(http: String) { self.http = http }
    func stop() { stopping.update { $0 = true } }
    func waitForNext() {
        let before = asked.read { $0 }
        _ = asked.wait(timeoutNanos: 10 * nanosPerSecond) { $0 > before ? () : nil }
    }
    func run() {
        let client = HTTPClient()
        while stopping.wait(timeoutNanos: Int64.random(in: 0...150) * nanosPerMilli, until: { $0 ? () : nil }) == nil {
            asked.update { $0 += 1 }
            _ = try? client.perform(HTTPClientRequest(url: "http://\(http)/-/flush", method: "POST"))
        }
    }
}

/// A thread that can be waited for.
private final class Joinable: Sendable {
    private let done = Monitor(false)
    init(_ body: @escaping @Sendable () -> Void) {
        startThread("writer") { [done] in
            body()
            done.update { $0 = true }
        }
    }
    func join() { done.wait { $0 ? () : nil } }
}

/// What the daemon holds of a round.
private struct Check {
    let obsd: ObsdProcess
    let round: Int

    /// The numbers found, having been held against what was sent.
    func found(_ kind: Protocol, _ sent: [Sent]) throws -> Set<Int> {
        let records = try records(kind, sent)
        let found = Set(records)
        XCTAssertEqual(
            records.count, found.count, "\(kind) in round \(round): doubled \(Dictionary(grouping: records, by: \.self).filter { $0.value.count > 1 }.keys)")
        for request in sent {
            let there = request.numbers.count { found.contains($0) }
            switch request.outcome {
            case .acknowledged: XCTAssertEqual(there, Sent.records, "\(kind) in round \(round): acknowledged request \(request.first)")
            case .unanswered: XCTAssertTrue(there == 0 || there == Sent.records, "\(kind) in round \(round): \(there) records of a request without answer")
            case .refused: XCTAssertEqual(there, 0, "\(kind) in round \(round): refused request \(request.first)")
            }
        }
        XCTAssertEqual(found.subtracting(sent.flatMap(\.numbers)), [], "\(kind) in round \(round): never sent")
        return found
    }

    /// The numbers of all records, doubles included.
    func records(_ kind: Protocol, _ sent: [Sent]) throws -> [Int] {
        var numbers: [Int] = []
        switch kind {
        case .remoteWrite:
            try obsd.json("/api/v1/query", [("query", "crash_record{round=\"\(round)\"}[2h]")])["data"]?["result"]?.forEachElement { series in
                series["values"]?.forEachElement { point in
                    let number = Int(point[1]?.string ?? "") ?? -1
                    XCTAssertEqual((point[0]?.double ?? 0) * 1000, Double(Numbering.millis(number)), accuracy: 0.5)
                    numbers.append(number)
                }
            }
        case .jsonLines, .loki:
            for writer in 0..<2 {
                for line in try obsd.logLines("{kind=\"\(kind)\", round=\"\(round)\", writer=\"\(writer)\"}", since: 7200) {
                    let number = kind == .loki ? Int(line) : try JSONDocument.parse(Array(line.utf8)).root["msg"]?.string.flatMap { Int($0) }
                    numbers.append(number ?? -1)
                }
            }
        case .otlpTraces:
            for request in sent {
                let answer = try obsd.get("/jaeger/api/traces/" + hexString(Numbering.traceID(request.first, round: round)))
                if answer.status == 404 { continue }
                try JSONDocument.parse(answer.body).root["data"]?[0]?["spans"]?.forEachElement { numbers.append(Int($0["operationName"]?.string ?? "") ?? -1) }
            }
        }
        return numbers
    }
}
