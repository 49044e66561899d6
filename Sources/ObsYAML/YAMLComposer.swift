// The one door to libyaml. Events become nodes here; the parser struct never leaves this file.
internal import CYAML
package import ObsCore

/// Bounds of a document. An alias costs as much as what it stands for, so nine lines of `[*a, *a, …]` cannot become a billion nodes.
package struct YAMLLimits: Sendable {
    package var bytesMax = 64 << 20
    package var nodesMax = 2_000_000
    package var nestingMax = 64
    package init() {}
}

extension YAMLNode {
    /// Parses one document; nothing at all is a null node.
    /// - Throws: `.badInput` with the line.
    package static func parse(_ bytes: [UInt8], limits: YAMLLimits = YAMLLimits()) throws(ObsError) -> YAMLNode {
        guard bytes.count <= limits.bytesMax else { throw ObsError(.tooLarge, "YAML of \(bytes.count) bytes is larger than \(limits.bytesMax)") }
        let composer = YAMLComposer(bytes, limits)
        return try composer.document()
    }

    package static func parse(_ text: String, limits: YAMLLimits = YAMLLimits()) throws(ObsError) -> YAMLNode { try parse(Array(text.utf8), limits: limits) }
}

private final class YAMLComposer {
    private let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
    private let input: UnsafeMutablePointer<UInt8>
    private let limits: YAMLLimits
    private var anchors: [String: YAMLNode] = [:]
    private var nodes = 0

    /// An event with what we need of it.
    private struct Event {
        var type: yaml_event_type_t
        var line: Int
        var column: Int
        var text = ""
        var anchor: String?
        var plain = false
    }

    init(_ bytes: [UInt8], _ limits: YAMLLimits) {
        self.limits = limits
        // libyaml keeps the pointer between calls.
        input = .allocate(capacity: max(1, bytes.count))
        input.initialize(repeating: 0, count: max(1, bytes.count))
        for index in bytes.indices { input[index] = bytes[index] }
        precondition(yaml_parser_initialize(parser) == 1, "FATAL: libyaml cannot allocate")
        yaml_parser_set_input_string(parser, input, bytes.count)
    }

    deinit {
        yaml_parser_delete(parser)
        parser.deallocate()
        input.deallocate()
    }

    func document() throws(ObsError) -> YAMLNode {
        _ = try next()  // stream start
        let start = try next()
        if start.type == YAML_STREAM_END_EVENT { return YAMLNode(content: .scalar("", .plain), line: 1, column: 1, path: "", size: 1) }
        let root = try node(try next(), path: "", depth: 0)
        _ = try next()  // document end
        let end = try next()
        guard end.type == YAML_STREAM_END_EVENT else { throw yamlError(path: "", line: end.line, "only one YAML document is allowed") }
        return root
    }

    private func next() throws(ObsError) -> Event {
        var event = yaml_event_t()
        guard yaml_parser_parse(parser, &event) == 1 else { throw parseError() }
        defer { yaml_event_delete(&event) }
        var result = Event(type: event.type, line: Int(event.start_mark.line) + 1, column: Int(event.start_mark.column) + 1)
        switch event.type {
        case YAML_SCALAR_EVENT:
            let scalar = event.data.scalar
            if let value = scalar.value { result.text = String(decoding: UnsafeBufferPointer(start: value, count: scalar.length), as: UTF8.self) }
            result.plain = scalar.style == YAML_PLAIN_SCALAR_STYLE && scalar.plain_implicit != 0
            result.anchor = name(scalar.anchor)
        case YAML_SEQUENCE_START_EVENT: result.anchor = name(event.data.sequence_start.anchor)
        case YAML_MAPPING_START_EVENT: result.anchor = name(event.data.mapping_start.anchor)
        case YAML_ALIAS_EVENT: result.anchor = name(event.data.alias.anchor)
        default: break
        }
        return result
    }

    private func name(_ anchor: UnsafeMutablePointer<yaml_char_t>?) -> String? {
        guard let anchor else { return nil }
        return String(cString: UnsafePointer(anchor))
    }

    private func parseError() -> ObsError {
        let problem = parser.pointee.problem.map { String(cString: $0) } ?? "not valid YAML"
        let context = parser.pointee.context.map { " (" + String(cString: $0) + ")" } ?? ""
        return yamlError(path: "", line: Int(parser.pointee.problem_mark.line) + 1, problem + context)
    }

