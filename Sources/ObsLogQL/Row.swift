internal import Glibc
internal import ObsCore
internal import ObsStore

/// A record on its way through a pipeline: its line and its labels.
///
/// One `Row` serves all rows of a scan, one after the other: its buffers are reused, so that a row costs no allocation. Labels are
/// ranges into `texts`; those that rows share (stream, resource, scope) are laid down once per change and the rest cut off behind them.
///
/// Labels live in three groups. A name is looked up among parsed labels first, then structured metadata, then stream labels.
final class Row {
    enum Group: UInt8 { case stream, metadata, parsed }

    struct Entry {
        var name: Range<Int>
        var value: Range<Int>
        var group: Group
    }

    private(set) var texts: [UInt8] = []
    private(set) var entries: [Entry] = []
    private(set) var timeNanos: Int64 = 0
    /// The line as the stages left it. Points into the batch or into `ownLine`; valid until the next stage that sets it.
    private(set) var line = UnsafeRawBufferPointer(start: nil, count: 0)
    /// What `unwrap` found.
    var sample = 0.0
    /// Whether the stream labels are still those of the batch.
    private(set) var streamIsIntact = true
    private(set) var hasError = false

    private var ownLine = UnsafeMutableRawBufferPointer.allocate(byteCount: 1024, alignment: 16)
    /// Work space of the stages.
    var scratch: [UInt8] = []
    var scratch2: [UInt8] = []

    private struct Shared: Equatable {
        var stream: UInt32
        var resource: UInt32
        var scope: UInt32
    }
    private var shared: Shared?
    private var sharedEntries: [Entry] = []
    private var sharedTextCount = 0

    deinit { ownLine.deallocate() }

    // MARK: Loading

    /// Forgets what was shared by rows of the last batch.
    func startBatch() { shared = nil }

    /// Begins with row `row`; `bytes` are the batch's, and must outlive the row's way through the pipeline.
    func load(_ batch: LogBatch, _ row: Int, bytes: UnsafeRawBufferPointer, withLabels: Bool) {
        timeNanos = batch.timeNanos[row]
        line = UnsafeRawBufferPointer(rebasing: bytes[batch.line[row].range])
        sample = 0
        hasError = false
        streamIsIntact = true
        guard withLabels else { return }
        let place = Shared(stream: batch.stream[row], resource: batch.resource[row], scope: batch.scope[row])
        if shared != place {
            layShared(batch, place, bytes)
            shared = place
        } else {
            texts.removeSubrange(sharedTextCount...)
            entries.removeAll(keepingCapacity: true)
            entries.append(contentsOf: sharedEntries)
        }
        loadMetadata(batch, row, bytes)
    }

    private func layShared(_ batch: LogBatch, _ place: Shared, _ bytes: UnsafeRawBufferPointer) {
        texts.removeAll(keepingCapacity: true)
        entries.removeAll(keepingCapacity: true)
        forEachLabel(UnsafeRawBufferPointer(rebasing: bytes[batch.streams[Int(place.stream)].range])) { name, value in
            add(name, value, .stream)
        }
        if place.resource != 0 {
            forEachAttribute(UnsafeRawBufferPointer(rebasing: bytes[batch.resources[Int(place.resource)].range])) { view in
                addAttribute(view, prefix: "")
                return true
            }
        }
        if place.scope != 0 {
            forEachAttribute(UnsafeRawBufferPointer(rebasing: bytes[batch.scopes[Int(place.scope)].range])) { view in
                let isOwn = view.key.starts(with: "attr.".utf8)
                addAttribute(view, prefix: isOwn ? "" : "scope_", keyOffset: isOwn ? 5 : 0)
                return true
            }
        }
        sharedEntries = entries
        sharedTextCount = texts.count
    }

    private static let traceName = [UInt8]("trace_id".utf8)
    private static let spanName = [UInt8]("span_id".utf8)
    static let levelName = [UInt8]("detected_level".utf8)

    private func loadMetadata(_ batch: LogBatch, _ row: Int, _ bytes: UnsafeRawBufferPointer) {
        let attributes = batch.attributes[row]
        if !attributes.isEmpty {
            forEachAttribute(UnsafeRawBufferPointer(rebasing: bytes[attributes.range])) { view in
                addAttribute(view, prefix: "")
                return true
            }
        }
        if !batch.traceID[row].isNone { addHexadecimal(Self.traceName, [batch.traceID[row].high, batch.traceID[row].low]) }
        if batch.spanID[row] != 0 { addHexadecimal(Self.spanName, [batch.spanID[row]]) }
        if find(Self.levelName) == nil {
            let name = append(Self.levelName)
            entries.append(Entry(name: name, value: append(Severity.word(batch.severity[row]).utf8), group: .metadata))
        }
    }

