// An expression as text again. `description` is Prometheus' one-line form (`expr.String()`), `formatted` its `format_query`: what does not
// fit a line is broken at operators, arguments and parentheses.
internal import ObsCore
internal import ObsStore

private let lineCharactersMax = 100

extension Expression: CustomStringConvertible {
    package var description: String {
        switch self {
        case .number(let node): node.description
        case .string(let node): goQuoted(node.bytes)
        case .selector(let node): node.description
        case .range(let node): node.description
        case .subquery(let node): "\(node.expression)\(node.brackets)\(node.modifiers)"
        case .call(let node): "\(node.function.name)(\(node.arguments.map(\.description).joined(separator: ", ")))"
        case .aggregation(let node): "\(node.head)(\(node.arguments.map(\.description).joined(separator: ", ")))"
        case .binary(let node): "\(node.left) \(node.infix) \(node.right)"
        case .unary(let node): "\(node.negates ? "-" : "+")\(node.operand)"
        case .parentheses(let inner, _): "(\(inner))"
        }
    }

    /// The expression over as many lines as it needs, two blanks of indentation a level.
    package var formatted: String { pretty(0) }

    private func pretty(_ level: Int) -> String {
        let blanks = indentation(level)
        let line = description
        if line.utf8.count <= lineCharactersMax { return blanks + line }
        switch self {
        case .number, .string, .selector, .range: return blanks + line
        case .subquery(let node): return node.expression.pretty(level) + node.brackets + node.modifiers
        case .call(let node): return "\(blanks)\(node.function.name)(\n\(Self.pretty(node.arguments, level + 1))\n\(blanks))"
        case .aggregation(let node): return "\(blanks)\(node.head)(\n\(Self.pretty(node.arguments, level + 1))\n\(blanks))"
        case .binary(let node):
            return "\(node.left.pretty(level + 1))\n\(blanks)\(node.infix)\n\(node.right.pretty(level + 1))"
        case .unary(let node):
            let inner = node.operand.pretty(level).drop { $0 == " " }
            return blanks + (node.negates ? "-" : "+") + inner
        case .parentheses(let inner, _): return "\(blanks)(\n\(inner.pretty(level + 1))\n\(blanks))"
        }
    }

    private static func pretty(_ list: [Expression], _ level: Int) -> String { list.map { $0.pretty(level) }.joined(separator: ",\n") }
}

private func indentation(_ level: Int) -> String { String(repeating: " ", count: level * 2) }

extension NumberLiteral: CustomStringConvertible {
    package var description: String {
        isDuration && abs(value) < 9e12 ? formatDuration(millis: Int64((value * 1000).rounded())) : formatSampleValue(value)
    }
}

extension VectorSelector: CustomStringConvertible {
    package var description: String { bare + modifiers }

    var bare: String {
        var parts: [String] = []
        let nameIsPlain = name.map(isPlainMetricName) ?? false
        if let name, !nameIsPlain { parts.append(goQuoted(Array(name.utf8))) }
        var nameIsShown = false
        for matcher in matchers {
            // The name stands before the braces; a second matcher of it stays within.
            if !nameIsShown, matcher.name == "__name__", matcher.operation == .equal, matcher.value == name {
                nameIsShown = true
                continue
            }
            parts.append("\(labelText(matcher.name))\(matcher.operation.text)\(goQuoted(Array(matcher.value.utf8)))")
        }
        let front = nameIsPlain ? name ?? "" : ""
        return parts.isEmpty ? front : "\(front){\(parts.joined(separator: ","))}"
    }

    var modifiers: String { modifierText(at: at, offset: nil) + extensionText + modifierText(at: nil, offset: offset) }
    fileprivate var extensionText: String { rangeExtension.map { " \($0.rawValue)" } ?? "" }
}

extension RangeSelector: CustomStringConvertible {
    package var description: String {
        "\(selector.bare)[\(range)]\(selector.extensionText)\(modifierText(at: selector.at, offset: selector.offset))"
    }
}

extension Subquery {
    fileprivate var brackets: String { "[\(range):\(step.map(\.description) ?? "")]" }
    fileprivate var modifiers: String { modifierText(at: at, offset: offset) }
}

