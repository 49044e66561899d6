import Foundation
import ObsCore
import ObsPromQL

/// A file of PromQL cases in the notation of Prometheus' promqltest: `load`, `clear`, `eval`, what they expect. Reading only; who runs it brings the engine.
struct PromQLTestFile: Sendable {
    enum Command: Sendable {
        case clear
        /// With native histograms made of the classic ones if so asked.
        case load([Series], withHistograms: Bool)
        case eval(Evaluation)
    }

    /// A series and its values, one every step from time 0; nil where there is none.
    struct Series: Sendable {
        var labels: Labels
        var stepMillis: Int64
        var values: [Value?]
        /// How long after (or, below 0, before) each value's time its counting began; nil where not said.
        var startOffsetsMillis: [Int64?] = []
    }

    enum Value: Sendable {
        case number(Double)
        /// - Parameter tellsReset: whether what it says of counter resets matters.
        case histogram(FloatHistogram, tellsReset: Bool)
    }

    /// What an annotation or an error must be.
    enum Text: Sendable {
        case any
        case exact(String)
        case pattern(String)
    }

    struct Evaluation: Sendable {
        var line: Int
        var expression: String
        var startMillis: Int64 = 0
        var endMillis: Int64 = 0
        /// 0: an instant query at `startMillis`.
        var stepMillis: Int64 = 0
        var fails: Text?
        var warns: [Text] = []
        var informs: [Text] = []
        var noWarnings = false
        var noInfos = false
        var ordered = false
        var string: String?
        var scalar: Double?
        /// Of an instant query that gives a range vector: where its samples are expected.
        var matrix: (startMillis: Int64, stepMillis: Int64)?
        var series: [Series] = []
    }

    private(set) var commands: [Command] = []

    /// - Throws: `.badInput` with the line that cannot be read.
    init(_ text: String) throws(ObsError) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { trimmed($0) }.map { $0.hasPrefix("#") ? "" : $0 }
        var at = 0
        while at < lines.count {
            let line = lines[at]
            let start = at
            at += 1
            if line.isEmpty { continue }
            var block: [String] = []
            if line.hasPrefix("load") || line.hasPrefix("eval") {
                while at < lines.count, !lines[at].isEmpty {
                    block.append(lines[at])
                    at += 1
                }
            }
            do { try read(line, block, start + 1) } catch { throw ObsError(.badInput, "line \(start + 1): \(error.message): \(line)") }
        }
    }

    private mutating func read(_ line: String, _ block: [String], _ number: Int) throws(ObsError) {
        let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
        switch words[0] {
        case "clear": commands.append(.clear)
        case "load", "load_with_nhcb":
            guard words.count == 2, let step = millis(words[1]) else { throw ObsError(.badInput, "bad load") }
            var series: [Series] = []
            var starts: [Int64?] = []
            for line in block {
                let name = line.prefix { !$0.isWhitespace }
                if name.hasSuffix("@st") {
                    starts = try parseStarts(trimmed(line.dropFirst(name.count)))
                    continue
                }
                var one = try parseSeries(line, step)
                (one.startOffsetsMillis, starts) = (starts, [])
                series.append(one)
            }
            commands.append(.load(series, withHistograms: words[0] == "load_with_nhcb"))
        default:
            guard words[0].hasPrefix("eval") else { throw ObsError(.badInput, "unknown command") }
            commands.append(.eval(try evaluation(line, words, block, number)))
        }
    }

    private func evaluation(_ line: String, _ words: [String], _ block: [String], _ number: Int) throws(ObsError) -> Evaluation {
        var evaluation = Evaluation(line: number, expression: "")
        let header: Int
        switch words.count > 3 ? words[1] : "" {
        case "instant":
            guard words[2] == "at", let at = millis(words[3]) else { throw ObsError(.badInput, "bad time") }
            (evaluation.startMillis, evaluation.endMillis) = (at, at)
            header = 4
        case "range":
            guard words.count > 8, words[2] == "from", words[4] == "to", words[6] == "step", let from = millis(words[3]), let to = millis(words[5]),
                let step = millis(words[7])
            else { throw ObsError(.badInput, "bad range") }
            (evaluation.startMillis, evaluation.endMillis, evaluation.stepMillis) = (from, to, step)
            header = 8
        default: throw ObsError(.badInput, "bad eval")
        }
        evaluation.expression = rest(of: line, afterWords: header)
        switch words[0] {
        case "eval_fail": evaluation.fails = .any
        case "eval_ordered": evaluation.ordered = true
        case "eval_warn": evaluation.warns = [.any]
        case "eval_info": evaluation.informs = [.any]
        default: break
        }
        for line in block { try expect(line, &evaluation) }
        return evaluation
    }

    private func expect(_ line: String, _ evaluation: inout Evaluation) throws(ObsError) {
        guard line.hasPrefix("expect ") || line.hasPrefix("expected_fail") else {
            if let value = number(line) {
                evaluation.scalar = value
            } else {
                evaluation.series.append(try parseSeries(line, evaluation.stepMillis))
            }
            return
        }
        if line.hasPrefix("expected_fail_message") {
            evaluation.fails = .exact(rest(of: line, afterWords: 1))
            return
        }
        if line.hasPrefix("expected_fail_regexp") {
            evaluation.fails = .pattern(rest(of: line, afterWords: 1))
            return
        }
        let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
        let text = expectedText(rest(of: line, afterWords: 2))
        switch words[1] {
        case "fail": evaluation.fails = text
        case "warn": evaluation.warns.append(text)
        case "info": evaluation.informs.append(text)
        case "no_warn": evaluation.noWarnings = true
        case "no_info": evaluation.noInfos = true
        case "ordered": evaluation.ordered = true
        case "string":
            evaluation.string = unquoted(rest(of: line, afterWords: 2))
        case "range":
            guard words.count == 9, let from = millis(words[4]), let step = millis(words[8]) else { throw ObsError(.badInput, "bad expectation") }
            evaluation.matrix = (from, step)
        default: throw ObsError(.badInput, "unknown expectation")
        }
    }

    private func expectedText(_ text: String) -> Text {
        if text.hasPrefix("msg:") { return .exact(trimmed(text.dropFirst(4))) }
        if text.hasPrefix("regex:") { return .pattern(trimmed(text.dropFirst(6))) }
        return .any
    }
}

