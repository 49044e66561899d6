// Which label sets, label names and label values there are. Asked of the label index of segments and heads: a label set is made only where label sets are
// the answer, and then only as many as are.

internal import ObsCore
internal import ObsEncoding
internal import ObsSegment
internal import ObsStore

struct LabelQuestion {
    /// All matchers of one of them must hold; none: every label set counts.
    var selectors: [[LabelMatcher]]
    var range: ClosedRange<Int64>
    /// So many answers, the first in order.
    var limit: Int
    var context: QueryContext
}

/// Labels of one segment or head. Every answer is exact: nothing out of range, nothing deleted.
protocol LabelSource {
    /// Adds names of labels, in any order.
    func addNames(to found: inout FoundTexts) throws(ObsError)
    /// Adds values of a label, in any order: all, or at least the first `limit`.
    func addValues(_ name: String, to found: inout FoundTexts) throws(ObsError)
    /// Label sets in order.
    func sets() throws(ObsError) -> any SeriesSource
}

struct LabelLookup {
    let question: LabelQuestion
    let sources: [any LabelSource]

    func names() throws(ObsError) -> [String] { try texts { (source, found) throws(ObsError) in try source.addNames(to: &found) } }

    func values(_ name: String) throws(ObsError) -> [String] { try texts { (source, found) throws(ObsError) in try source.addValues(name, to: &found) } }

    func sets() throws(ObsError) -> [Labels] {
        var cursors: [any SeriesSource] = []
        for source in sources {
            try question.context.check()
            cursors.append(try source.sets())
        }
        let merged = MergedSeriesSet(cursors, context: question.context)
        var found: [Labels] = []
        while found.count < question.limit, let labels = try merged.nextLabels() { found.append(labels) }
        return found
    }

    private func texts(_ add: (any LabelSource, inout FoundTexts) throws(ObsError) -> Void) throws(ObsError) -> [String] {
        var found = FoundTexts(question.context)
        for source in sources where question.limit > 0 {
            try question.context.check()
            try add(source, &found)
            try found.check()
        }
        return found.first(question.limit)
    }
}

/// Different texts, at the query's expense.
struct FoundTexts {
    /// A text in the table and in the answer, beside its bytes.
    private static let textBytes = 80
    private var texts = ByteInterner()
    private var failure: ObsError?
    private let context: QueryContext

    init(_ context: QueryContext) { self.context = context }

    /// - Returns: whether more is wanted; if not, `check` throws why.
    mutating func add(_ text: UnsafeRawBufferPointer) -> Bool {
        let known = texts.count
        if texts.intern(text) < known { return true }
        do throws(ObsError) {
            if texts.count & 1023 == 0 { try context.check() }
            try context.charge(bytes: text.count * 2 + Self.textBytes)
            return true
        } catch {
            failure = error
            return false
        }
    }

    func check() throws(ObsError) { if let failure { throw failure } }

    func first(_ limit: Int) -> [String] {
        texts.sortedNumbers().prefix(limit).map { String(decoding: texts.bytes[texts.range($0)], as: UTF8.self) }
    }
}

struct MetricSegmentLabels: LabelSource {
    let segment: MetricSegment
    let question: LabelQuestion
    let mask: DeletedRows

    func addNames(to found: inout FoundTexts) throws(ObsError) {
        let reader = try segment.reader()
        var names: [String] = []
        try withOrdinals { (ordinals) throws(ObsError) in
            names = if let ordinals { try reader.labelNames(of: ordinals) } else { try reader.labelNames() }
        }
        for var name in names { _ = name.withUTF8 { found.add(UnsafeRawBufferPointer($0)) } }
    }

    func addValues(_ name: String, to found: inout FoundTexts) throws(ObsError) {
        let reader = try segment.reader()
        var left = question.limit
        var texts = found
        try withOrdinals { (ordinals) throws(ObsError) in
            try reader.forEachLabelValue(name, of: ordinals) { value in
                left -= 1
                return texts.add(value) && left > 0
            }
        }
        found = texts
    }

    func sets() throws(ObsError) -> any SeriesSource {
        try SegmentSeries(segment, question.selectors, range: question.range, mask: mask, context: question.context, forLabelsOnly: question.limit)
    }

    /// Gives the series that count, their ordinals at the query's expense.
    private func withOrdinals(_ body: ([Int]?) throws(ObsError) -> Void) throws(ObsError) {
        question.context.count(segments: 1)
        try segment.reading { () throws(ObsError) in
            let ordinals = try segment.ordinals(question.selectors, range: question.range, mask: mask)
            let bytes = (ordinals?.count ?? 0) * MemoryLayout<Int>.stride
            try question.context.charge(bytes: bytes)
            defer { question.context.release(bytes: bytes) }
            try body(ordinals)
        }
    }
}

