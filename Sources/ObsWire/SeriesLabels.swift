internal import ObsCore

/// The label set of one OTLP data point, from which the canonical sets of its series (buckets, quantiles, `_sum`, `_count`) are cut with three copies each.
///
/// Rank decides between labels of one name: what the resource and scope dictate (`job`, `instance`, `otel_scope_*`) wins over the point's attributes, those win over
/// promoted resource attributes. Attributes whose keys become one name are joined with `;` in the order of their keys.
struct SeriesLabels: ~Copyable {
    enum Rank: UInt8 { case dictated, attribute, promoted }

    private struct Entry {
        var name: Range<Int>
        var value: Range<Int>
        var key: UnsafeRawBufferPointer
        var rank: Rank
    }

    /// Names and values; those of the base come first and stay for all points of a scope.
    private var text = ByteArena(capacity: 4096)
    private var entries: [Entry] = []
    private var baseCount = 0
    private var baseEnd = 0
    /// The canonical form without `__name__` and the extra label, and where those belong.
    private var encoded = ByteArena(capacity: 4096)
    private var nameSplit = 0
    private var extraSplit = 0
    private let nestingMax: Int
    private let naming: LabelNaming
    /// Keys that begin with a letter need no look at their beginning.
    private let isPlain: Bool

    init(nestingMax: Int, naming: LabelNaming = LabelNaming()) {
        self.nestingMax = nestingMax
        self.naming = naming
        isPlain = !naming.isUnchanged && naming.keepsUnderscores
    }

    // MARK: - collecting

    /// Begins the base: labels every point of a scope has.
    mutating func beginBase() {
        text.truncate(to: 0)
        entries.removeAll(keepingCapacity: true)
        baseCount = 0
        baseEnd = 0
    }

    mutating func addBase(_ name: [UInt8], _ value: [UInt8], _ rank: Rank) {
        let start = text.count
        text.append(name)
        let middle = text.count
        text.append(value)
        entries.append(Entry(name: start..<middle, value: middle..<text.count, key: .nothing, rank: rank))
        baseCount = entries.count
        baseEnd = text.count
    }

    mutating func beginPoint() {
        text.truncate(to: baseEnd)
        entries.removeSubrange(baseCount...)
    }

    /// Adds the attribute (a `KeyValue`) the reader stands at. A malformed or too deeply nested value fails the reader.
    mutating func add(_ reader: inout ProtobufReader) {
        let pair = KeyValue(&reader)
        guard !reader.failed, !pair.key.isEmpty else { return }
        let start = text.count
        appendName(pair.key)
        let middle = text.count
        guard pair.value.appendText(to: &text, depth: nestingMax) else {
            reader.fail()
            return
        }
        entries.append(Entry(name: start..<middle, value: middle..<text.count, key: pair.key, rank: .attribute))
    }

    private mutating func appendName(_ key: UnsafeRawBufferPointer) {
        // Most keys are label names already once their dots are gone.
        if isPlain, let first = key.first, (first | 0x20) &- UInt8(ascii: "a") < 26 {
            text.reserve(key.count)
            for byte in key where byte & 0xc0 != 0x80 {
                let isKept = (byte | 0x20) &- UInt8(ascii: "a") < 26 || byte &- UInt8(ascii: "0") < 10
                text.append(isKept ? byte : UInt8(ascii: "_"))
            }
        } else {
            text.append(naming.name(key))
        }
    }

    // MARK: - encoding

    /// Sorts and encodes what was collected. `extra` is the label (`le`, `quantile`) that series of this point may get besides their name; empty for none.
    mutating func encode(extra: StaticString) {
        let all = text.slice(0..<text.count)
        func part(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: all[range]) }
        var sorted = entries
        sorted.sort {
            let order = compareBytes(part($0.name), part($1.name))
            if order != 0 { return order < 0 }
            if $0.rank != $1.rank { return $0.rank.rawValue < $1.rank.rawValue }
            return compareBytes($0.key, $1.key) < 0
        }
        encoded.truncate(to: 0)
        nameSplit = -1
        extraSplit = -1
        let metricName = bytes(of: "__name__")
        let extraName = bytes(of: extra)
        var at = 0
        while at < sorted.count {
            let name = part(sorted[at].name)
            var end = at + 1
            while end < sorted.count, compareBytes(part(sorted[end].name), name) == 0 { end += 1 }
            let toMetricName = compareBytes(name, metricName)
            let toExtra = extraName.isEmpty ? 1 : compareBytes(name, extraName)
            if toMetricName >= 0, nameSplit < 0 { nameSplit = encoded.count }
            if toExtra >= 0, extraSplit < 0 { extraSplit = encoded.count }
            if toMetricName != 0, extraName.isEmpty || toExtra != 0 { append(name, sorted[at..<end], all) }
            at = end
        }
        if nameSplit < 0 { nameSplit = encoded.count }
        if extraSplit < nameSplit { extraSplit = extraName.isEmpty ? nameSplit : max(extraSplit, encoded.count) }
    }

    /// Appends one label from the entries of its name, best rank first.
    private mutating func append(_ name: UnsafeRawBufferPointer, _ group: ArraySlice<Entry>, _ all: UnsafeRawBufferPointer) {
        guard let best = group.first else { return }
        // Of one key twice the first entry stays; of two keys both values do.
        var values: [UnsafeRawBufferPointer] = []
        if group.count > 1, best.rank == .attribute {
            var last = best.key
            for entry in group where entry.rank == .attribute {
                if values.isEmpty || compareBytes(entry.key, last) != 0 { values.append(UnsafeRawBufferPointer(rebasing: all[entry.value])) }
                last = entry.key
            }
        }
        if values.count > 1 {
            let joined = [UInt8](values.map { [UInt8]($0) }.joined(separator: [UInt8(ascii: ";")]))
            joined.withUnsafeBytes { encoded.appendLabel(name, $0) }
        } else if !best.value.isEmpty {
            encoded.appendLabel(name, UnsafeRawBufferPointer(rebasing: all[best.value]))
        }
    }

    /// Writes the canonical set of one series: `metric` + `suffix` as name, and the extra label if `extra` has a value.
    func write(_ metric: [UInt8], _ suffix: StaticString, extraName: StaticString, extra: [UInt8], to arena: inout ByteArena) -> ByteRange {
        let start = arena.count
        arena.reserve(encoded.count + metric.count + extra.count + 64)
        arena.append(encoded.slice(0..<nameSplit))
        arena.appendVarint(8)
        arena.append("__name__")
        arena.appendVarint(UInt64(metric.count + suffix.utf8CodeUnitCount))
        arena.append(metric)
        arena.append(suffix)
        if extra.isEmpty {
            arena.append(encoded.slice(nameSplit..<encoded.count))
        } else {
            arena.append(encoded.slice(nameSplit..<extraSplit))
            extra.withUnsafeBytes { arena.appendLabel(bytes(of: extraName), $0) }
            arena.append(encoded.slice(extraSplit..<encoded.count))
        }
        return arena.range(from: start)
    }

    private func bytes(of text: StaticString) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount) }
}

extension ByteArena {
    /// Appends one pair of a canonical label set.
    mutating func appendLabel(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        appendVarint(UInt64(name.count))
        append(name)
        appendVarint(UInt64(value.count))
        append(value)
    }
}