// MARK: series notation

extension PromQLTestFile {
    /// `metric{a="b"} 0+1x10 _ 5 stale`
    static func series(_ line: String, stepMillis: Int64) throws(ObsError) -> Series { try parseSeries(line, stepMillis) }
}

private func parseSeries(_ line: String, _ stepMillis: Int64) throws(ObsError) -> PromQLTestFile.Series {
    var rest = Substring(line)
    let labels = try parseLabels(&rest)
    var series = PromQLTestFile.Series(labels: labels, stepMillis: stepMillis, values: [])
    rest = Substring(trimmed(rest))
    while !rest.isEmpty {
        let item = takeItem(&rest)
        series.values += item.contains("{{") ? try histograms(item) : try expanded(item).map { $0.map { .number($0) } }
    }
    return series
}

/// `-1m`, `_`, `_x3`, `-30sx4`, `-30s-1mx2`: how far starts lie from their samples.
private func parseStarts(_ text: String) throws(ObsError) -> [Int64?] {
    var starts: [Int64?] = []
    for item in text.split(whereSeparator: \.isWhitespace) {
        if item == "_" {
            starts.append(nil)
        } else if item.hasPrefix("_x"), let count = Int(item.dropFirst(2)) {
            starts += [Int64?](repeating: nil, count: count)
        } else {
            var rest = item
            var value = try takeOffset(&rest)
            let step = rest.first == "+" || rest.first == "-" ? try takeOffset(&rest) : 0
            let count = rest.first == "x" ? Int(rest.dropFirst()) : rest.isEmpty ? 0 : nil
            guard let count else { throw ObsError(.badInput, "bad start \(quoted(String(item)))") }
            for _ in 0...count {
                starts.append(value)
                value += step
            }
        }
    }
    return starts
}

private func takeOffset(_ rest: inout Substring) throws(ObsError) -> Int64 {
    let isNegative = rest.first == "-"
    if rest.first == "-" || rest.first == "+" { rest.removeFirst() }
    let digits = rest.prefix(while: \.isNumber)
    let unit = rest.dropFirst(digits.count).prefix { $0.isLetter && $0 != "x" }
    rest = rest.dropFirst(digits.count + unit.count)
    guard let millis = millis(digits + unit) else { throw ObsError(.badInput, "bad offset") }
    return isNegative ? -millis : millis
}

