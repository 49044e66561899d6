// A deletion: what is hidden from now on, and left out when segments are merged. One small file each, Storage/FORMAT.md "Tombstones".
//
// A deletion concerns what was written before it and nothing after. Segments know which log records they hold, so the line between before and after is a log
// sequence number: all up to `through` was in segments when the tombstone was made (the heads are flushed first), and a segment that holds anything later
// was either written later or merged by a merge that left the deleted rows out. Heads never hold a deleted row.

internal import ObsCore
internal import ObsDisk
internal import ObsEncoding
internal import ObsHash
internal import ObsSegment
internal import ObsStore

struct Tombstone: Sendable {
    private static let version = 1
    private static let magic: [UInt8] = Array("OBSDEL01".utf8)
    /// Matchers of all selectors together.
    private static let matchersMax = 1 << 16

    var tenant: TenantID
    var signal: Signal
    var createdNanos: Int64
    /// The last log record it concerns.
    var through: UInt64
    /// In the signal's unit.
    var range: ClosedRange<Int64>
    /// All matchers of one of these must hold. On labels of series and streams, for logs also on the line; on `service`, `name` and `trace_id` of spans.
    let selectors: [[LabelMatcher]]
    /// The same, made ready.
    private let choices: [Choice]

    /// A selector taken apart.
    private struct Choice {
        var labels: [LabelMatcher]
        /// Anchored at both ends, to be used on the whole line.
        var lines: [LabelMatcher]

        init(_ selector: [LabelMatcher], _ signal: Signal) throws(ObsError) {
            labels = []
            lines = []
            for matcher in selector {
                guard signal == .logs, matcher.name == LabelMatcher.line else {
                    labels.append(matcher)
                    continue
                }
                // `\C` is a byte: a line need not be UTF-8.
                lines.append(try LabelMatcher(matcher.name, matcher.operation, #"\C*(?:\#(matcher.value))\C*"#))
            }
        }
    }

    /// Whether a segment may hold rows it concerns, by what its footer says.
    func concerns(_ segment: SegmentInfo) -> Bool {
        segment.signal == signal && segment.tenant == tenant && segment.minTime <= range.upperBound && segment.maxTime >= range.lowerBound
            && segment.walRanges.allSatisfy { $0.last <= through }
    }

    /// Whether it hides all or some rows of a series or stream within its range.
    func concerns(labels: UnsafeRawBufferPointer) -> Bool { choices.contains { $0.labels.match(labels) } }

    /// What it hides of a series or stream.
    func rows(labels: UnsafeRawBufferPointer) -> HiddenRows {
        var rows = HiddenRows()
        for choice in choices where choice.labels.match(labels) {
            if choice.lines.isEmpty { return HiddenRows(times: [range]) }
            rows.lines.append((range, choice.lines))
        }
        return rows
    }

    /// Whether it looks at lines.
    var readsLines: Bool { choices.contains { !$0.lines.isEmpty } }

    func matches(_ batch: SpanBatch, row: Int) -> Bool {
        guard range.contains(batch.startNanos[row]) else { return false }
        return selectors.contains { SpanLabel.match($0, batch, row: row) }
    }

    /// - Throws: `.badInput` for a selector that would delete everything by mistake or that nothing can satisfy.
    static func check(_ selectors: [[LabelMatcher]], _ signal: Signal) throws(ObsError) {
        let isOnLine = { (matcher: LabelMatcher) in signal == .logs && matcher.name == LabelMatcher.line }
        if selectors.isEmpty || selectors.contains(where: { $0.allSatisfy(isOnLine) }) {
            throw ObsError(.badInput, "a deletion needs at least one matcher")
        }
        for matcher in selectors.joined() where isOnLine(matcher) {
            guard matcher.operation == .matches || matcher.operation == .matchesNot else { throw ObsError(.badInput, "lines are matched by patterns") }
        }
        guard selectors.reduce(0, { $0 + $1.count }) <= matchersMax else { throw ObsError(.badInput, "a deletion has at most \(matchersMax) matchers") }
        if signal == .traces { for matchers in selectors { try SpanLabel.check(matchers) } }
    }

    /// Its selectors as queries in the signal's language.
    var queries: [String] {
        selectors.map { matchers in
            var labels: [String] = []
            var lines = ""
            for matcher in matchers {
                if signal == .logs, matcher.name == LabelMatcher.line {
                    lines += " \(matcher.operation == .matches ? "|~" : "!~") \(Self.literal(matcher.value))"
                } else {
                    let name = signal == .traces ? SpanLabel.attribute(matcher.name) : matcher.name
                    labels.append(name + Self.text(matcher.operation) + Self.literal(matcher.value))
                }
            }
            return "{\(labels.joined(separator: signal == .traces ? " && " : ", "))}\(lines)"
        }
    }

    private static func literal(_ text: String) -> String {
        var literal = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\": literal += "\\\(scalar)"
            case "\n": literal += "\\n"
            default: literal.unicodeScalars.append(scalar)
            }
        }
        return literal + "\""
    }

