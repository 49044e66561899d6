// One parser for both exposition formats: they share names, labels, escapes and values, and differ in how strict they are about space, comments and time
// (contract prometheus.md §1 has the table). A scrape is all or nothing, so the first error ends it, with its line.
//
// A line is read once, left to right, over the bytes of the body; labels pass through one builder into the batch's canonical form.

package import ObsCore

/// Parses what a scrape answered in text.
package enum PrometheusText {
    /// - Returns: one series a sample line, in order, repeated series included. A sample without a time of its own has `timesMillis` == `noTime`, an exemplar likewise.
    /// - Throws: `.badInput`, `place` naming the line.
    package static func parse(_ body: [UInt8], format: ScrapeFormat, limits: Limits = Limits()) throws(ObsError) -> MetricBatch {
        var parser = ExpositionParser(bytes: body.count, format: format)
        var failure: ObsError?
        body.withUnsafeBytes { text in
            do throws(ObsError) { try parser.parse(text) } catch { failure = error }
        }
        if let failure { throw failure }
        return try parser.finish()
    }

    /// Time of a sample or exemplar that has none: the scrape's own time is meant.
    package static let noTime = Int64.min
}

private struct ExpositionParser: ~Copyable {
    private var batch = MetricBatch()
    private var arena: ByteArena
    private var labels = LabelSetBuilder()
    /// Index into `batch.metadata` of each family seen.
    private var families: [[UInt8]: Int] = [:]
    /// The samples of one metric in a body that says when counting began: OpenMetrics has `_created` last, and what is to know of it before.
    private var groups: MetricGroups?
    /// Of the TYPE line read last: decides whether `le` or `quantile` is a number to be spelled the OpenMetrics way.
    private var type = MetricType.unknown
    private let isOpenMetrics: Bool

    private var text = UnsafeRawBufferPointer(start: nil, count: 0)
    private var position = 0
    private var line = 1

    init(bytes: Int, format: ScrapeFormat) {
        arena = ByteArena(capacity: bytes)
        isOpenMetrics = format == .openMetrics
        batch.series.reserveCapacity(bytes / 64)
        batch.timesMillis.reserveCapacity(bytes / 64)
        batch.values.reserveCapacity(bytes / 64)
    }

    consuming func finish() throws(ObsError) -> MetricBatch {
        guard arena.fitsRanges else { throw ObsError(.tooLarge, "the scrape takes more than 4 GiB") }
        batch.bytes = arena.array()
        if !batch.startsMillis.isEmpty { batch.startsMillis += [Int64](repeating: 0, count: batch.timesMillis.count - batch.startsMillis.count) }
        return batch
    }

    mutating func parse(_ body: UnsafeRawBufferPointer) throws(ObsError) {
        text = body
        if isOpenMetrics, ByteSearch(MetricGroups.suffix).first(in: text) != nil { groups = MetricGroups() }
        while position < text.count {
            if !isOpenMetrics { skipSpace() }
            if peek == newline {
                if isOpenMetrics { throw failure("blank lines are not allowed in OpenMetrics") }
            } else if peek == UInt8(ascii: "#") {
                if try parseComment() { return }
            } else {
                try parseSample()
            }
            try endLine()
        }
        if isOpenMetrics { throw failure("the body does not end with # EOF") }
    }

    // MARK: - bytes

    private let newline = UInt8(ascii: "\n")
    /// The byte at hand; 0 at the end.
    private var peek: UInt8 { position < text.count ? text[position] : 0 }

    private func failure(_ what: String) -> ObsError {
        let start = text[..<min(position, text.count)].lastIndex(of: newline).map { $0 + 1 } ?? 0
        let source = String(decoding: text[start...].prefix { $0 != newline }.prefix(200), as: UTF8.self)
        return ObsError(.badInput, "\(what) in \(quoted(source))", place: "line \(line)")
    }