/// `{{…}}`, `{{…}}x3`, `{{…}}+{{…}}x3`, `{{…}}-{{…}}x3`.
private func histograms(_ item: String) throws(ObsError) -> [PromQLTestFile.Value?] {
    guard let end = item.range(of: "}}") else { throw ObsError(.badInput, "histogram does not end") }
    var (histogram, tellsReset) = try parseHistogram(item[..<end.upperBound])
    var rest = item[end.upperBound...]
    var step: FloatHistogram?
    let sign: Double = rest.first == "-" ? -1 : 1
    if rest.first == "+" || rest.first == "-" {
        rest.removeFirst()
        guard let end = rest.range(of: "}}") else { throw ObsError(.badInput, "histogram does not end") }
        let (parsed, tells) = try parseHistogram(rest[..<end.upperBound])
        step = parsed
        tellsReset = tells
        rest = rest[end.upperBound...]
    }
    let count = rest.isEmpty ? 0 : Int(rest.dropFirst())
    guard let count, rest.isEmpty || rest.first == "x" else { throw ObsError(.badInput, "bad histograms") }
    var values: [PromQLTestFile.Value?] = []
    for _ in 0...count {
        values.append(.histogram(histogram, tellsReset: tellsReset))
        if let step { histogram.combine(step, sign: sign) }
    }
    return values
}

/// `{{schema:0 sum:5 count:4 buckets:[1 2 1]}}`
private func parseHistogram(_ text: Substring) throws(ObsError) -> (FloatHistogram, tellsReset: Bool) {
    var histogram = FloatHistogram()
    var tellsReset = false
    var offsets: (positive: Int32, negative: Int32) = (0, 0)
    var buckets: (positive: [Double], negative: [Double]) = ([], [])
    var rest = text.dropFirst(2).dropLast(2)
    while true {
        rest = rest.drop(while: \.isWhitespace)
        guard let colon = rest.firstIndex(of: ":") else { break }
        let key = trimmed(rest[..<colon])
        rest = rest[rest.index(after: colon)...].drop(while: \.isWhitespace)
        let isList = rest.first == "["
        let value = rest.prefix { isList ? $0 != "]" : !$0.isWhitespace }
        rest = rest.dropFirst(value.count + (isList ? 1 : 0))
        let numbers = value.drop { $0 == "[" }.split(whereSeparator: \.isWhitespace).compactMap { number(String($0)) }
        let first = numbers.first ?? 0
        switch key {
        case "schema": histogram.schema = Int8(first)
        case "sum": histogram.sum = first
        case "count": histogram.count = first
        case "z_bucket": histogram.zeroCount = first
        case "z_bucket_w": histogram.zeroThreshold = first
        case "custom_values": histogram.bounds = numbers
        case "buckets": buckets.positive = numbers
        case "n_buckets": buckets.negative = numbers
        case "offset": offsets.positive = Int32(first)
        case "n_offset": offsets.negative = Int32(first)
        case "counter_reset_hint":
            tellsReset = true
            histogram.reset = value == "gauge" ? .gauge : value == "reset" ? .reset : value == "not_reset" ? .noReset : .unknown
        default: throw ObsError(.badInput, "unknown part \(quoted(key)) of a histogram")
        }
    }
    histogram.positive = BucketCounts(offset: offsets.positive, counts: buckets.positive)
    histogram.negative = BucketCounts(offset: offsets.negative, counts: buckets.negative)
    return (histogram, tellsReset)
}

/// The next value, blanks within `{{…}}` included.
private func takeItem(_ rest: inout Substring) -> String {
    var item = ""
    var depth = 0
    while let character = rest.first, depth > 0 || !character.isWhitespace {
        if character == "{" { depth += 1 }
        if character == "}" { depth -= 1 }
        item.append(character)
        rest.removeFirst()
    }
    rest = rest.drop(while: \.isWhitespace)
    return item
}