    private static func text(_ operation: LabelMatcher.Operation) -> String {
        switch operation {
        case .equal: "="
        case .notEqual: "!="
        case .matches: "=~"
        case .matchesNot: "!~"
        }
    }

    // MARK: The file

    func encoded() throws(ObsError) -> [UInt8] {
        var content: [UInt8] = []
        content.appendText(tenant.name.utf8)
        content.append(Self.code(signal))
        content.appendZigzag(createdNanos)
        content.appendVarint(through)
        content.appendZigzag(range.lowerBound)
        content.appendZigzag(range.upperBound)
        content.appendVarint(UInt64(selectors.count))
        for matchers in selectors {
            content.appendVarint(UInt64(matchers.count))
            for matcher in matchers {
                content.appendText(matcher.name.utf8)
                content.append(Self.code(matcher.operation))
                content.appendText(matcher.value.utf8)
            }
        }
        var bytes = Self.magic
        try Frame.append(content, level: 3, to: &bytes)
        return bytes
    }

    /// - Throws: `.corrupt`; `.unprocessable` for a tombstone of a newer version.
    init(decoding bytes: [UInt8], path: String) throws(ObsError) {
        guard bytes.starts(with: Self.magic) else {
            if let version = Self.newerVersion(bytes) { throw newerFormat("tombstone format", version, known: Self.version, place: "\(path):0") }
            throw ObsError(.corrupt, "not a tombstone")
        }
        self = try ObsEncoding.decoding(try Frame.content(of: Array(bytes.dropFirst(Self.magic.count)))) {
            (cursor: inout ByteCursor) throws(ObsError) -> Tombstone in
            let tombstone = try Tombstone(&cursor)
            try cursor.expectEnd()
            return tombstone
        }
    }

    /// From version 2 on the magic is followed by its hash, by which a newer file is told from a damaged one.
    private static func newerVersion(_ bytes: [UInt8]) -> Int? {
        guard bytes.count >= 16, bytes.starts(with: magic.prefix(6)), let version = Int(String(decoding: bytes[6..<8], as: UTF8.self)) else { return nil }
        let isIntact = bytes.withUnsafeBytes { raw in
            hash64(UnsafeRawBufferPointer(rebasing: raw[..<8])) == UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
        return isIntact && version > self.version ? version : nil
    }

    private init(_ cursor: inout ByteCursor) throws(ObsError) {
        tenant = try TenantID(try cursor.string())
        let code = try cursor.u8()
        guard let signal = Signal.allCases.first(where: { Self.code($0) == code }) else { throw ObsError(.corrupt, "unknown signal \(code)") }
        self.signal = signal
        createdNanos = try cursor.zigzag()
        through = try cursor.varint()
        let first = try cursor.zigzag()
        let last = try cursor.zigzag()
        guard first <= last else { throw ObsError(.corrupt, "the time range ends before it begins") }
        range = first...last
        var selectors: [[LabelMatcher]] = []
        for _ in 0..<(try cursor.count(max: Self.matchersMax)) {
            var matchers: [LabelMatcher] = []
            for _ in 0..<(try cursor.count(max: Self.matchersMax)) {
                let name = try cursor.string()
                let code = try cursor.u8()
                guard let operation = Self.operation(code) else { throw ObsError(.corrupt, "unknown matcher \(code)") }
                matchers.append(try LabelMatcher(name, operation, try cursor.string()))
            }
            selectors.append(matchers)
        }
        self.selectors = selectors
        choices = try Self.choices(selectors, signal)
    }

    /// - Throws: `.badInput` for a pattern RE2 refuses.
    init(tenant: TenantID, signal: Signal, createdNanos: Int64, through: UInt64, range: ClosedRange<Int64>, selectors: [[LabelMatcher]]) throws(ObsError) {
        self.tenant = tenant
        self.signal = signal
        self.createdNanos = createdNanos
        self.through = through
        self.range = range
        self.selectors = selectors
        choices = try Self.choices(selectors, signal)
    }

    private static func choices(_ selectors: [[LabelMatcher]], _ signal: Signal) throws(ObsError) -> [Choice] {
        var choices: [Choice] = []
        for selector in selectors { choices.append(try Choice(selector, signal)) }
        return choices
    }

    private static func code(_ signal: Signal) -> UInt8 {
        switch signal {
        case .metrics: 1
        case .logs: 2
        case .traces: 3
        }
    }

    private static func code(_ operation: LabelMatcher.Operation) -> UInt8 {
        switch operation {
        case .equal: 0
        case .notEqual: 1
        case .matches: 2
        case .matchesNot: 3
        }
    }

    private static func operation(_ code: UInt8) -> LabelMatcher.Operation? {
        switch code {
        case 0: .equal
        case 1: .notEqual
        case 2: .matches
        case 3: .matchesNot
        default: nil
        }
    }
}

/// What spans can be chosen by.
enum SpanLabel {
    static let service = "service"
    static let name = "name"
    static let traceID = "trace_id"

