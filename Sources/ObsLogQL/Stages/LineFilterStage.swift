internal import ObsCore
internal import ObsRegex

/// `|= "text"`, `|~ "regex"`, `|> "pattern"` and their opposites; alternatives by `or`.
struct LineFilterStage: Stage {
    private enum Test: Sendable {
        case contains(ByteSearch)
        case matches(Regex)
        case pattern(LinePattern)
        case address(AddressRange)

        func holds(_ line: UnsafeRawBufferPointer) -> Bool {
            switch self {
            case .contains(let search): search.isIn(line)
            case .matches(let regex): regex.matchesPart(line)
            case .pattern(let pattern): pattern.matches(line)
            case .address(let range): range.isIn(line)
            }
        }
    }

    private let tests: [Test]
    private let isNegative: Bool

    init(_ expression: LineFilterExpression) throws(ObsError) {
        isNegative = expression.operation.isNegative
        var tests: [Test] = []
        for alternative in expression.alternatives { tests.append(try Self.test(expression.operation, alternative)) }
        self.tests = tests
    }

    private static func test(_ operation: LineFilterExpression.Operation, _ alternative: LineFilterExpression.Alternative) throws(ObsError) -> Test {
        let bytes = Array(alternative.text.utf8)
        if alternative.isAddress { return .address(try AddressRange(alternative.text)) }
        switch operation {
        case .contains, .containsNot: return .contains(ByteSearch(bytes))
        case .matches, .matchesNot:
            // Most regexes people write are plain words.
            let isPlain = !bytes.contains { "\\.+*?()|[]{}^$".utf8.contains($0) }
            return isPlain ? .contains(ByteSearch(bytes)) : .matches(try Regex(alternative.text))
        case .pattern, .patternNot: return .pattern(try LinePattern(alternative.text))
        }
    }

    /// Texts a line that passes must contain.
    var required: [[UInt8]] {
        guard !isNegative, tests.count == 1, let test = tests.first else { return [] }
        switch test {
        case .contains(let search): return search.needle.isEmpty ? [] : [search.needle]
        case .pattern(let pattern): return pattern.literals
        case .matches, .address: return []
        }
    }

    func passes(_ line: UnsafeRawBufferPointer) -> Bool {
        for test in tests where test.holds(line) { return !isNegative }
        return isNegative
    }

    func process(_ row: Row) -> Bool { passes(row.line) }
}

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
