internal import ObsCore
internal import ObsRegex
internal import ObsStore

/// `|= "text"`, `|~ "regex"`, `|> "pattern"` and their opposites; alternatives by `or`.
struct LineFilterStage: Stage {
    let filter: LineFilter

    init(_ expression: LineFilterExpression) throws(ObsError) {
        var tests: [LineFilter.Test] = []
        for alternative in expression.alternatives { tests.append(try Self.test(expression.operation, alternative)) }
        filter = LineFilter(tests, isNegated: expression.operation.isNegative)
    }

    private static func test(_ operation: LineFilterExpression.Operation, _ alternative: LineFilterExpression.Alternative) throws(ObsError) -> LineFilter.Test {
        let bytes = Array(alternative.text.utf8)
        if alternative.isAddress {
            let range = try AddressRange(alternative.text)
            return .holds({ range.isIn($0) }, literals: [])
        }
        switch operation {
        case .contains, .containsNot: return .contains(ByteSearch(bytes))
        case .matches, .matchesNot:
            // Most regexes people write are plain words.
            let isPlain = !bytes.contains { "\\.+*?()|[]{}^$".utf8.contains($0) }
            return isPlain ? .contains(ByteSearch(bytes)) : .matches(try Regex(alternative.text))
        case .pattern, .patternNot:
            let pattern = try LinePattern(alternative.text)
            return .holds({ pattern.matches($0) }, literals: pattern.literals.map { [lowercasedASCII($0)] })
        }
    }

    func process(_ row: Row) -> Bool { filter.passes(row.line) }
}

private func lowercasedASCII(_ bytes: [UInt8]) -> [UInt8] { bytes.map { $0 >= UInt8(ascii: "A") && $0 <= UInt8(ascii: "Z") ? $0 | 0x20 : $0 } }

/// `|> "<_> level=error <_>"`: the literals occur in this order, each `<_>` stands for at least one byte, the end is anchored, the start is not.
struct LinePattern: Sendable {
    private let pieces: [PatternPiece]
    private let searches: [ByteSearch]

    init(_ text: String) throws(ObsError) {
        pieces = try parsePattern(text, namesAllowed: false)
        searches = pieces.compactMap {
            if case .literal(let bytes) = $0 { return ByteSearch(bytes) }
            return nil
        }
    }

    var literals: [[UInt8]] { searches.map(\.needle) }

    func matches(_ line: UnsafeRawBufferPointer) -> Bool {
        if line.isEmpty || pieces.isEmpty { return line.isEmpty && pieces.isEmpty }
        var at = 0
        var literal = 0
        var gap = false
        for (index, piece) in pieces.enumerated() {
            guard case .literal(let bytes) = piece else {
                gap = true
                continue
            }
            let from = at + (gap ? 1 : 0)
            if index == pieces.count - 1 {
                let start = line.count - bytes.count
                return start >= from && line[start...].elementsEqual(bytes)
            }
            guard let found = searches[literal].first(in: line, from: from) else { return false }
            at = found + bytes.count
            literal += 1
            gap = false
        }
        return line.count > at
    }
}
