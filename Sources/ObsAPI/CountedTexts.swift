internal import ObsCore
internal import ObsHash
internal import ObsStore

/// Counts by text in bounded memory. Past twice `kept` different texts, the smaller half is forgotten: from then on a count may miss what it had when it was
/// forgotten, at most `missedMax`; the biggest counts are right or nearly so.
struct CountedTexts {
    static let kept = 1 << 16
    /// An entry with its key in a table, beside the text.
    private static let entryBytes = 96

    private struct Entry {
        var text: [UInt8]
        var count: Int
    }

    private var entries: [UInt64: Entry] = [:]
    private let context: QueryContext
    private var heldBytes = 0
    private(set) var missedMax = 0

    init(_ context: QueryContext) { self.context = context }

    var count: Int { entries.count }

    mutating func add(_ text: some Collection<UInt8>, _ amount: Int = 1) throws(ObsError) {
        let key = Array(text)
        let hash = key.withUnsafeBytes { hash64($0) }
        if entries[hash]?.count != nil {
            entries[hash]?.count += amount
            return
        }
        let bytes = key.count + Self.entryBytes
        try context.charge(bytes: bytes)
        heldBytes += bytes
        entries[hash] = Entry(text: key, count: amount)
        if entries.count >= Self.kept * 2 { forget() }
    }

    private mutating func forget() {
        let order = entries.sorted { $0.value.count > $1.value.count }
        missedMax += order[Self.kept].value.count
        entries = Dictionary(uniqueKeysWithValues: order.prefix(Self.kept).map { ($0.key, $0.value) })
        let bytes = entries.values.reduce(0) { $0 + $1.text.count + Self.entryBytes }
        context.release(bytes: heldBytes - bytes)
        heldBytes = bytes
    }

    func count(of text: some Collection<UInt8>) -> Int { Array(text).withUnsafeBytes { entries[hash64($0)]?.count ?? 0 } }

    /// The biggest, of equal ones the first by text.
    func top(_ limit: Int) -> [(text: [UInt8], count: Int)] {
        let order = entries.values.sorted { $0.count == $1.count ? $0.text.lexicographicallyPrecedes($1.text) : $0.count > $1.count }
        return order.prefix(limit).map { ($0.text, $0.count) }
    }
}