/// `5`, `_`, `_x3`, `stale`, `1x4`, `1+2x3`, `1-2x3`.
private func expanded(_ item: String) throws(ObsError) -> [Double?] {
    if item == "_" { return [nil] }
    if item.hasPrefix("_x"), let count = Int(item.dropFirst(2)) { return [Double?](repeating: nil, count: count) }
    if item == "stale" { return [SpecialValue.stale] }
    if let value = number(item) { return [value] }
    guard let cross = item.lastIndex(of: "x"), let count = Int(item[item.index(after: cross)...]), count >= 0 else {
        throw ObsError(.badInput, "bad value \(quoted(item))")
    }
    let progression = item[..<cross]
    if let value = number(String(progression)) { return [Double?](repeating: value, count: count + 1) }
    // The sign between start and step is the last one that follows neither an exponent nor nothing.
    var at = progression.endIndex
    while at > progression.index(after: progression.startIndex) {
        at = progression.index(before: at)
        let before = progression[progression.index(before: at)]
        guard progression[at] == "+" || progression[at] == "-", before != "e", before != "E" else { continue }
        if let start = number(String(progression[..<at])), let step = number(String(progression[at...])) {
            var value = start
            return (0...count).map { _ in
                defer { value += step }
                return value
            }
        }
    }
    throw ObsError(.badInput, "bad value \(quoted(item))")
}

private func parseLabels(_ rest: inout Substring) throws(ObsError) -> Labels {
    var builder = LabelsBuilder()
    let name = rest.prefix { $0.isLetter || $0.isNumber || $0 == "_" || $0 == ":" }
    if !name.isEmpty { builder.set("__name__", String(name)) }
    rest = rest.dropFirst(name.count)
    guard rest.first == "{" else {
        if name.isEmpty { throw ObsError(.badInput, "no series") }
        return builder.labels()
    }
    rest.removeFirst()
    while true {
        rest = rest.drop { $0.isWhitespace || $0 == "," }
        guard let first = rest.first else { throw ObsError(.badInput, "labels do not end") }
        if first == "}" { break }
        let label = try first == "\"" ? takeQuoted(&rest) : takeWord(&rest)
        rest = rest.drop(while: \.isWhitespace)
        guard rest.first == "=" else {
            builder.set("__name__", label)
            continue
        }
        rest = rest.dropFirst().drop(while: \.isWhitespace)
        builder.set(label, try takeQuoted(&rest))
    }
    rest.removeFirst()
    return builder.labels()
}

private func takeWord(_ rest: inout Substring) throws(ObsError) -> String {
    let word = rest.prefix { $0 != "=" && !$0.isWhitespace && $0 != "}" }
    if word.isEmpty { throw ObsError(.badInput, "no label") }
    rest = rest.dropFirst(word.count)
    return String(word)
}

private func takeQuoted(_ rest: inout Substring) throws(ObsError) -> String {
    guard let quote = rest.popFirst(), quote == "\"" || quote == "'" || quote == "`" else { throw ObsError(.badInput, "no quoted value") }
    var text = ""
    while let character = rest.popFirst() {
        if character == quote { return text }
        guard character == "\\", quote != "`", let escaped = rest.popFirst() else {
            text.append(character)
            continue
        }
        switch escaped {
        case "n": text.append("\n")
        case "t": text.append("\t")
        case "r": text.append("\r")
        default: text.append(escaped)
        }
    }
    throw ObsError(.badInput, "quote does not end")
}

private func unquoted(_ text: String) -> String {
    var rest = Substring(text)
    return (try? takeQuoted(&rest)) ?? text
}

private func trimmed(_ text: some StringProtocol) -> String {
    var result = Substring(text)
    while let last = result.last, last.isWhitespace { result.removeLast() }
    return String(result.drop(while: \.isWhitespace))
}

private func rest(of line: String, afterWords count: Int) -> String {
    var result = Substring(line)
    for _ in 0..<count { result = result.drop { !$0.isWhitespace }.drop(while: \.isWhitespace) }
    return String(result)
}

private func millis(_ text: some StringProtocol) -> Int64? {
    parseDurationMillis(String(text)) ?? number(String(text)).map { Int64(($0 * 1000).rounded()) }
}

private func number(_ text: String) -> Double? {
    switch text.lowercased() {
    case "inf", "+inf": return .infinity
    case "-inf": return -.infinity
    case "nan": return .nan
    default:
        guard text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") || "+-.eE".utf8.contains($0) }) else { return nil }
        return Double(text.hasSuffix(".") ? text + "0" : text.hasPrefix(".") ? "0" + text : text.hasPrefix("-.") ? "-0" + text.dropFirst() : text)
    }
}
