// Functions of labels: worked out once a series.
internal import ObsCore
internal import ObsRegex

let labelFunctions: [Function] = [
    Function("label_replace", [.vector, .string, .string, .string, .string], .whole(labelReplace)),
    Function("label_join", [.vector, .string, .string, .string], variadic: -1, .whole(labelJoin)),
    Function(
        "sort_by_label", [.vector, .string], variadic: -1,
        .whole { (evaluator, call, timeline) throws(ObsError) in try sortByLabel(evaluator, call, timeline, descending: false) }),
    Function(
        "sort_by_label_desc", [.vector, .string], variadic: -1,
        .whole { (evaluator, call, timeline) throws(ObsError) in try sortByLabel(evaluator, call, timeline, descending: true) }),
]

private func text(_ call: Call, _ index: Int) -> String {
    guard case .string(let literal) = call.arguments[index].unwrapped else { return "" }
    return literal.value
}

private func destination(_ call: Call) throws(ObsError) -> String {
    guard case .string(let literal) = call.arguments[1].unwrapped, !literal.bytes.isEmpty, let name = String(validating: literal.bytes, as: UTF8.self) else {
        throw ObsError(.unprocessable, "invalid destination label name in \(call.function.name)(): \(text(call, 1))")
    }
    return name
}

/// A new metric name is one that stays.
private func relabelled(_ matrix: StepMatrix, _ destination: String, _ body: (Labels) -> Labels) throws(ObsError) -> Value {
    var builder = MatrixBuilder(capacity: matrix.series.count)
    for series in matrix.series {
        var changed = series
        changed.labels = body(series.labels)
        // A series whose name is given anew keeps it.
        if destination == "__name__" { changed.dropsName = false }
        try builder.add(changed)
    }
    return .vector(builder.matrix)
}

private let labelReplace: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let matrix = try evaluator.vector(call.arguments[0], timeline)
    let source = text(call, 3)
    let destination = try destination(call)
    let regex: Regex
    do { regex = try Regex(text(call, 4)) } catch {
        throw ObsError(.unprocessable, "invalid regular expression in label_replace(): \(text(call, 4))")
    }
    let template = Template(text(call, 2), groupNames: regex.groupNames)
    return try relabelled(matrix, destination) { labels in
        var value = labels[source] ?? ""
        let expanded = value.withUTF8 { bytes -> [UInt8]? in
            let raw = UnsafeRawBufferPointer(bytes)
            return regex.captures(in: raw, anchored: true).map { template.expanded(raw, $0) }
        }
        guard let expanded else { return labels }
        var builder = LabelsBuilder(labels)
        builder.set(Array(destination.utf8), expanded)
        return builder.labels()
    }
}

/// A replacement with `$1`, `${1}`, `$name`, `${name}` and `$$`, as Go's regexp expands it: the longest word after `$` is the name, and
/// an unknown group is empty.
private struct Template {
    private enum Part {
        case literal([UInt8])
        case group(Int)
    }
    private var parts: [Part] = []

    init(_ text: String, groupNames: [String?]) {
        var rest = Array(text.utf8)[...]
        var literal: [UInt8] = []
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "$"), let reference = Self.reference(&rest) else {
                literal.append(byte)
                continue
            }
            if reference == "$" {
                literal.append(byte)
                continue
            }
            parts.append(.literal(literal))
            literal = []
            let group = Int(reference) ?? groupNames.firstIndex(of: reference).map { $0 + 1 }
            if let group { parts.append(.group(group)) }
        }
        parts.append(.literal(literal))
    }

    /// Takes the name after a `$`; nil when there is none and the `$` stands for itself.
    private static func reference(_ rest: inout ArraySlice<UInt8>) -> String? {
        guard let first = rest.first else { return nil }
        if first == UInt8(ascii: "$") {
            rest.removeFirst()
            return "$"
        }
        let braced = first == UInt8(ascii: "{")
        let name = rest.dropFirst(braced ? 1 : 0).prefix { isWord($0) }
        guard !name.isEmpty else { return nil }
        if braced, rest.dropFirst(1 + name.count).first != UInt8(ascii: "}") { return nil }
        rest = rest.dropFirst(name.count + (braced ? 2 : 0))
        return String(decoding: name, as: UTF8.self)
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): true
        default: false
        }
    }

    func expanded(_ text: UnsafeRawBufferPointer, _ groups: [Range<Int>?]) -> [UInt8] {
        var result: [UInt8] = []
        for part in parts {
            switch part {
            case .literal(let bytes): result += bytes
            case .group(let index):
                if index >= 0, index < groups.count, let range = groups[index] { result.append(contentsOf: text[range]) }
            }
        }
        return result
    }
}

private let labelJoin: @Sendable (Evaluator, Call, Timeline) throws(ObsError) -> Value = { (evaluator, call, timeline) throws(ObsError) in
    let matrix = try evaluator.vector(call.arguments[0], timeline)
    let separator = text(call, 2)
    let destination = try destination(call)
    let sources = (3..<call.arguments.count).map { text(call, $0) }
    if let bad = sources.first(where: \.isEmpty) { throw ObsError(.unprocessable, "invalid source label name in label_join(): \(bad)") }
    return try relabelled(matrix, destination) { labels in
        var builder = LabelsBuilder(labels)
        builder.set(destination, sources.map { labels[$0] ?? "" }.joined(separator: separator))
        return builder.labels()
    }
}

private func sortByLabel(_ evaluator: Evaluator, _ call: Call, _ timeline: Timeline, descending: Bool) throws(ObsError) -> Value {
    noteSortInRange(evaluator, call, timeline)
    var matrix = try evaluator.vector(call.arguments[0], timeline)
    guard timeline.count == 1, !evaluator.isRange else { return .vector(matrix) }
    let names = (1..<call.arguments.count).map { text(call, $0) }
    let keyed = matrix.series.map { series in (series, names.map { Array((series.labels[$0] ?? "").utf8) }) }
    matrix.series = keyed.sorted { first, second in
        for (a, b) in zip(first.1, second.1) where a != b { return naturallyPrecedes(a, b) != descending }
        return (first.0.labels < second.0.labels) != descending
    }.map(\.0)
    matrix.isOrdered = true
    return .vector(matrix)
}

/// Runs of digits compare as numbers, everything else bytewise.
private func naturallyPrecedes(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    func digits(_ text: ArraySlice<UInt8>) -> ArraySlice<UInt8> { text.prefix { $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") } }
    var (x, y) = (a[...], b[...])
    while let p = x.first, let q = y.first {
        let (m, n) = (digits(x), digits(y))
        if !m.isEmpty, !n.isEmpty {
            let (u, v) = (m.drop { $0 == UInt8(ascii: "0") }, n.drop { $0 == UInt8(ascii: "0") })
            if u.count != v.count { return u.count < v.count }
            if !u.elementsEqual(v) { return u.lexicographicallyPrecedes(v) }
            if m.count != n.count { return m.count < n.count }
            (x, y) = (x.dropFirst(m.count), y.dropFirst(n.count))
        } else {
            if p != q { return p < q }
            (x, y) = (x.dropFirst(), y.dropFirst())
        }
    }
    return x.isEmpty && !y.isEmpty
}
