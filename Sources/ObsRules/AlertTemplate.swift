// The part of Go's text/template that alert labels and annotations are written in: text, `{{ pipelines }}`, if/else if/else, range, with, variables, comments,
// trim markers. Parsed once when a rule file is loaded, so that a broken template is an error of the file; expanded for every alert.
// Left out: define/template/block (a value is one template).
package import ObsCore

package struct AlertTemplate: Sendable {
    let nodes: [TemplateNode]

    /// - Throws: `.badInput` saying what is wrong.
    package init(_ text: String) throws(ObsError) {
        var parser = TemplateParser(try templateTokens(text))
        nodes = try parser.list(until: []).nodes
    }

    /// The text for one alert. An error becomes part of the text, as in Prometheus: an alert with a broken annotation is better than none.
    package func expand(_ context: TemplateContext) -> String {
        var expander = TemplateExpander(context: context)
        do throws(ObsError) {
            try expander.run(nodes, dot: .map(context.root))
            return expander.output
        } catch {
            return "<error expanding template: \(error.message)>"
        }
    }
}

/// What templates can see.
package struct TemplateContext: Sendable {
    package var labels: Labels
    package var value: Double
    package var externalLabels: Labels
    package var externalURL: String
    package var nowMillis: Int64
    /// Answers the `query` function.
    package var query: @Sendable (String) throws(ObsError) -> [RuleSample]

    package init(
        labels: Labels, value: Double, externalLabels: Labels = .empty, externalURL: String = "", nowMillis: Int64 = 0,
        query: @escaping @Sendable (String) throws(ObsError) -> [RuleSample] = { _ in [] }
    ) {
        self.labels = labels
        self.value = value
        self.externalLabels = externalLabels
        self.externalURL = externalURL
        self.nowMillis = nowMillis
        self.query = query
    }

    var root: [String: TemplateValue] {
        [
            "Labels": .labels(labels), "ExternalLabels": .labels(externalLabels), "ExternalURL": .string(externalURL), "Value": .double(value),
        ]
    }

    var variables: [String: TemplateValue] {
        ["labels": .labels(labels), "externalLabels": .labels(externalLabels), "externalURL": .string(externalURL), "value": .double(value)]
    }
}

indirect enum TemplateValue: Sendable {
    case none
    case string(String)
    case double(Double)
    case int(Int)
    case bool(Bool)
    case labels(Labels)
    case map([String: TemplateValue])
    case list([TemplateValue])
    case sample(RuleSample)

    /// Go's `%v`.
    var text: String {
        switch self {
        case .none: "<no value>"
        case .string(let text): text
        case .double(let value): goText(value)
        case .int(let value): String(value)
        case .bool(let value): value ? "true" : "false"
        case .labels(let labels): "map[" + labels.pairs.map { "\($0.name):\($0.value)" }.joined(separator: " ") + "]"
        case .map(let map): "map[" + map.sorted { $0.key < $1.key }.map { "\($0.key):\($0.value.text)" }.joined(separator: " ") + "]"
        case .list(let list): "[" + list.map(\.text).joined(separator: " ") + "]"
        case .sample(let sample): "\(sample.labels) => \(goText(sample.value))"
        }
    }

    /// Go's truth: the zero value of a type is false.
    var isTrue: Bool {
        switch self {
        case .none: false
        case .string(let text): !text.isEmpty
        case .double(let value): value != 0
        case .int(let value): value != 0
        case .bool(let value): value
        case .labels(let labels): !labels.isEmpty
        case .map(let map): !map.isEmpty
        case .list(let list): !list.isEmpty
        case .sample: true
        }
    }
}

// MARK: - Syntax

enum TemplateNode: Sendable {
    case text(String)
    case pipeline(TemplatePipeline)
    case assign(name: String, TemplatePipeline)
    case condition([(TemplatePipeline, [TemplateNode])], otherwise: [TemplateNode])
    case with(TemplatePipeline, [TemplateNode], otherwise: [TemplateNode])
    case range(key: String?, value: String?, TemplatePipeline, [TemplateNode], otherwise: [TemplateNode])
}

/// `command | command | …`: each gets the one before's value as its last argument.
struct TemplatePipeline: Sendable {
    var commands: [[TemplateOperand]]
}

indirect enum TemplateOperand: Sendable {
    case literal(TemplateValue)
    case dot
    case variable(String)
    case function(String)
    case pipeline(TemplatePipeline)
    case field(of: TemplateOperand, String)
}

enum TemplateToken: Equatable {
    case text(String)
    case open
    case close
    case word(String)
    case field(String)
    /// A field written directly behind what it belongs to: `.a.b`, `$x.a`, `(…).a`.
    case chained(String)
    case dot
    case variable(String)
    case string(String)
    case number(String)
    case symbol(String)
}

