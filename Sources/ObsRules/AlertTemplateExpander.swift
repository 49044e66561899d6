internal import ObsCore

/// Runs a parsed template.
struct TemplateExpander {
    private(set) var output = ""
    let context: TemplateContext
    /// Innermost last; `$x = …` finds the nearest.
    private var variables: [(name: String, value: TemplateValue)]
    private static let outputBytesMax = 64 << 10

    init(context: TemplateContext) {
        self.context = context
        variables = context.variables.map { ($0.key, $0.value) }
    }

    mutating func run(_ nodes: [TemplateNode], dot: TemplateValue) throws(ObsError) {
        if !variables.contains(where: { $0.name.isEmpty }) { variables.insert(("", dot), at: 0) }
        let scope = variables.count
        for node in nodes {
            try run(node, dot)
            guard output.utf8.count <= Self.outputBytesMax else { throw templateError("result is longer than \(Self.outputBytesMax) bytes") }
        }
        variables.removeSubrange(scope...)
    }

    private mutating func run(_ node: TemplateNode, _ dot: TemplateValue) throws(ObsError) {
        switch node {
        case .text(let text): output += text
        case .pipeline(let pipeline): output += try value(of: pipeline, dot).text
        case .assign(let name, let pipeline):
            let value = try value(of: pipeline, dot)
            if let at = variables.lastIndex(where: { $0.name == name }) { variables[at].value = value } else { variables.append((name, value)) }
        case .condition(let branches, let otherwise):
            for (pipeline, body) in branches where try value(of: pipeline, dot).isTrue { return try run(body, dot: dot) }
            try run(otherwise, dot: dot)
        case .with(let pipeline, let body, let otherwise):
            let value = try value(of: pipeline, dot)
            try value.isTrue ? run(body, dot: value) : run(otherwise, dot: dot)
        case .range(let key, let name, let pipeline, let body, let otherwise):
            let elements = try Self.elements(of: value(of: pipeline, dot))
            if elements.isEmpty { return try run(otherwise, dot: dot) }
            for element in elements {
                if let key { variables.append((key, element.key)) }
                if let name { variables.append((name, element.value)) }
                try run(body, dot: element.value)
                variables.removeLast((key == nil ? 0 : 1) + (name == nil ? 0 : 1))
            }
        }
    }

    private static func elements(of value: TemplateValue) throws(ObsError) -> [(key: TemplateValue, value: TemplateValue)] {
        switch value {
        case .none: []
        case .list(let list): list.enumerated().map { (.int($0.offset), $0.element) }
        case .labels(let labels): labels.pairs.map { (.string($0.name), .string($0.value)) }
        case .map(let map): map.sorted { $0.key < $1.key }.map { (.string($0.key), $0.value) }
        default: throw templateError("range can't iterate over \(value.text)")
        }
    }

    private func value(of pipeline: TemplatePipeline, _ dot: TemplateValue) throws(ObsError) -> TemplateValue {
        var last: TemplateValue?
        for command in pipeline.commands { last = try value(ofCommand: command, dot, piped: last) }
        return last ?? .none
    }

    private func value(ofCommand operands: [TemplateOperand], _ dot: TemplateValue, piped: TemplateValue?) throws(ObsError) -> TemplateValue {
        guard let first = operands.first else { return .none }
        guard case .function(let name) = first else {
            guard operands.count == 1, piped == nil else { throw templateError("can't give argument to non-function") }
            return try value(of: first, dot)
        }
        // `and` and `or` stop at the first argument that decides.
        if ["and", "or"].contains(name), !operands.dropFirst().isEmpty {
            var result = TemplateValue.none
            for operand in operands.dropFirst() {
                result = try value(of: operand, dot)
                if result.isTrue == (name == "or") { return result }
            }
            return piped ?? result
        }
        var arguments: [TemplateValue] = []
        for operand in operands.dropFirst() { arguments.append(try value(of: operand, dot)) }
        if let piped { arguments.append(piped) }
        return try callTemplateFunction(name, arguments, context)
    }

    private func value(of operand: TemplateOperand, _ dot: TemplateValue) throws(ObsError) -> TemplateValue {
        switch operand {
        case .literal(let value): return value
        case .dot: return dot
        case .variable(let name):
            guard let value = variables.last(where: { $0.name == name })?.value else { throw templateError("undefined variable \(quoted("$" + name))") }
            return value
        case .function(let name): return try callTemplateFunction(name, [], context)
        case .pipeline(let pipeline): return try value(of: pipeline, dot)
        case .field(let owner, let name): return try field(name, of: value(of: owner, dot))
        }
    }

    private func field(_ name: String, of value: TemplateValue) throws(ObsError) -> TemplateValue {
        switch value {
        case .labels(let labels): return .string(labels[name] ?? "")
        case .map(let map):
            guard let member = map[name] else { throw templateError("can't evaluate field \(name)") }
            return member
        case .sample(let sample):
            switch name {
            case "Labels": return .labels(sample.labels)
            case "Value": return .double(sample.value)
            default: throw templateError("can't evaluate field \(name) in a sample")
            }
        case .none: throw templateError("nil pointer evaluating \(name)")
        default: throw templateError("can't evaluate field \(name) in \(value.text)")
        }
    }
}