    private func node(_ event: Event, path: String, depth: Int) throws(ObsError) -> YAMLNode {
        guard depth < limits.nestingMax else { throw yamlError(path: path, line: event.line, "nested deeper than \(limits.nestingMax) levels") }
        let result: YAMLNode
        switch event.type {
        case YAML_SCALAR_EVENT: result = try made(event, .scalar(event.text, event.plain ? .plain : .quoted), path, size: 1)
        case YAML_SEQUENCE_START_EVENT: result = try sequence(event, path: path, depth: depth)
        case YAML_MAPPING_START_EVENT: result = try mapping(event, path: path, depth: depth)
        case YAML_ALIAS_EVENT:
            guard let found = event.anchor.flatMap({ anchors[$0] }) else {
                throw yamlError(path: path, line: event.line, "unknown alias \(quoted(event.anchor ?? ""))")
            }
            try count(found.size, at: event)
            return YAMLNode(content: found.content, line: event.line, column: event.column, path: path, size: found.size)
        default: throw yamlError(path: path, line: event.line, "not valid YAML")
        }
        if let anchor = event.anchor { anchors[anchor] = result }
        return result
    }

    private func made(_ event: Event, _ content: YAMLNode.Content, _ path: String, size: Int) throws(ObsError) -> YAMLNode {
        try count(1, at: event)
        return YAMLNode(content: content, line: event.line, column: event.column, path: path, size: size)
    }

    private func count(_ size: Int, at event: Event) throws(ObsError) {
        nodes += size
        guard nodes <= limits.nodesMax else {
            throw yamlError(path: "", line: event.line, "document has more than \(limits.nodesMax) nodes, aliases counted by what they stand for")
        }
    }

    private func sequence(_ start: Event, path: String, depth: Int) throws(ObsError) -> YAMLNode {
        var elements: [YAMLNode] = []
        var size = 1
        while true {
            let event = try next()
            if event.type == YAML_SEQUENCE_END_EVENT { break }
            let element = try node(event, path: "\(path)[\(elements.count)]", depth: depth + 1)
            size += element.size
            elements.append(element)
        }
        return try made(start, .sequence(elements), path, size: size)
    }

    private func mapping(_ start: Event, path: String, depth: Int) throws(ObsError) -> YAMLNode {
        var entries: [YAMLNode.Entry] = []
        var lines: [String: Int] = [:]
        var merged: [YAMLNode] = []
        var size = 1
        while true {
            let keyEvent = try next()
            if keyEvent.type == YAML_MAPPING_END_EVENT { break }
            let key = try self.key(keyEvent, path: path, depth: depth)
            let value = try node(try next(), path: path.isEmpty ? key : "\(path).\(key)", depth: depth + 1)
            size += value.size
            if key == "<<", keyEvent.plain {
                merged.append(value)
                continue
            }
            if let first = lines.updateValue(keyEvent.line, forKey: key) {
                throw yamlError(path: value.path, line: keyEvent.line, "key \(quoted(key)) is given twice (first on line \(first))")
            }
            entries.append(YAMLNode.Entry(key: key, line: keyEvent.line, value: value))
        }
        for node in merged { try merge(node, into: &entries, known: &lines) }
        return try made(start, .mapping(entries), path, size: size)
    }

    private func key(_ event: Event, path: String, depth: Int) throws(ObsError) -> String {
        let key = try node(event, path: path, depth: depth + 1)
        guard case .scalar(let text, _) = key.content else { throw yamlError(path: path, line: event.line, "a key must be a single value") }
        return text
    }

    /// `<<: *defaults`: keys of the merged mapping (or list of mappings) that are not given here.
    private func merge(_ node: YAMLNode, into entries: inout [YAMLNode.Entry], known: inout [String: Int]) throws(ObsError) {
        switch node.content {
        case .mapping(let more):
            for entry in more where known[entry.key] == nil {
                known[entry.key] = entry.line
                entries.append(entry)
            }
        case .sequence(let elements):
            for element in elements {
                guard case .mapping = element.content else { throw element.error("only mappings can be merged") }
                try merge(element, into: &entries, known: &known)
            }
        case .scalar: throw node.error("only mappings can be merged")
        }
    }
}