/// Cuts the text into tokens; white space beside trim markers is gone.
func templateTokens(_ text: String) throws(ObsError) -> [TemplateToken] {
    var tokens: [TemplateToken] = []
    var rest = Substring(text)
    var trimsNext = false
    while !rest.isEmpty {
        let open = rest.firstRange(of: "{{")
        var plain = rest[..<(open?.lowerBound ?? rest.endIndex)]
        if trimsNext { plain = plain.drop { $0.isWhitespace } }
        guard let open else {
            tokens.append(.text(String(plain)))
            break
        }
        rest = rest[open.upperBound...]
        if rest.hasPrefix("-"), rest.dropFirst().first?.isWhitespace == true {
            while plain.last?.isWhitespace == true { plain.removeLast() }
            rest = rest.dropFirst()
        }
        if !plain.isEmpty { tokens.append(.text(String(plain))) }
        trimsNext = try templateAction(&rest, &tokens)
    }
    return tokens
}

/// Reads one action up to its `}}`; gives back whether it trims what follows.
private func templateAction(_ rest: inout Substring, _ tokens: inout [TemplateToken]) throws(ObsError) -> Bool {
    let start = tokens.count
    tokens.append(.open)
    var adjoins = false
    while let next = rest.first {
        if rest.hasPrefix("}}") {
            rest = rest.dropFirst(2)
            tokens.append(.close)
            return false
        }
        if next.isWhitespace {
            adjoins = false
            rest = rest.drop { $0.isWhitespace }
            if rest.hasPrefix("-}}") {
                rest = rest.dropFirst(3)
                tokens.append(.close)
                return true
            }
        } else if rest.hasPrefix("/*") {
            guard let end = rest.firstRange(of: "*/") else { throw templateError("unclosed comment") }
            rest = rest[end.upperBound...]
            tokens.removeSubrange(start...)
            rest = rest.drop { $0.isWhitespace }
            let trims = rest.hasPrefix("-}}")
            guard trims || rest.hasPrefix("}}") else { throw templateError("comment ends before closing delimiter") }
            rest = rest.dropFirst(trims ? 3 : 2)
            return trims
        } else {
            var token = try templateToken(&rest)
            if adjoins, case .field(let name) = token { token = .chained(name) }
            tokens.append(token)
            adjoins = true
        }
    }
    throw templateError("unclosed action")
}

func templateError(_ message: String) -> ObsError { ObsError(.badInput, message) }

private func templateToken(_ rest: inout Substring) throws(ObsError) -> TemplateToken {
    func word() -> String {
        let word = rest.prefix { $0 == "_" || $0.isLetter || $0.isNumber }
        rest = rest.dropFirst(word.count)
        return String(word)
    }
    guard let first = rest.first else { throw templateError("unclosed action") }
    switch first {
    case "\"", "`": return .string(try templateString(&rest))
    case "$":
        rest = rest.dropFirst()
        return .variable(word())
    case ".":
        if rest.dropFirst().first?.isNumber == true { break }
        rest = rest.dropFirst()
        let name = word()
        return name.isEmpty ? .dot : .field(name)
    case "|", "(", ")", ",", "=":
        rest = rest.dropFirst()
        return .symbol(String(first))
    case ":" where rest.hasPrefix(":="):
        rest = rest.dropFirst(2)
        return .symbol(":=")
    default: break
    }
    if first == "_" || first.isLetter { return .word(word()) }
    if first.isNumber || "+-.".contains(first) {
        let number = rest.prefix { $0.isNumber || $0.isLetter || "+-._".contains($0) }
        rest = rest.dropFirst(number.count)
        return .number(String(number))
    }
    throw templateError("unexpected \(quoted(String(first))) in command")
}

private func templateString(_ rest: inout Substring) throws(ObsError) -> String {
    let quote = rest.removeFirst()
    var text = ""
    while let next = rest.popFirst() {
        if next == quote { return text }
        guard next == "\\", quote == "\"" else {
            text.append(next)
            continue
        }
        guard let escaped = rest.popFirst() else { break }
        switch escaped {
        case "n": text.append("\n")
        case "t": text.append("\t")
        case "r": text.append("\r")
        case "\\", "\"", "'": text.append(escaped)
        default: throw templateError("unknown escape \\\(escaped) in a string")
        }
    }
    throw templateError("unterminated quoted string")
}

struct TemplateParser {
    private let tokens: [TemplateToken]
    private var at = 0
    private var depth = 0

    init(_ tokens: [TemplateToken]) { self.tokens = tokens }

    private var peek: TemplateToken? { at < tokens.count ? tokens[at] : nil }

    private mutating func next() throws(ObsError) -> TemplateToken {
        guard at < tokens.count else { throw templateError("unexpected end of template") }
        at += 1
        return tokens[at - 1]
    }

    private mutating func expect(_ token: TemplateToken) throws(ObsError) {
        let found = try next()
        guard found == token else { throw templateError("unexpected \(Self.shown(found)) in command") }
    }

    private static func shown(_ token: TemplateToken) -> String {
        switch token {
        case .text(let text), .string(let text): quoted(text)
        case .word(let text), .number(let text), .symbol(let text): quoted(text)
        case .field(let name), .chained(let name): quoted("." + name)
        case .variable(let name): quoted("$" + name)
        case .dot: "\".\""
        case .open: "\"{{\""
        case .close: "\"}}\""
        }
    }