    private func addHexadecimal(_ name: [UInt8], _ words: [UInt64]) {
        guard find(name, in: .metadata) == nil else { return }
        let name = append(name)
        let start = texts.count
        for word in words {
            for shift in stride(from: UInt64(60), through: 0, by: -4) {
                let digit = UInt8(truncatingIfNeeded: word >> shift & 15)
                texts.append(digit < 10 ? digit + UInt8(ascii: "0") : digit - 10 + UInt8(ascii: "a"))
            }
        }
        entries.append(Entry(name: name, value: start..<texts.count, group: .metadata))
    }

    /// An attribute as structured metadata: key sanitised, maps flattened (`a_b`), other types as text. What repeats a stream label is left out.
    private func addAttribute(_ view: AttributeView, prefix: StaticString, keyOffset: Int = 0) {
        scratch.removeAll(keepingCapacity: true)
        prefix.withUTF8Buffer { scratch.append(contentsOf: $0) }
        appendSanitised(UnsafeRawBufferPointer(rebasing: view.key[min(keyOffset, view.key.count)...]), to: &scratch)
        switch view.type {
        case .string, .list: addMetadata(scratch, view.payload)
        case .map:
            var scanner = JSONText(view.payload)
            var name = scratch
            _ = scanner.flatten(&name) { name, value in addMetadata(name, value) }
        case .bool, .int, .double, .bytes:
            var text = view.value.text
            text.withUTF8 { addMetadata(scratch, UnsafeRawBufferPointer($0)) }
        }
    }

    private func addMetadata(_ name: [UInt8], _ value: UnsafeRawBufferPointer) {
        if name.isEmpty || find(name, in: .stream) != nil { return }
        if let at = find(name, in: .metadata) {
            // A record's own attribute comes after the shared ones and wins.
            entries[at].value = append(value)
        } else {
            let name = append(name)
            entries.append(Entry(name: name, value: append(value), group: .metadata))
        }
    }

    // MARK: Looking up

    /// Index of a label, by the order of groups.
    func find(_ name: [UInt8]) -> Int? {
        var found: Int?
        for (index, entry) in entries.enumerated() where entry.name.count == name.count && isEqual(entry.name, name) {
            if let best = found, entries[best].group.rawValue >= entry.group.rawValue { continue }
            found = index
        }
        return found
    }

    func find(_ name: [UInt8], in group: Group) -> Int? {
        entries.firstIndex { $0.group == group && $0.name.count == name.count && isEqual($0.name, name) }
    }

    private func isEqual(_ range: Range<Int>, _ name: [UInt8]) -> Bool {
        texts.withUnsafeBytes { all in
            name.withUnsafeBytes { wanted in
                guard let a = all.baseAddress, let b = wanted.baseAddress else { return wanted.isEmpty }
                return memcmp(a + range.lowerBound, b, wanted.count) == 0
            }
        }
    }

    /// The value of a label; empty when absent. The pointer lives as long as the call.
    func withValue<R>(_ name: [UInt8], _ body: (UnsafeRawBufferPointer) -> R) -> R {
        guard let at = find(name) else { return body(UnsafeRawBufferPointer(start: nil, count: 0)) }
        return withText(entries[at].value, body)
    }

    func withText<R>(_ range: Range<Int>, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        texts.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    func value(_ name: [UInt8]) -> [UInt8]? { find(name).map { Array(texts[entries[$0].value]) } }

    // MARK: Changing

    private func append(_ text: some Sequence<UInt8>) -> Range<Int> {
        let start = texts.count
        texts.append(contentsOf: text)
        return start..<texts.count
    }

    private func append(_ text: UnsafeRawBufferPointer) -> Range<Int> {
        let start = texts.count
        texts.append(contentsOf: text)
        return start..<texts.count
    }

    private func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, _ group: Group) {
        let name = append(name)
        entries.append(Entry(name: name, value: append(value), group: group))
    }

