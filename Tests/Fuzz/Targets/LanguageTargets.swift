// Queries, and the texts operators and rules write. A query printed and parsed again prints the same.
import ObsCore
@testable import ObsLogQL
@testable import ObsPromQL
@testable import ObsRules
@testable import ObsTraceQL

let languageTargets: [FuzzTarget] = [
    FuzzTarget("promql") { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        _ = try? parseSelector(text)
        let expression = try parsePromQL(text)
        let printed = expression.description
        _ = expression.formatted
        guard let again = try? parsePromQL(printed) else { preconditionFailure("does not parse: \(printed)") }
        precondition(again.description == printed, "\(printed) became \(again.description)")
    },
    FuzzTarget("logql") { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        _ = try? parseLogSelector(text)
        _ = try? parseLogDeletion(text)
        _ = try? parseLogDeletion(text)
        if let query = try? CompiledLogQuery(text) { _ = query.process(logLine, row: 0) }
        let printed = try parseLogQL(text).description
        guard let again = try? parseLogQL(printed) else { preconditionFailure("does not parse: \(printed)") }
        precondition(again.description == printed, "\(printed) became \(again.description)")
    },
    FuzzTarget("logql-lines") { bytes in
        guard let number = bytes.first else { return }
        let query = lineQueries[Int(number) % lineQueries.count]
        _ = query.process(logBatch(Array(bytes.dropFirst())), row: 0)
    },
    FuzzTarget("traceql") { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        if let filter = try? CompiledSpanFilter(text) { _ = filter.matches(oneSpan, row: 0) }
        _ = try? parseSpanSelector(text)
        _ = try parseTraceQL(text)
    },
    FuzzTarget("alert-template") { bytes in
        let context = TemplateContext(
            labels: Labels([("job", "node"), ("instance", "h:1")]), value: 1.5, externalLabels: .empty, externalURL: "http://x/", nowMillis: 1_700_000_000_000
        ) { _ throws(ObsError) in [RuleSample(labels: Labels([("a", "b")]), value: 2)] }
        _ = try AlertTemplate(String(decoding: bytes, as: UTF8.self)).expand(context)
    },
    FuzzTarget("alert-state") { bytes in
        let state = try AlertStateFile(bytes, now: 1_700_000_000_000)
        let again = required { try AlertStateFile(state.bytes, now: 1_700_000_000_000) }
        precondition(again.bytes == state.bytes)
    },
]

private func logBatch(_ line: [UInt8]) -> LogBatch {
    var batch = LogBatch()
    batch.streams = [batch.bytes.intern(Labels([("app", "x"), ("env", "prod")]).bytes)]
    batch.appendRow(stream: 0, timeNanos: 1_700_000_000_000_000_000, severity: 9, line: batch.bytes.intern(line))
    return batch
}

private let logLine = logBatch(Array(#"level=info status=200 took=1.5s msg="{\"a\":[1,{\"b\":2}]}""#.utf8))

private let lineQueries: [CompiledLogQuery] = [
    "{app=\"x\"} | json", "{app=\"x\"} | logfmt", "{app=\"x\"} | json a=\"b.c[0]\", d=\"e\"", "{app=\"x\"} | logfmt --strict", "{app=\"x\"} | unpack",
    "{app=\"x\"} | pattern `<ip> - <_> [<time>] \"<method> <path>\" <status>`", "{app=\"x\"} | regexp `(?P<a>\\w+)=(?P<b>.*)`", "{app=\"x\"} | decolorize",
    "{app=\"x\"} |= ip(`10.0.0.0/8`)", "{app=\"x\"} | json | took > 1s | size < 1KB | code >= 500",
    "{app=\"x\"} | line_format `{{ __line__ | trunc 5 | ToUpper }}{{ .app | replace \"x\" __line__ }}`",
    "{app=\"x\"} | logfmt | label_format a=`{{ .a | toDate \"2006-01-02\" }}` | keep a",
].compactMap { try? CompiledLogQuery($0) }

private let oneSpan: SpanBatch = {
    var batch = SpanBatch()
    batch.services[0] = batch.bytes.intern("s".utf8)
    batch.appendRow(
        traceID: TraceID(high: 0, low: 1), spanID: 1, parentID: 0, startNanos: 0, durationNanos: 5, kind: 2, status: 2, name: batch.bytes.intern("n".utf8))
    return batch
}()
