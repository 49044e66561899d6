internal import ObsCore
internal import ObsStore

// Canonical text of a query: what `format_query` answers and what error messages quote. It parses to the same query again.

extension LogQLExpression: CustomStringConvertible {
    package var description: String {
        switch self {
        case .log(let query): query.description
        case .metric(let expression): expression.description
        }
    }
}

private func quotedLiteral(_ text: String) -> String {
    // Raw strings keep patterns readable; they cannot hold a backquote.
    if text.utf8.contains(UInt8(ascii: "\\")), !text.utf8.contains(UInt8(ascii: "`")) { return "`\(text)`" }
    return "\"\(escapedForQuotes(text))\""
}

private func text(_ matcher: LabelMatcher) -> String {
    let operation =
        switch matcher.operation {
        case .equal: "="
        case .notEqual: "!="
        case .matches: "=~"
        case .matchesNot: "!~"
        }
    return "\(matcher.name)\(operation)\(quotedLiteral(matcher.value))"
}

extension LogQuery: CustomStringConvertible {
    package var description: String {
        (["{\(matchers.map { text($0) }.joined(separator: ", "))}"] + stages.map(\.description)).joined(separator: " ")
    }
}

extension StageExpression: CustomStringConvertible {
    var description: String {
        switch self {
        case .lineFilter(let filter):
            "\(filter.operation.rawValue) "
                + filter.alternatives.map { $0.isAddress ? "ip(\(quotedLiteral($0.text)))" : quotedLiteral($0.text) }.joined(separator: " or ")
        case .json(let list): "| json" + text(list)
        case .logfmt(let strict, let keepEmpty, let list): "| logfmt" + (strict ? " --strict" : "") + (keepEmpty ? " --keep-empty" : "") + text(list)
        case .regexp(let pattern): "| regexp \(quotedLiteral(pattern))"
        case .pattern(let pattern): "| pattern \(quotedLiteral(pattern))"
        case .unpack: "| unpack"
        case .labelFilter(let filter): "| \(filter.description)"
        case .lineFormat(let template): "| line_format \(quotedLiteral(template))"
        case .labelFormat(let list): "| label_format " + list.map { "\($0.label)=\($0.source.description)" }.joined(separator: ", ")
        case .decolorize: "| decolorize"
        case .drop(let list): "| drop " + text(list)
        case .keep(let list): "| keep " + text(list)
        case .unwrap(let label, let conversion): conversion == .number ? "| unwrap \(label)" : "| unwrap \(conversion.rawValue)(\(label))"
        }
    }

    private func text(_ list: [Extraction]) -> String {
        list.isEmpty ? "" : " " + list.map { "\($0.label)=\(quotedLiteral($0.path))" }.joined(separator: ", ")
    }

    private func text(_ list: [LabelChoice]) -> String { list.map { $0.matcher.map { ObsLogQL.text($0) } ?? $0.name }.joined(separator: ", ") }
}

extension StageExpression.LabelFormat.Source: CustomStringConvertible {
    var description: String {
        switch self {
        case .label(let name): name
        case .template(let template): quotedLiteral(template)
        }
    }
}

extension LabelFilterExpression: CustomStringConvertible {
    var description: String {
        switch self {
        case .and(let a, let b, let spelling): "\(a.inner)\(spelling)\(b.inner)"
        case .or(let a, let b): "\(a.inner) or \(b.inner)"
        case .text(let matcher): ObsLogQL.text(matcher)
        case .quantity(let name, let comparison, _, _, let literal): "\(name) \(comparison.rawValue) \(literal)"
        case .address(let name, let negated, let range): "\(name)\(negated ? "!=" : "=")ip(\(quotedLiteral(range)))"
        }
    }

    private var inner: String {
        switch self {
        case .and, .or: "(\(description))"
        default: description
        }
    }
}

extension Grouping: CustomStringConvertible {
    var description: String { "\(without ? "without" : "by") (\(labels.joined(separator: ", ")))" }
}

extension MetricExpression: CustomStringConvertible {
    package var description: String {
        switch self {
        case .range(let range):
            "\(range.function.rawValue)(\(range.parameter.map { formatSampleValue($0) + ", " } ?? "")\(range.query)[\(formatNanos(range.rangeNanos))]"
                + (range.offsetNanos == 0 ? "" : " offset \(formatNanos(range.offsetNanos))") + ")" + (range.grouping.map { " \($0)" } ?? "")
        case .vector(let vector):
            vector.function.rawValue + (vector.grouping.map { " \($0) " } ?? "") + "(\(vector.parameter.map { "\($0), " } ?? "")\(vector.operand))"
        case .binary(let binary): "(\(binary.left) \(binary.operation.rawValue)\(binary.modifiers) \(binary.right))"
        case .labelReplace(let replace):
            "label_replace(\(replace.operand), "
                + [replace.destination, replace.replacement, replace.source, replace.pattern].map { quotedLiteral($0) }.joined(separator: ", ") + ")"
        case .constantVector(let value): "vector(\(formatSampleValue(value)))"
        case .number(let value): formatSampleValue(value)
        }
    }
}

extension BinaryOperation {
    fileprivate var modifiers: String {
        var result = returnsBool ? " bool" : ""
        guard let matching else { return result }
        result += " \(matching.on ? "on" : "ignoring") (\(matching.labels.joined(separator: ", ")))"
        switch matching.cardinality {
        case .oneToOne: break
        case .manyToOne: result += " group_left (\(matching.include.joined(separator: ", ")))"
        case .oneToMany: result += " group_right (\(matching.include.joined(separator: ", ")))"
        }
        return result
    }
}