    /// TraceQL's name for it.
    static func attribute(_ label: String) -> String {
        switch label {
        case service: "resource.service.name"
        case traceID: "trace:id"
        default: label
        }
    }

    static func check(_ matchers: [LabelMatcher]) throws(ObsError) {
        for matcher in matchers where ![service, name, traceID].contains(matcher.name) {
            throw ObsError(.badInput, "spans are chosen by service, name and trace_id, not by \(quoted(matcher.name))")
        }
    }

    static func match(_ matchers: [LabelMatcher], _ batch: SpanBatch, row: Int) -> Bool {
        batch.bytes.withUnsafeBytes { bytes in
            matchers.allSatisfy { matcher in
                switch matcher.name {
                case service: matcher.matches(UnsafeRawBufferPointer(rebasing: bytes[batch.services[Int(batch.resource[row])].range]))
                case name: matcher.matches(UnsafeRawBufferPointer(rebasing: bytes[batch.name[row].range]))
                case traceID: matcher.matches(batch.traceID[row].description)
                default: false
                }
            }
        }
    }
}

/// What is hidden in a tenant and signal at one moment. Readers take it before they take the segments: a tombstone goes only after the last segment it
/// concerns, so that who still reads that segment must have the tombstone.
struct Deletions: Sendable {
    var tombstones: [Tombstone] = []
    var expiry = Expiry()

    func mask(of segment: SegmentInfo) -> DeletedRows {
        DeletedRows(tombstones: tombstones.filter { $0.concerns(segment) }, expiry: expiry.concerning(segment.minTime))
    }
}

/// The hidden rows of one segment.
struct DeletedRows: RowMask {
    var tombstones: [Tombstone] = []
    /// Without rules when no row is old enough.
    var expiry = Expiry()

    var isEmpty: Bool { tombstones.isEmpty && expiry.rules.isEmpty }

    func rows(labels: UnsafeRawBufferPointer) -> HiddenRows {
        var rows = HiddenRows()
        for tombstone in tombstones {
            let more = tombstone.rows(labels: labels)
            rows.times += more.times
            rows.lines += more.lines
        }
        let cutoff = expiry.cutoff(labels: labels)
        if cutoff > .min { rows.times.append(.min...(cutoff - 1)) }
        return rows
    }

    func rows(_ labels: Labels) -> HiddenRows { isEmpty ? HiddenRows() : labels.bytes.withUnsafeBytes { rows(labels: $0) } }

    func deletedTimes(labels: UnsafeRawBufferPointer) -> [ClosedRange<Int64>] { rows(labels: labels).times }

    func deletedTimes(_ labels: Labels) -> [ClosedRange<Int64>] { isEmpty ? [] : labels.bytes.withUnsafeBytes { deletedTimes(labels: $0) } }

    func isDeleted(_ batch: SpanBatch, row: Int) -> Bool {
        tombstones.contains { $0.matches(batch, row: row) } || batch.startNanos[row] < expiry.cutoff(batch, row: row)
    }

    /// Whether everything of a series or stream between two times is deleted.
    func covers(_ times: ClosedRange<Int64>, _ labels: Labels) -> Bool {
        var start = times.lowerBound
        for range in deletedTimes(labels).sorted(by: { $0.lowerBound < $1.lowerBound }) where range.lowerBound <= start && range.upperBound >= start {
            if range.upperBound >= times.upperBound { return true }
            start = range.upperBound + 1
        }
        return false
    }
}
