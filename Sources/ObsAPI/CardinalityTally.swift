internal import ObsCore
internal import ObsHash
internal import ObsStore

/// Series counted by metric, label, label value and sender, in memory that does not grow with them (`CountedTexts`, `DistinctCount`).
struct CardinalityTally {
    /// Label names beyond are not told apart.
    private static let namesMax = 10_000
    private static let nameBytes = 6 << 10

    struct Label {
        var series = 0
        var values = DistinctCount()
        /// Bytes that names and values take, series by series.
        var bytes = 0
    }

    private(set) var series = 0
    private(set) var metrics: CountedTexts
    /// `label=value`; no label name has a `=`.
    private(set) var pairs: CountedTexts
    /// Canonical label sets of `job` and `instance`.
    private(set) var sources: CountedTexts
    private(set) var labels: [[UInt8]: Label] = [:]
    private let context: QueryContext

    init(_ context: QueryContext) {
        self.context = context
        metrics = CountedTexts(context)
        pairs = CountedTexts(context)
        sources = CountedTexts(context)
    }

    /// Counts all series of a range.
    init(_ reader: any Reader, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) throws(ObsError) {
        self.init(context)
        var tally = self
        try reader.forEachLabelSet(.metrics, selectors, range: range, context: context) { (labels: Labels) throws(ObsError) in try tally.add(labels) }
        self = tally
    }

    mutating func add(_ set: Labels) throws(ObsError) {
        series += 1
        var source: [UInt8] = []
        var failure: ObsError?
        set.forEach { name, value in
            guard failure == nil else { return }
            do throws(ObsError) { try add(name, value, &source) } catch { failure = error }
        }
        if let failure { throw failure }
        try sources.add(source)
    }

    private mutating func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ source: inout [UInt8]) throws(ObsError) {
        let key = Array(name)
        if labels[key] == nil {
            guard labels.count < Self.namesMax else { return }
            try context.charge(bytes: Self.nameBytes)
            labels[key] = Label()
        }
        labels[key]?.series += 1
        labels[key]?.values.add(hash64(value))
        labels[key]?.bytes += name.count + value.count + 2
        try pairs.add(key + [UInt8(ascii: "=")] + value)
        if key.elementsEqual("__name__".utf8) { try metrics.add(value) }
        if key.elementsEqual("job".utf8) || key.elementsEqual("instance".utf8) { appendLabel(&source, key, value) }
    }

    /// The biggest labels by some measure.
    func topLabels(_ limit: Int, by measure: (Label) -> Int) -> [(name: String, label: Label)] {
        let measured = labels.map { (name: $0.key, label: $0.value, size: measure($0.value)) }
        let order = measured.sorted { $0.size == $1.size ? $0.name.lexicographicallyPrecedes($1.name) : $0.size > $1.size }
        return order.prefix(limit).map { (String(decoding: $0.name, as: UTF8.self), $0.label) }
    }
}