/// Streams are few and in memory while the segment is open.
struct LogSegmentLabels: LabelSource {
    let segment: SegmentHandle<LogSegmentReader>
    let question: LabelQuestion
    let mask: DeletedRows

    func addNames(to found: inout FoundTexts) throws(ObsError) {
        for labels in try segment.streams(question.selectors, range: question.range, mask: mask) {
            labels.bytes.withUnsafeBytes { forEachLabel($0) { name, _ in _ = found.add(name) } }
        }
    }

    func addValues(_ name: String, to found: inout FoundTexts) throws(ObsError) {
        let name = [UInt8](name.utf8)
        for labels in try segment.streams(question.selectors, range: question.range, mask: mask) {
            labels.bytes.withUnsafeBytes { bytes in
                if let value = name.withUnsafeBytes({ find($0, in: bytes) }) { _ = found.add(UnsafeRawBufferPointer(rebasing: bytes[value])) }
            }
        }
    }

    func sets() throws(ObsError) -> any SeriesSource { ListedLabels(try segment.streams(question.selectors, range: question.range, mask: mask)) }
}

/// Label sets that are already there.
private final class ListedLabels: SeriesSource {
    private var rest: ArraySlice<Labels>
    init(_ labels: [Labels]) { rest = labels[...] }
    var labels: Labels? { rest.first }
    func samples() -> SampleColumns { SampleColumns() }
    func advance() { rest = rest.dropFirst() }
}

struct HeadLabels: LabelSource {
    let table: SeriesTable
    let question: LabelQuestion
    let expiry: Expiry
    let locked: Locked

    func addNames(to found: inout FoundTexts) throws(ObsError) {
        var texts = found
        if question.selectors.isEmpty {
            for name in table.index.names(in: table, range: question.range, expiry: expiry, locked: locked) { _ = name.withUnsafeBytes { texts.add($0) } }
        } else {
            try withSeries { ids in
                for id in ids { forEachLabel(table[id].pointee.labelBytes) { name, _ in _ = texts.add(name) } }
            }
        }
        found = texts
    }

    func addValues(_ name: String, to found: inout FoundTexts) throws(ObsError) {
        let name = [UInt8](name.utf8)
        var texts = found
        if question.selectors.isEmpty {
            let values = table.index.values(name, in: table, range: question.range, expiry: expiry, limit: question.limit, locked: locked)
            for value in values where !texts.add(value) { break }
        } else {
            try withSeries { ids in
                for id in ids {
                    let labels = table[id].pointee.labelBytes
                    guard let value = name.withUnsafeBytes({ find($0, in: labels) }) else { continue }
                    if !texts.add(UnsafeRawBufferPointer(rebasing: labels[value])) { break }
                }
            }
        }
        found = texts
    }

    func sets() throws(ObsError) -> any SeriesSource {
        var first: [Int] = []
        try withSeries { ids in
            first = firstSorted(ids, question.limit) { compareLabels(table[$0].pointee.labelBytes, table[$1].pointee.labelBytes) < 0 }
        }
        return HeadLabelSets(table, first)
    }

    /// Gives the series that count, in no order, their ids at the query's expense.
    private func withSeries(_ body: ([Int]) -> Void) throws(ObsError) {
        let ids = table.inReach(question.range, expiry, of: table.select(any: question.selectors, locked: locked), locked: locked)
        // Themselves and what choosing or sorting takes.
        let bytes = ids.count * 2 * MemoryLayout<Int>.stride
        try question.context.charge(bytes: bytes)
        defer { question.context.release(bytes: bytes) }
        body(ids)
    }
}

private final class HeadLabelSets: SeriesSource {
    private let table: SeriesTable
    private var rest: ArraySlice<Int>
    private(set) var labels: Labels?

    init(_ table: SeriesTable, _ ids: [Int]) {
        self.table = table
        rest = ids[...]
        advance()
    }

    func samples() -> SampleColumns { SampleColumns() }

    func advance() { labels = rest.popFirst().map { Labels(canonical: [UInt8](table[$0].pointee.labelBytes)) } }
}

/// The first `limit` elements in order, without sorting all when few of many are wanted.
func firstSorted<Element>(_ elements: some Collection<Element>, _ limit: Int, by precedes: (Element, Element) -> Bool) -> [Element] {
    guard limit > 0, limit < elements.count / 4 else { return Array(elements.sorted(by: precedes).prefix(limit)) }
    var kept: [Element] = []
    var isFull = false
    for element in elements {
        if isFull, !precedes(element, kept[limit - 1]) { continue }
        kept.append(element)
        if kept.count >= max(limit * 2, 64) {
            kept.sort(by: precedes)
            kept.removeLast(kept.count - limit)
            isFull = true
        }
    }
    kept.sort(by: precedes)
    return Array(kept.prefix(limit))
}