    private mutating func skipSpace() {
        while peek == 0x20 || peek == 0x09 { position += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < text.count, text[position] == byte else { return false }
        position += 1
        return true
    }

    /// What separates two words: any space in the text format, exactly one in OpenMetrics.
    private mutating func separator() -> Bool {
        if isOpenMetrics { return take(0x20) }
        guard peek == 0x20 || peek == 0x09 else { return false }
        skipSpace()
        return true
    }

    private mutating func endLine() throws(ObsError) {
        if !isOpenMetrics { skipSpace() }
        guard take(newline) else {
            throw failure(
                position < text.count ? "unexpected \(quoted(String(decoding: text[position...].prefix(1), as: UTF8.self)))" : "the last line does not end")
        }
        line += 1
    }

    private mutating func word() -> UnsafeRawBufferPointer {
        let start = position
        while position < text.count, text[position] > 0x20 { position += 1 }
        return UnsafeRawBufferPointer(rebasing: text[start..<position])
    }

    private mutating func restOfLine() -> UnsafeRawBufferPointer {
        let start = position
        while position < text.count, text[position] != newline { position += 1 }
        return UnsafeRawBufferPointer(rebasing: text[start..<position])
    }

    /// A bare name; empty when there is none. Colons belong to metric names only.
    private mutating func name(withColons: Bool) -> UnsafeRawBufferPointer {
        let start = position
        while position < text.count {
            let byte = text[position]
            let isLetter = (byte | 0x20) &- UInt8(ascii: "a") < 26 || byte == UInt8(ascii: "_") || withColons && byte == UInt8(ascii: ":")
            guard isLetter || position > start && byte &- UInt8(ascii: "0") < 10 else { break }
            position += 1
        }
        return UnsafeRawBufferPointer(rebasing: text[start..<position])
    }

    /// The inside of a quoted string, escapes unresolved; the opening quote is at hand.
    private mutating func quotedText() throws(ObsError) -> (raw: UnsafeRawBufferPointer, hasEscapes: Bool) {
        position += 1
        let start = position
        var hasEscapes = false
        while peek != UInt8(ascii: "\"") {
            guard position < text.count, text[position] != newline else { throw failure("a quoted string does not end") }
            if text[position] == UInt8(ascii: "\\") {
                hasEscapes = true
                position += 1
                guard position < text.count else { throw failure("a quoted string does not end") }
            }
            position += 1
        }
        let raw = UnsafeRawBufferPointer(rebasing: text[start..<position])
        position += 1
        guard isASCII(raw) || isValidUTF8(raw) else { throw failure("invalid UTF-8") }
        return (raw, hasEscapes)
    }

    private mutating func quotedName() throws(ObsError) -> [UInt8] {
        let (raw, hasEscapes) = try quotedText()
        let name = hasEscapes ? unescape(raw, quotes: true) : [UInt8](raw)
        guard !name.isEmpty else { throw failure("a quoted name is empty") }
        return name
    }

    // MARK: - samples

    private mutating func parseSample() throws(ObsError) {
        labels.removeAll()
        let bare = name(withColons: true)
        if !bare.isEmpty { nameLabel.withUnsafeBytes { labels.add($0, bare) } }
        if !isOpenMetrics { skipSpace() }
        var hasName = !bare.isEmpty
        if peek == UInt8(ascii: "{") {
            hasName = try parseLabels(hasName: hasName)
            if isOpenMetrics { guard take(0x20) else { throw failure("a space has to follow the labels") } } else { skipSpace() }
        } else if hasName {
            let before = text[position - 1]
            guard isOpenMetrics ? take(0x20) : before == 0x20 || before == 0x09 else { throw failure("expected a value after the metric name") }
        }
        guard hasName else { throw failure("expected a metric name") }
        let value = try parseValue()
        var timeMillis = PrometheusText.noTime
        if try isFollowedByTime() { timeMillis = try parseTime() }
        try addSample(value, timeMillis)
        if isOpenMetrics, peek == 0x20 { try parseExemplar() }
    }

    private mutating func addSample(_ value: Double, _ timeMillis: Int64) throws(ObsError) {
        let start = arena.count
        guard labels.write(to: &arena) else { throw failure("a label name is repeated") }
        let position = batch.timesMillis.count
        let since = groups?.take(arena.slice(start..<arena.count), value, position)
        if let since, since.position < position { batch.setStarts(since.startMillis, from: since.position) }
        batch.series.append(.init(labels: arena.range(from: start), firstSample: UInt32(truncatingIfNeeded: position), sampleCount: 1))
        batch.timesMillis.append(timeMillis)
        batch.values.append(value)
        if let since, since.position == position { batch.setStarts(since.startMillis, from: position) }
    }

    /// Whether another word stands on the line, and is no exemplar; the scanner is then before it.
    private mutating func isFollowedByTime() throws(ObsError) -> Bool {
        if isOpenMetrics {
            guard peek == 0x20, position + 1 < text.count, text[position + 1] != UInt8(ascii: "#") else { return false }
            position += 1
            return true
        }
        skipSpace()
        return position < text.count && peek != newline
    }

    private mutating func parseValue() throws(ObsError) -> Double {
        guard let value = parseFloat(word()) else { throw failure("invalid value") }
        return value.isNaN ? SpecialValue.normalNaN : value
    }

    /// Milliseconds in the text format, seconds with a fraction in OpenMetrics.
    private mutating func parseTime() throws(ObsError) -> Int64 {
        let text = word()
        if isOpenMetrics {
            guard let seconds = parseFloat(text), let millis = Int64(exactly: (seconds * 1000).rounded(.towardZero)) else { throw failure("invalid timestamp") }
            return millis
        }
        guard !text.isEmpty, text.count <= 18 else { throw failure("invalid timestamp") }
        var millis: Int64 = 0
        for digit in text {
            guard digit &- UInt8(ascii: "0") <= 9 else { throw failure("invalid timestamp") }
            millis = millis * 10 + Int64(digit - UInt8(ascii: "0"))
        }
        return millis
    }

    // MARK: - labels

    /// Reads `{…}` into the builder. True when a metric name is known by then.
    private mutating func parseLabels(hasName: Bool, isExemplar: Bool = false) throws(ObsError) -> Bool {
        var hasName = hasName
        position += 1
        skipLabelSpace()
        while !take(UInt8(ascii: "}")) {
            if peek == UInt8(ascii: "\"") {
                let quoted = try quotedName()
                skipLabelSpace()
                if peek == UInt8(ascii: "=") {
                    try quoted.withUnsafeBytesTyped { (name) throws(ObsError) in try parseLabelValue(name) }
                } else {
                    guard !hasName, !isExemplar else { throw failure("a second metric name") }
                    hasName = true
                    labels.add(nameLabel, quoted)
                }
            } else {
                let name = name(withColons: false)
                guard !name.isEmpty else { throw failure("expected a label name") }
                skipLabelSpace()
                try parseLabelValue(name)
            }
            skipLabelSpace()
            if !take(UInt8(ascii: ",")), peek != UInt8(ascii: "}") { throw failure("expected a comma or } after a label") }
            skipLabelSpace()
        }
        return hasName
    }

    private mutating func skipLabelSpace() {
        if !isOpenMetrics { skipSpace() }
    }

    private mutating func parseLabelValue(_ name: UnsafeRawBufferPointer) throws(ObsError) {
        guard take(UInt8(ascii: "=")) else { throw failure("expected = after a label name") }
        skipLabelSpace()
        guard peek == UInt8(ascii: "\"") else { throw failure("expected a quoted label value") }
        let (raw, hasEscapes) = try quotedText()
        labels.beginPair(name)
        if hasEscapes { unescape(raw, quotes: true).withUnsafeBytes { labels.appendToValue($0) } } else { labels.appendToValue(raw) }
        if type == .histogram && equals(name, "le") || type == .summary && equals(name, "quantile") { normaliseNumber() }
    }

    /// Spells a bucket bound or quantile as OpenMetrics does, so that `le="1"` of one target and `le="1.0"` of another are one series.
    private mutating func normaliseNumber() {
        let given = labels.lastValue
        if isSpelledAsOpenMetrics(given) { return }
        guard let number = parseFloat(given) else { return }
        let spelled = [UInt8](formatOpenMetricsFloat(number).utf8)
        spelled.withUnsafeBytes { labels.replaceLastValue($0) }
    }

    /// ` # {labels} value [time]`. Its labels may have 128 characters in all; one past that is left out, as the reference's store does.
    private mutating func parseExemplar() throws(ObsError) {
        position += 1
        guard take(UInt8(ascii: "#")), take(0x20), peek == UInt8(ascii: "{") else { throw failure("expected an exemplar") }
        labels.removeAll()
        let outer = type
        type = .unknown
        _ = try parseLabels(hasName: false, isExemplar: true)
        type = outer
        guard take(0x20) else { throw failure("expected a value after the exemplar's labels") }
        let value = try parseValue()
        var timeMillis = PrometheusText.noTime
        if take(0x20) { timeMillis = try parseTime() }
        let start = arena.count
        guard labels.write(to: &arena) else { throw failure("a label name is repeated") }
        let range = arena.range(from: start)
        guard arena.exemplarCharacters(of: range) <= ByteArena.exemplarCharactersMax else {
            arena.truncate(to: start)
            return
        }
        batch.exemplars.append(.init(series: UInt32(truncatingIfNeeded: batch.series.count - 1), labels: range, value: value, timeMillis: timeMillis))
    }

    // MARK: - comments

    /// Reads a `#` line up to its end. True at `# EOF`, which ends the body.
    private mutating func parseComment() throws(ObsError) -> Bool {
        position += 1
        guard separator() else {
            if isOpenMetrics { throw failure("expected a space after #") }
            _ = restOfLine()
            return false
        }
        let keyword = word()
        if isOpenMetrics, equals(keyword, "EOF") {
            _ = take(newline)
            guard position == text.count else { throw failure("something follows # EOF") }
            return true
        }
        let isUnit = isOpenMetrics && equals(keyword, "UNIT")
        guard isUnit || equals(keyword, "HELP") || equals(keyword, "TYPE") else {
            if isOpenMetrics { throw failure("expected HELP, TYPE, UNIT or EOF after #") }
            _ = restOfLine()
            return false
        }
        guard separator() else { throw failure("expected a metric name") }
        let family = try familyName()
        let isFollowed = separator()
        if equals(keyword, "TYPE") {
            try parseType(family)
        } else if isUnit {
            try parseUnit(family)
        } else {
            guard isFollowed || peek == newline && !isOpenMetrics else { throw failure("expected a help text") }
            let help = arena.range(of: unescape(restOfLine(), quotes: isOpenMetrics))
            update(family) { $0.help = help }
        }
        return false
    }

    private mutating func familyName() throws(ObsError) -> [UInt8] {
        if peek == UInt8(ascii: "\"") { return try quotedName() }
        let bare = [UInt8](name(withColons: true))
        guard !bare.isEmpty else { throw failure("expected a metric name") }
        return bare
    }

    private mutating func parseType(_ family: [UInt8]) throws(ObsError) {
        let text = word()
        guard let named = metricType(text) else { throw failure("invalid metric type \(quoted(String(decoding: text, as: UTF8.self)))") }
        type = named
        groups?.begin(family, named)
        update(family) { $0.type = named }
    }

    private func metricType(_ word: UnsafeRawBufferPointer) -> MetricType? {
        switch String(decoding: word, as: UTF8.self) {
        case "counter": return .counter
        case "gauge": return .gauge
        case "histogram": return .histogram
        case "summary": return .summary
        case "untyped": return isOpenMetrics ? nil : .unknown
        case "unknown": return isOpenMetrics ? .unknown : nil
        case "gaugehistogram": return isOpenMetrics ? .gaugeHistogram : nil
        case "info": return isOpenMetrics ? .info : nil
        case "stateset": return isOpenMetrics ? .stateSet : nil
        default: return nil
        }
    }

    private mutating func parseUnit(_ family: [UInt8]) throws(ObsError) {
        let unit = [UInt8](restOfLine())
        if !unit.isEmpty, !family.reversed().starts(with: ([UInt8(ascii: "_")] + unit).reversed()) {
            throw failure("the unit \(quoted(String(decoding: unit, as: UTF8.self))) is not the end of the metric's name")
        }
        let range = arena.range(of: unit)
        update(family) { $0.unit = range }
    }

    private mutating func update(_ family: [UInt8], _ change: (inout MetricBatch.Metadata) -> Void) {
        if let index = families[family] {
            change(&batch.metadata[index])
            return
        }
        var metadata = MetricBatch.Metadata(family: arena.range(of: family), type: .unknown, help: .empty, unit: .empty)
        change(&metadata)
        families[family] = batch.metadata.count
        batch.metadata.append(metadata)
    }
}

/// Which samples are of one metric: same labels but for `le` and `quantile`, one after the other.
private struct MetricGroups {
    static let suffix = [UInt8]("_created".utf8)

