internal import ObsCore

/// A piece of a `pattern` expression; a capture without a name is `<_>`.
enum PatternPiece: Sendable, Equatable {
    case literal([UInt8])
    case capture(String?)
}

/// Cuts `<ip> - <_> "<method> …` into pieces.
/// - Throws: `.badInput` for two captures in a row, a repeated name, names where none are allowed.
func parsePattern(_ text: String, namesAllowed: Bool) throws(ObsError) -> [PatternPiece] {
    let bytes = Array(text.utf8)
    var pieces: [PatternPiece] = []
    var literal: [UInt8] = []
    var at = 0
    while at < bytes.count {
        if bytes[at] == UInt8(ascii: "<"), at + 1 < bytes.count, isLetter(bytes[at + 1]) {
            let name = bytes[(at + 1)...].prefix { isLetter($0) || isDigit($0) }
            if name.endIndex < bytes.count, bytes[name.endIndex] == UInt8(ascii: ">") {
                if !literal.isEmpty { pieces.append(.literal(literal)) }
                literal = []
                if case .capture = pieces.last {
                    throw parseError("found consecutive capture '<\(String(decoding: name, as: UTF8.self))>': invalid expression")
                }
                let word = String(decoding: name, as: UTF8.self)
                if word != "_", !namesAllowed { throw parseError("named captures are not allowed in a line filter: invalid expression") }
                if word != "_", pieces.contains(.capture(word)) { throw parseError("duplicate capture name (\(word)): invalid expression") }
                pieces.append(.capture(word == "_" ? nil : word))
                at = name.endIndex + 1
                continue
            }
        }
        literal.append(bytes[at])
        at += 1
    }
    if !literal.isEmpty { pieces.append(.literal(literal)) }
    return pieces
}

/// `| pattern "<ip> - - <_> \"<method> <path>\""`: anchored at the start, a capture runs to the next literal, or to the end where that does not follow.
struct PatternStage: Stage {
    private struct Capture: Sendable {
        var name: [UInt8]?
        /// What ends it; nil at the end of the pattern.
        var end: ByteSearch?
    }

    private let start: [UInt8]
    private let captures: [Capture]

    init(_ text: String) throws(ObsError) {
        var pieces = try parsePattern(text, namesAllowed: true)[...]
        guard pieces.contains(where: { if case .capture(.some) = $0 { true } else { false } }) else {
            throw parseError("at least one capture is required: invalid expression")
        }
        if case .literal(let bytes) = pieces.first {
            start = bytes
            pieces = pieces.dropFirst()
        } else {
            start = []
        }
        var captures: [Capture] = []
        for piece in pieces {
            switch piece {
            case .capture(let name): captures.append(Capture(name: name.map { Array($0.utf8) }, end: nil))
            case .literal(let bytes): captures[captures.count - 1].end = ByteSearch(bytes)
            }
        }
        self.captures = captures
    }

    func process(_ row: Row) -> Bool {
        let line = row.line
        guard !line.isEmpty, line.starts(with: start) else { return true }
        var at = start.count
        for capture in captures {
            let end = capture.end?.first(in: line, from: at)
            if let name = capture.name { row.addParsed(name, UnsafeRawBufferPointer(rebasing: line[at..<(end ?? line.count)])) }
            guard let end, let search = capture.end else { break }
            at = end + search.needle.count
        }
        return true
    }
}