    /// Nodes up to an action that begins with one of `words`; that word is consumed, the rest of its action is not.
    mutating func list(until words: [String]) throws(ObsError) -> (nodes: [TemplateNode], end: String) {
        depth += 1
        defer { depth -= 1 }
        guard depth <= 50 else { throw templateError("nested too deeply") }
        var nodes: [TemplateNode] = []
        while let token = peek {
            at += 1
            if case .text(let text) = token {
                nodes.append(.text(text))
                continue
            }
            if case .word(let word) = peek, ["end", "else"].contains(word) {
                guard words.contains(word) else { throw templateError("unexpected {{\(word)}}") }
                at += 1
                return (nodes, word)
            }
            nodes.append(try action())
        }
        guard words.isEmpty else { throw templateError("unexpected end of template: {{end}} is missing") }
        return (nodes, "")
    }

    private mutating func action() throws(ObsError) -> TemplateNode {
        if case .word(let word) = peek {
            switch word {
            case "if":
                at += 1
                return try condition()
            case "with":
                at += 1
                let pipeline = try closedPipeline()
                let (body, otherwise) = try bodies()
                return .with(pipeline, body, otherwise: otherwise)
            case "range":
                at += 1
                return try range()
            case "define", "template", "block", "break", "continue": throw templateError("{{\(word)}} is not supported")
            default: break
            }
        }
        if case .variable(let name) = peek, at + 1 < tokens.count, [.symbol(":="), .symbol("=")].contains(tokens[at + 1]) {
            at += 2
            return .assign(name: name, try closedPipeline())
        }
        return .pipeline(try closedPipeline())
    }

    private mutating func condition() throws(ObsError) -> TemplateNode {
        var branches: [(TemplatePipeline, [TemplateNode])] = []
        while true {
            let pipeline = try closedPipeline()
            let (body, end) = try list(until: ["else", "end"])
            branches.append((pipeline, body))
            if end == "end" {
                try expect(.close)
                return .condition(branches, otherwise: [])
            }
            if case .word("if") = peek {
                at += 1
                continue
            }
            try expect(.close)
            let otherwise = try list(until: ["end"]).nodes
            try expect(.close)
            return .condition(branches, otherwise: otherwise)
        }
    }

    private mutating func bodies() throws(ObsError) -> ([TemplateNode], [TemplateNode]) {
        let (body, end) = try list(until: ["else", "end"])
        try expect(.close)
        if end == "end" { return (body, []) }
        let otherwise = try list(until: ["end"]).nodes
        try expect(.close)
        return (body, otherwise)
    }

    private mutating func range() throws(ObsError) -> TemplateNode {
        var names: [String] = []
        let start = at
        while case .variable(let name) = peek {
            names.append(name)
            at += 1
            guard case .symbol(",") = peek else { break }
            at += 1
        }
        if case .symbol(":=") = peek {
            at += 1
        } else {
            names = []
            at = start
        }
        let pipeline = try closedPipeline()
        let (body, otherwise) = try bodies()
        return .range(key: names.count > 1 ? names[0] : nil, value: names.last, pipeline, body, otherwise: otherwise)
    }

    private mutating func closedPipeline() throws(ObsError) -> TemplatePipeline {
        let pipeline = try self.pipeline()
        try expect(.close)
        return pipeline
    }

    private mutating func pipeline() throws(ObsError) -> TemplatePipeline {
        depth += 1
        defer { depth -= 1 }
        guard depth <= 50 else { throw templateError("nested too deeply") }
        var commands: [[TemplateOperand]] = []
        while true {
            var operands: [TemplateOperand] = []
            while let operand = try operand() { operands.append(operand) }
            guard !operands.isEmpty else { throw templateError("missing value for command") }
            commands.append(operands)
            guard case .symbol("|") = peek else { return TemplatePipeline(commands: commands) }
            at += 1
        }
    }

    private mutating func operand() throws(ObsError) -> TemplateOperand? {
        var operand: TemplateOperand
        switch peek {
        case .string(let text): operand = .literal(.string(text))
        case .number(let text): operand = .literal(try Self.number(text))
        case .word("true"): operand = .literal(.bool(true))
        case .word("false"): operand = .literal(.bool(false))
        case .word("nil"): operand = .literal(.none)
        case .word(let name):
            guard templateFunctionNames.contains(name) else { throw templateError("function \(quoted(name)) not defined") }
            operand = .function(name)
        case .dot: operand = .dot
        case .field(let name), .chained(let name): operand = .field(of: .dot, name)
        case .variable(let name): operand = .variable(name)
        case .symbol("("):
            at += 1
            operand = .pipeline(try pipeline())
            guard case .symbol(")") = peek else { throw templateError("unclosed left paren") }
        default: return nil
        }
        at += 1
        while case .chained(let name) = peek {
            operand = .field(of: operand, name)
            at += 1
        }
        return operand
    }

    private static func number(_ text: String) throws(ObsError) -> TemplateValue {
        if let value = Int(text) { return .int(value) }
        if text.hasPrefix("0x"), let value = Int(text.dropFirst(2), radix: 16) { return .int(value) }
        guard let value = Double(text) else { throw templateError("bad number syntax: \(quoted(text))") }
        return .double(value)
    }
}
