internal import ObsCore

/// A Go text template of the kind `line_format` and `label_format` take: text, `{{.label}}`, pipelines of functions, `if`/`else`.
///
/// The common actions (`{{.label}}`, `{{__line__}}`) copy bytes; everything else goes through `TemplateValue`.
struct Template: Sendable {
    indirect enum Node: Sendable {
        case text([UInt8])
        case field([UInt8])
        case line
        case action(Expression)
        case condition(Expression, then: [Node], otherwise: [Node])
        case with(Expression, then: [Node], otherwise: [Node])
    }

    indirect enum Expression: Sendable {
        case literal(TemplateValue)
        case field([UInt8])
        /// `.`
        case dot
        case call(String, [Expression])
        /// The left side's value becomes the right side's last argument.
        case pipe(Expression, into: Expression)
    }

    private let nodes: [Node]

    /// - Throws: `.badInput` naming what is wrong.
    init(_ text: String) throws(ObsError) {
        var parser = TemplateParser(text)
        nodes = try parser.template()
    }

    /// Appends the rendered text; a description of the failure when there is one.
    func render(_ row: Row, into output: inout [UInt8]) -> String? {
        do throws(TemplateFailure) {
            try render(nodes, row, nil, &output)
            return nil
        } catch {
            return error.message
        }
    }

    private func render(_ nodes: [Node], _ row: Row, _ dot: TemplateValue?, _ output: inout [UInt8]) throws(TemplateFailure) {
        for node in nodes {
            switch node {
            case .text(let bytes): output += bytes
            case .field(let name): row.withValue(name) { output.append(contentsOf: $0) }
            case .line: output.append(contentsOf: row.line)
            case .action(let expression): output += Array(try evaluate(expression, row, dot).text.utf8)
            case .condition(let expression, let then, let otherwise):
                try render(evaluate(expression, row, dot).isTrue ? then : otherwise, row, dot, &output)
            case .with(let expression, let then, let otherwise):
                let value = try evaluate(expression, row, dot)
                if value.isTrue { try render(then, row, value, &output) } else { try render(otherwise, row, dot, &output) }
            }
            if output.count > Self.outputBytesMax { throw TemplateFailure("output is longer than \(Self.outputBytesMax) bytes") }
        }
    }

    /// Templates can repeat and indent: one row's output stays bounded.
    static let outputBytesMax = 8 << 20

    private func evaluate(_ expression: Expression, _ row: Row, _ dot: TemplateValue?) throws(TemplateFailure) -> TemplateValue {
        switch expression {
        case .literal(let value): return value
        case .field(let name): return .string(String(decoding: row.value(name) ?? [], as: UTF8.self))
        case .dot: return dot ?? .string("")
        case .call(let name, let arguments): return try call(name, arguments, nil, row, dot)
        case .pipe(let left, let right):
            let value = try evaluate(left, row, dot)
            guard case .call(let name, let arguments) = right else { throw TemplateFailure("can't give argument to non-function") }
            return try call(name, arguments, value, row, dot)
        }
    }

    private func call(_ name: String, _ arguments: [Expression], _ last: TemplateValue?, _ row: Row, _ dot: TemplateValue?) throws(TemplateFailure)
        -> TemplateValue
    {
        switch name {
        case "__line__": return .string(String(decoding: row.line, as: UTF8.self))
        case "__timestamp__": return .time(row.timeNanos)
        case "and", "or":
            // These stop at the first value that decides.
            var value = TemplateValue.bool(name == "and")
            for argument in arguments {
                value = try evaluate(argument, row, dot)
                if value.isTrue != (name == "and") { return value }
            }
            return last ?? value
        default:
            var values: [TemplateValue] = []
            for argument in arguments { values.append(try evaluate(argument, row, dot)) }
            if let last { values.append(last) }
            return try callTemplateFunction(name, values)
        }
    }
}

struct TemplateFailure: Error {
    let message: String
    init(_ message: String) { self.message = message }
}

enum TemplateValue: Sendable {
    case string(String)
    case int(Int64)
    case float(Double)
    case bool(Bool)
    /// Nanoseconds since the epoch.
    case time(Int64)

    /// As Go prints it.
    var text: String {
        switch self {
        case .string(let text): text
        case .int(let number): String(number)
        case .float(let number): formatGo(number)
        case .bool(let flag): flag ? "true" : "false"
        case .time(let nanos): formatGoTime(nanos, "2006-01-02 15:04:05.999999999 -0700 MST")
        }
    }

    var isTrue: Bool {
        switch self {
        case .string(let text): !text.isEmpty
        case .int(let number): number != 0
        case .float(let number): number != 0
        case .bool(let flag): flag
        case .time: true
        }
    }

    /// As sprig's `float64` reads it: 0 for what is no number.
    var number: Double {
        switch self {
        case .string(let text): Double(text) ?? 0
        case .int(let number): Double(number)
        case .float(let number): number
        case .bool(let flag): flag ? 1 : 0
        case .time(let nanos): Double(nanos)
        }
    }

    /// As sprig's `int64` reads it: cut towards zero, 0 for what is no number.
    var integer: Int64 {
        switch self {
        case .int(let number): return number
        case .string(let text):
            if let number = Int64(text) { return number }
        default: break
        }
        let value = number
        return Int64(exactly: value.rounded(.towardZero)) ?? 0
    }
}

/// Go's `%v` of a float64: shortest digits, exponent form below 1e-4 and from 1e21.
private func formatGo(_ value: Double) -> String {
    if value != 0, abs(value) < 1e-4, value.isFinite {
        let (digits, exponent) = decimalDigits(abs(value))
        let fraction = digits.count > 1 ? "." + digits.dropFirst() : ""
        return "\(value < 0 ? "-" : "")\(digits.prefix(1))\(fraction)e-\(padded(1 - exponent, 2))"
    }
    return formatSampleValue(value)
}
