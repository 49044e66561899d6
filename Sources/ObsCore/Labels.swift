/// A label set in its canonical byte form: for each pair, sorted bytewise by name, `varint length · name · varint length · value`.
///
/// An empty value equals an absent label, so the form never holds one; names are unique. Equal sets have equal bytes: hashing and
/// comparing need no decoding, and bytes that are not valid UTF-8 survive. `Labels` is for edges and per-series work;
/// batches carry the same bytes as ranges.
package struct Labels: Hashable, Sendable, CustomStringConvertible {
    /// The canonical form.
    package let bytes: [UInt8]
    package static let empty = Labels(canonical: [])

    /// Takes bytes already in canonical form (from a batch, a segment).
    package init(canonical bytes: [UInt8]) { self.bytes = bytes }

    /// Sorts, drops empty values; of a repeated name the last pair wins.
    package init(_ pairs: [(name: String, value: String)]) {
        var builder = LabelsBuilder()
        for pair in pairs { builder.set(pair.name, pair.value) }
        self = builder.labels()
    }

    package var isEmpty: Bool { bytes.isEmpty }

    /// Value of a label; nil when absent.
    package subscript(_ name: String) -> String? {
        var name = name
        return name.withUTF8 { wanted in
            bytes.withUnsafeBytes { all in
                find(UnsafeRawBufferPointer(wanted), in: all).map { String(decoding: all[$0], as: UTF8.self) }
            }
        }
    }

    /// Calls `body` with each pair in order. The pointers live as long as the call.
    package func forEach(_ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) {
        bytes.withUnsafeBytes { forEachLabel($0, body) }
    }

    package var pairs: [(name: String, value: String)] {
        var result: [(name: String, value: String)] = []
        forEach { result.append((String(decoding: $0, as: UTF8.self), String(decoding: $1, as: UTF8.self))) }
        return result
    }

    /// `{a="b", c="d"}`, values escaped as PromQL string literals.
    package var description: String {
        "{" + pairs.map { "\($0.name)=\"\(escapedForQuotes($0.value))\"" }.joined(separator: ", ") + "}"
    }

    /// Prometheus' order: pair by pair, name then value, bytewise; a prefix comes first.
    package static func compare(_ a: Labels, _ b: Labels) -> Int {
        a.bytes.withUnsafeBytes { x in b.bytes.withUnsafeBytes { y in compareLabels(x, y) } }
    }
}

extension Labels {
    /// As the synthesized one, at once instead of byte by byte.
    package static func == (a: Labels, b: Labels) -> Bool {
        a.bytes.withUnsafeBytes { x in b.bytes.withUnsafeBytes { y in x.count == y.count && (x.baseAddress == y.baseAddress || compareBytes(x, y) == 0) } }
    }
}

extension Labels {
    /// All bytes at once; an array's own way is one byte after the other.
    package func hash(into hasher: inout Hasher) { bytes.withUnsafeBytes { hasher.combine(bytes: $0) } }
}

extension Labels: Comparable {
    package static func < (a: Labels, b: Labels) -> Bool { compare(a, b) < 0 }
}

/// Builds a canonical label set from pairs in any order.
package struct LabelsBuilder {
    private var pairs: [(name: [UInt8], value: [UInt8])] = []

    package init() {}

    package init(_ labels: Labels) {
        labels.forEach { pairs.append(([UInt8]($0), [UInt8]($1))) }
    }

    /// Sets a label; an empty value removes it.
    package mutating func set(_ name: String, _ value: String) { set([UInt8](name.utf8), [UInt8](value.utf8)) }

    package mutating func set(_ name: [UInt8], _ value: [UInt8]) {
        if let at = pairs.firstIndex(where: { $0.name == name }) {
            if value.isEmpty { pairs.remove(at: at) } else { pairs[at].value = value }
        } else if !value.isEmpty {
            pairs.append((name, value))
        }
    }

    package mutating func remove(_ name: String) { set(name, "") }

    package subscript(_ name: String) -> String? {
        let wanted = [UInt8](name.utf8)
        return pairs.first { $0.name == wanted }.map { String(decoding: $0.value, as: UTF8.self) }
    }

    /// Keeps the pairs whose name satisfies the predicate.
    package mutating func filter(_ keep: (String) -> Bool) { pairs.removeAll { !keep(String(decoding: $0.name, as: UTF8.self)) } }

    package func labels() -> Labels {
        var bytes: [UInt8] = []
        for pair in pairs.sorted(by: { $0.name.lexicographicallyPrecedes($1.name) }) { appendLabel(&bytes, pair.name, pair.value) }
        return Labels(canonical: bytes)
    }
}

/// Appends one pair of the canonical form. The caller keeps the order and leaves out empty values.
package func appendLabel(_ bytes: inout [UInt8], _ name: some Collection<UInt8>, _ value: some Collection<UInt8>) {
    bytes.appendVarint(UInt64(name.count))
    bytes.append(contentsOf: name)
    bytes.appendVarint(UInt64(value.count))
    bytes.append(contentsOf: value)
}

/// Walks a canonical label set. Stops quietly at bytes that are not one: those are only ever made by this package, checksummed on disk.
package func forEachLabel(_ bytes: UnsafeRawBufferPointer, _ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) {
    var position = 0
    while position < bytes.count {
        guard let name = readLabelPart(bytes, &position), let value = readLabelPart(bytes, &position) else { return }
        body(UnsafeRawBufferPointer(rebasing: bytes[name]), UnsafeRawBufferPointer(rebasing: bytes[value]))
    }
}

package func readLabelPart(_ bytes: UnsafeRawBufferPointer, _ position: inout Int) -> Range<Int>? {
    guard let length = readVarint(bytes, &position), length <= UInt64(bytes.count - position) else { return nil }
    let start = position
    position += Int(length)
    return start..<position
}

/// Range of the value of label `name` within a canonical label set.
package func find(_ name: UnsafeRawBufferPointer, in bytes: UnsafeRawBufferPointer) -> Range<Int>? {
    var position = 0
    while position < bytes.count {
        guard let found = readLabelPart(bytes, &position), let value = readLabelPart(bytes, &position) else { return nil }
        let order = compareBytes(UnsafeRawBufferPointer(rebasing: bytes[found]), name)
        if order == 0 { return value }
        if order > 0 { return nil }
    }
    return nil
}

/// Order of two canonical label sets, see `Labels.compare`.
package func compareLabels(_ a: UnsafeRawBufferPointer, _ b: UnsafeRawBufferPointer) -> Int {
    var x = 0
    var y = 0
    while x < a.count, y < b.count {
        guard let p = readLabelPart(a, &x), let q = readLabelPart(b, &y) else { break }
        let order = compareBytes(UnsafeRawBufferPointer(rebasing: a[p]), UnsafeRawBufferPointer(rebasing: b[q]))
        if order != 0 { return order }
    }
    return (a.count - x) - (b.count - y)
}

/// Backslash escapes of a double-quoted PromQL, LogQL or exposition string.
package func escapedForQuotes(_ text: String) -> String {
    guard text.utf8.contains(where: { $0 == UInt8(ascii: "\"") || $0 == UInt8(ascii: "\\") || $0 == UInt8(ascii: "\n") }) else { return text }
    var result = ""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result
}
