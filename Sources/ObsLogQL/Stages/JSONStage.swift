internal import ObsCore

/// `| json`: each leaf of the line's JSON object becomes a label, nested names joined by `_`.
struct JSONStage: Stage {
    func process(_ row: Row) -> Bool {
        guard !row.line.isEmpty else { return true }
        var text = JSONText(row.line)
        row.scratch2.removeAll(keepingCapacity: true)
        var name = row.scratch2
        if !text.flatten(&name, { row.addParsed($0, $1) }) { setJSONError(row, text) }
        return true
    }
}

func setJSONError(_ row: Row, _ text: JSONText) {
    let isObject = row.line.first { $0 > 0x20 } == UInt8(ascii: "{")
    row.setError("JSONParserErr", isObject ? "malformed JSON object at byte \(text.at)" : "expecting json object(6), but it is not")
}

/// `| json status="response.code", first="items[0]"`: only these paths. A missing one gives an empty label.
struct JSONPathStage: Stage {
    private enum Step: Sendable, Equatable {
        case key([UInt8])
        case index(Int)
    }

    private let labels: [[UInt8]]
    private let paths: [[Step]]

    init(_ extractions: [StageExpression.Extraction]) throws(ObsError) {
        labels = extractions.map { Array($0.label.utf8) }
        var paths: [[Step]] = []
        for extraction in extractions { paths.append(try Self.parse(extraction.path)) }
        self.paths = paths
    }

    /// `a.b[0]["c d"]`
    private static func parse(_ text: String) throws(ObsError) -> [Step] {
        let bytes = Array(text.utf8)
        let invalid = parseError("cannot parse expression [\(text)]: syntax error: unexpected char, expecting FIELD or [")
        var steps: [Step] = []
        var at = 0
        while at < bytes.count {
            if bytes[at] == UInt8(ascii: "[") {
                at += 1
                if at < bytes.count, bytes[at] == UInt8(ascii: "\"") {
                    at += 1
                    var key: [UInt8] = []
                    while at < bytes.count, bytes[at] != UInt8(ascii: "\"") {
                        if bytes[at] == UInt8(ascii: "\\"), at + 1 < bytes.count { at += 1 }
                        key.append(bytes[at])
                        at += 1
                    }
                    at += 1
                    steps.append(.key(key))
                } else {
                    let digits = bytes[at...].prefix { isDigit($0) }
                    guard let index = Int(String(decoding: digits, as: UTF8.self)) else { throw invalid }
                    at = digits.endIndex
                    steps.append(.index(index))
                }
                guard at < bytes.count, bytes[at] == UInt8(ascii: "]") else { throw invalid }
                at += 1
            } else {
                if bytes[at] == UInt8(ascii: ".") {
                    guard !steps.isEmpty else { throw invalid }
                    at += 1
                } else if !steps.isEmpty {
                    throw invalid
                }
                let key = bytes[at...].prefix { $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "[") }
                guard let first = key.first, isLetter(first) || isDigit(first) || first == UInt8(ascii: "@") || first >= 0x80,
                    !key.contains(UInt8(ascii: " "))
                else { throw invalid }
                steps.append(.key(Array(key)))
                at = key.endIndex
            }
        }
        if steps.isEmpty { throw invalid }
        return steps
    }

    func process(_ row: Row) -> Bool {
        guard !row.line.isEmpty else { return true }
        guard row.line.first(where: { $0 > 0x20 }) == UInt8(ascii: "{") else {
            setJSONError(row, JSONText(row.line))
            return true
        }
        for (label, path) in zip(labels, paths) {
            row.scratch2.removeAll(keepingCapacity: true)
            var value = row.scratch2
            var text = JSONText(row.line)
            let outcome = find(path[...], &text, &value)
            if outcome == .malformed { setJSONError(row, text) }
            value.withUnsafeBytes { row.addParsed(label, $0) }
        }
        return true
    }

    private enum Outcome { case found, missing, malformed }

    private func find(_ path: ArraySlice<Step>, _ text: inout JSONText, _ value: inout [UInt8]) -> Outcome {
        text.skipBlanks()
        guard let step = path.first else {
            if text.peek == UInt8(ascii: "\"") {
                guard let string = text.string() else { return .malformed }
                text.appendString(string, to: &value)
                return .found
            }
            guard let range = text.skipValue() else { return .malformed }
            let raw = text.slice(range)
            if !raw.elementsEqual("null".utf8) { value.append(contentsOf: raw) }
            return .found
        }
        // A walk that stops early stops because it found or because the text is malformed: `outcome` tells which.
        var outcome: Outcome?
        let walked: Bool
        switch step {
        case .key(let wanted):
            guard text.peek == UInt8(ascii: "{") else { return text.skipValue() == nil ? .malformed : .missing }
            walked = text.object { key, inner in
                var name: [UInt8] = []
                inner.appendString(key, to: &name)
                guard name == wanted else { return inner.skipValue() != nil }
                outcome = find(path.dropFirst(), &inner, &value)
                return false
            }
        case .index(let wanted):
            guard text.peek == UInt8(ascii: "[") else { return text.skipValue() == nil ? .malformed : .missing }
            walked = text.array { index, inner in
                guard index == wanted else { return inner.skipValue() != nil }
                outcome = find(path.dropFirst(), &inner, &value)
                return false
            }
        }
        return outcome ?? (walked ? .missing : .malformed)
    }
}

/// `| unpack`: string values of the line's JSON object become labels, `_entry` replaces the line.
struct UnpackStage: Stage {
    private static let entry = [UInt8]("_entry".utf8)

    func process(_ row: Row) -> Bool {
        guard !row.line.isEmpty else { return true }
        var text = JSONText(row.line)
        var line: [UInt8]?
        let walked = text.object { key, inner in
            inner.skipBlanks()
            guard inner.peek == UInt8(ascii: "\"") else { return inner.skipValue() != nil }
            guard let string = inner.string() else { return false }
            var rawName: [UInt8] = []
            inner.appendString(key, to: &rawName)
            var value: [UInt8] = []
            inner.appendString(string, to: &value)
            if rawName == Self.entry {
                line = value
            } else {
                var name: [UInt8] = []
                rawName.withUnsafeBytes { appendSanitised($0, to: &name) }
                value.withUnsafeBytes { row.addParsed(name, $0) }
            }
            return true
        }
        if !walked { setJSONError(row, text) }
        if walked, let line { row.setLine(line) }
        return true
    }
}