    private var family: [UInt8] = []
    private var key: [UInt8] = []
    private var candidate: [UInt8] = []
    private var firstPosition = 0
    private var startMillis: Int64 = 0

    /// A family begins. Gauges and the like count nothing.
    mutating func begin(_ family: [UInt8], _ type: MetricType) {
        self.family = [.counter, .histogram, .summary].contains(type) ? family : []
        key = []
        startMillis = 0
    }

    /// Takes a sample by its canonical labels. What comes back holds for all samples from `position` on, up to this one: with a `_created` for those of its metric seen
    /// before, else for this one too.
    mutating func take(_ labels: UnsafeRawBufferPointer, _ value: Double, _ position: Int) -> (startMillis: Int64, position: Int)? {
        guard !family.isEmpty else { return nil }
        var isCreated = false
        // Never empty, as the key of no metric is.
        candidate = [0]
        forEachLabel(labels) { name, text in
            if equals(name, "__name__") {
                isCreated =
                    text.count == family.count + Self.suffix.count && text.starts(with: family) && text.suffix(Self.suffix.count).elementsEqual(Self.suffix)
            } else if !equals(name, "le"), !equals(name, "quantile") {
                appendLabel(&candidate, name, text)
            }
        }
        if candidate != key {
            swap(&candidate, &key)
            firstPosition = position
            startMillis = 0
        }
        if isCreated {
            startMillis = Int64(exactly: (value * 1000).rounded(.towardZero)) ?? 0
            return startMillis > 0 && firstPosition < position ? (startMillis, firstPosition) : nil
        }
        return startMillis > 0 ? (startMillis, position) : nil
    }
}

private let nameLabel = [UInt8]("__name__".utf8)

/// Resolves `\\`, `\n` and, where quotes are escaped, `\"`; a backslash before anything else stays.
private func unescape(_ raw: UnsafeRawBufferPointer, quotes: Bool) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(raw.count)
    var at = 0
    while at < raw.count {
        if raw[at] == UInt8(ascii: "\\"), at + 1 < raw.count {
            switch raw[at + 1] {
            case UInt8(ascii: "\\"): result.append(UInt8(ascii: "\\"))
            case UInt8(ascii: "n"): result.append(UInt8(ascii: "\n"))
            case UInt8(ascii: "\"") where quotes: result.append(UInt8(ascii: "\""))
            default: result.append(contentsOf: raw[at...at + 1])
            }
            at += 2
        } else {
            result.append(raw[at])
            at += 1
        }
    }
    return result
}

extension ByteArena {
    /// OpenMetrics' bound on all names and values of an exemplar's labels together.
    static let exemplarCharactersMax = 128

    func exemplarCharacters(of labels: ByteRange) -> Int {
        var count = 0
        forEachLabel(slice(labels)) { name, value in
            count += name.count { $0 & 0xc0 != 0x80 } + value.count { $0 & 0xc0 != 0x80 }
        }
        return count
    }

    /// Appends and returns where the bytes went.
    fileprivate mutating func range(of bytes: [UInt8]) -> ByteRange { bytes.withUnsafeBytes { intern($0) } }
}

extension [UInt8] {
    /// `withUnsafeBytes` that keeps the type of what its body throws.
    fileprivate func withUnsafeBytesTyped(_ body: (UnsafeRawBufferPointer) throws(ObsError) -> Void) throws(ObsError) {
        var failure: ObsError?
        withUnsafeBytes { bytes in
            do throws(ObsError) { try body(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}