    /// A label a parser found: the first of a name wins, one named as a stream or metadata label becomes `<name>_extracted`.
    func addParsed(_ name: [UInt8], _ value: UnsafeRawBufferPointer) {
        guard !name.isEmpty else { return }
        var name = name
        if find(name, in: .stream) != nil || find(name, in: .metadata) != nil { name += Array("_extracted".utf8) }
        guard find(name, in: .parsed) == nil else { return }
        let place = append(name)
        entries.append(Entry(name: place, value: append(value), group: .parsed))
    }

    /// Sets a label, whatever it was before; it moves to the group given.
    func set(_ name: [UInt8], _ value: [UInt8], _ group: Group = .parsed) {
        remove(name)
        let place = append(name)
        entries.append(Entry(name: place, value: append(value), group: group))
        if group == .stream { streamIsIntact = false }
    }

    func remove(_ name: [UInt8]) {
        while let at = find(name) { remove(at: at) }
    }

    func remove(at index: Int) {
        if entries[index].group == .stream { streamIsIntact = false }
        entries.remove(at: index)
        hasError = find(errorName) != nil
    }

    func setError(_ kind: String, _ details: String) {
        set(errorName, Array(kind.utf8))
        set(errorDetailsName, Array(details.utf8))
        hasError = true
    }

    /// Replaces the line; the bytes are copied.
    func setLine(_ bytes: [UInt8]) {
        if bytes.count > ownLine.count {
            ownLine.deallocate()
            ownLine = .allocate(byteCount: bytes.count * 2, alignment: 16)
        }
        ownLine.copyBytes(from: bytes)
        line = UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(ownLine)[..<bytes.count])
    }

    // MARK: Giving out

    /// Appends the canonical label set of one group, or of all where `group` is nil, without the labels `except` names.
    func appendLabels(_ group: Group?, except: [[UInt8]] = [], keepingEmpty: Bool, to bytes: inout [UInt8]) {
        let order = sortedEntries()
        for (place, index) in order.enumerated() {
            let entry = entries[index]
            if let group, entry.group != group { continue }
            if entry.value.isEmpty, !keepingEmpty { continue }
            // Of equal names the one of the highest group comes last in the order.
            if group == nil, place + 1 < order.count, compare(entry.name, entries[order[place + 1]].name) == 0 { continue }
            if !except.isEmpty, except.contains(where: { $0.count == entry.name.count && isEqual(entry.name, $0) }) { continue }
            appendLabel(&bytes, texts[entry.name], texts[entry.value])
        }
    }

    /// Appends the canonical set of the labels named, which are in order.
    func appendLabels(only names: [[UInt8]], to bytes: inout [UInt8]) {
        for name in names {
            guard let at = find(name), !entries[at].value.isEmpty else { continue }
            appendLabel(&bytes, name, texts[entries[at].value])
        }
    }

    private var order: [Int] = []

    private func sortedEntries() -> [Int] {
        order.removeAll(keepingCapacity: true)
        for index in entries.indices {
            // Insertion: few entries, mostly in order.
            var at = order.count
            order.append(index)
            while at > 0, isBefore(entries[index], entries[order[at - 1]]) {
                order[at] = order[at - 1]
                at -= 1
            }
            order[at] = index
        }
        return order
    }

    private func isBefore(_ a: Entry, _ b: Entry) -> Bool {
        let names = compare(a.name, b.name)
        return names != 0 ? names < 0 : a.group.rawValue < b.group.rawValue
    }

    private func compare(_ a: Range<Int>, _ b: Range<Int>) -> Int {
        texts.withUnsafeBytes { compareBytes(UnsafeRawBufferPointer(rebasing: $0[a]), UnsafeRawBufferPointer(rebasing: $0[b])) }
    }

    func labels(_ group: Group?, keepingEmpty: Bool = false) -> Labels {
        var bytes: [UInt8] = []
        appendLabels(group, keepingEmpty: keepingEmpty, to: &bytes)
        return Labels(canonical: bytes)
    }
}

let errorName = [UInt8]("__error__".utf8)
let errorDetailsName = [UInt8]("__error_details__".utf8)

/// Appends a key as a label name: what is not `[A-Za-z0-9_:]` becomes `_`, a leading digit gets a `_` before it.
func appendSanitised(_ key: UnsafeRawBufferPointer, to bytes: inout [UInt8]) {
    if bytes.isEmpty, let first = key.first, isDigit(first) { bytes.append(UInt8(ascii: "_")) }
    for byte in key { bytes.append(isLetter(byte) || isDigit(byte) || byte == UInt8(ascii: ":") ? byte : UInt8(ascii: "_")) }
}