extension Aggregation {
    fileprivate var head: String {
        let list = grouping.map(labelText).joined(separator: ", ")
        if without { return "\(operation.rawValue) without (\(list)) " }
        return grouping.isEmpty ? operation.rawValue : "\(operation.rawValue) by (\(list)) "
    }

    fileprivate var arguments: [Expression] { (parameter.map { [$0] } ?? []) + [expression] }
}

extension BinaryOperation {
    /// The operator with `bool` and its matching.
    fileprivate var infix: String {
        var text = operation.rawValue + (returnsBool ? " bool" : "")
        guard let matching else { return text }
        if matching.on || !matching.labels.isEmpty {
            text += " \(matching.on ? "on" : "ignoring") (\(matching.labels.map(labelText).joined(separator: ", ")))"
        }
        let include = matching.include.map(labelText).joined(separator: ", ")
        if matching.cardinality == .manyToOne { text += " group_left (\(include))" }
        if matching.cardinality == .oneToMany { text += " group_right (\(include))" }
        return text + fillText(matching)
    }

    private func fillText(_ matching: VectorMatching) -> String {
        if let left = matching.fillLeft, let right = matching.fillRight, left == right || (left.isNaN && right.isNaN) {
            return " fill (\(formatSampleValue(left)))"
        }
        let left = matching.fillLeft.map { " fill_left (\(formatSampleValue($0)))" } ?? ""
        return left + (matching.fillRight.map { " fill_right (\(formatSampleValue($0)))" } ?? "")
    }
}

extension DurationExpression: CustomStringConvertible {
    package var description: String {
        switch self {
        case .literal(let literal): NumberLiteral(value: literal.value, isDuration: true, position: literal.position).description
        case .step: "step()"
        case .range: "range()"
        case .negated(let inner): "-\(inner)"
        case .binary(let operation, let left, let right): "\(left) \(operation.rawValue) \(right)"
        case .smaller(let left, let right): "min_of(\(left), \(right))"
        case .greater(let left, let right): "max_of(\(left), \(right))"
        case .parentheses(let inner): "(\(inner))"
        }
    }
}

private func modifierText(at: AtModifier?, offset: DurationExpression?) -> String {
    var text = ""
    switch at {
    case nil: break
    case .time(let millis): text = " @ \(millis < 0 ? "-" : "")\(abs(millis) / 1000).\(padded(Int(abs(millis) % 1000), 3))"
    case .start: text = " @ start()"
    case .end: text = " @ end()"
    }
    return text + (offset.map { " offset \($0)" } ?? "")
}

extension LabelMatcher.Operation {
    fileprivate var text: String {
        switch self {
        case .equal: "="
        case .notEqual: "!="
        case .matches: "=~"
        case .matchesNot: "!~"
        }
    }
}

private func labelText(_ name: String) -> String { isPlainLabelName(name) ? name : goQuoted(Array(name.utf8)) }

private func isPlainLabelName(_ name: String) -> Bool { !name.contains(":") && isPlainMetricName(name) }

private func isPlainMetricName(_ name: String) -> Bool {
    guard let first = name.utf8.first, !(first >= UInt8(ascii: "0") && first <= UInt8(ascii: "9")) else { return false }
    return name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"),
            UInt8(ascii: ":"):
            true
        default: false
        }
    }
}

/// A string literal as Go's %q prints it, bytes that are not UTF-8 as `\xNN`.
func goQuoted(_ bytes: [UInt8]) -> String {
    var result = "\""
    guard let text = String(validating: bytes, as: UTF8.self) else {
        for byte in bytes {
            if byte >= 0x20, byte < 0x7f { result.unicodeScalars.append(Unicode.Scalar(byte)) } else { result += hexadecimalEscape(byte) }
        }
        return result + "\""
    }
    for scalar in escapedForQuotes(text).unicodeScalars {
        switch scalar {
        case "\t": result += "\\t"
        case "\r": result += "\\r"
        default:
            if scalar.value < 0x20 || scalar.value == 0x7f { result += hexadecimalEscape(UInt8(scalar.value)) } else { result.unicodeScalars.append(scalar) }
        }
    }
    return result + "\""
}

private func hexadecimalEscape(_ byte: UInt8) -> String { "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16) }
