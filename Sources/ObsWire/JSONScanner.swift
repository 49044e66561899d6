package import ObsCore

/// A whole value as the scanner passed it.
package struct JSONToken: Sendable, Equatable {
    package enum Kind: UInt8, Sendable { case object, array, string, number, bool, null }

    package var kind: Kind
    /// Where its text lies in the source: for a string what is between the quotes, else all of it (a number's own spelling, an object with its braces).
    package var range: Range<Int>
    /// The string has backslash escapes, see `unescapeJSON`.
    package var hasEscapes = false
}

/// Walks JSON text and tells where things lie, building nothing. What it has passed is valid JSON (RFC 8259) in valid UTF-8.
///
///     try scanner.enterObject()
///     while let key = try scanner.nextKey() { let value = try scanner.value() … }
///
/// After `nextKey` or `nextElement` comes exactly one of `value`, `enterObject`, `enterArray`.
package struct JSONScanner {
    package let text: UnsafeRawBufferPointer
    package private(set) var position = 0
    private let nestingMax: Int
    private var nesting = 0
    /// A value came just before: a comma or an end has to follow.
    private var isAfterValue = false

    /// The text has to outlive the scanner.
    package init(_ text: UnsafeRawBufferPointer, nestingMax: Int = Limits().nestingMax) {
        self.text = text
        self.nestingMax = nestingMax
    }

    /// The text of a token in place.
    package func bytes(_ token: JSONToken) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: text[token.range]) }

    private func failure(_ what: String, at place: Int? = nil) -> ObsError {
        ObsError(.badInput, "invalid JSON: \(what)", place: "offset \(place ?? position)")
    }

    private func unexpected(_ expected: String) -> ObsError {
        position < text.count ? failure("expected \(expected), found byte \(hexString([text[position]]))") : failure("it ends where \(expected) should be")
    }

    private mutating func skipSpace() {
        while position < text.count {
            switch text[position] {
            case 0x20, 0x0a, 0x0d, 0x09: position += 1
            default: return
            }
        }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard position < text.count, text[position] == byte else { return false }
        position += 1
        return true
    }

    /// The kind of the value that comes next; nil at anything that begins none.
    package mutating func peek() -> JSONToken.Kind? {
        skipSpace()
        guard position < text.count else { return nil }
        switch text[position] {
        case UInt8(ascii: "{"): return .object
        case UInt8(ascii: "["): return .array
        case UInt8(ascii: "\""): return .string
        case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool
        case UInt8(ascii: "n"): return .null
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return .number
        default: return nil
        }
    }

    package mutating func enterObject() throws(ObsError) { try enter(UInt8(ascii: "{"), "an object") }
    package mutating func enterArray() throws(ObsError) { try enter(UInt8(ascii: "["), "an array") }

    private mutating func enter(_ opening: UInt8, _ name: String) throws(ObsError) {
        skipSpace()
        guard take(opening) else { throw unexpected(name) }
        nesting += 1
        guard nesting <= nestingMax else { throw failure("nested deeper than \(nestingMax) levels, the bound nesting-max") }
        isAfterValue = false
    }

    private mutating func leave(_ closing: UInt8) -> Bool {
        guard take(closing) else { return false }
        nesting -= 1
        isAfterValue = true
        return true
    }

    /// The key of the next member, with the scanner before its value; nil past the end of the object.
    package mutating func nextKey() throws(ObsError) -> JSONToken? {
        skipSpace()
        if isAfterValue {
            if leave(UInt8(ascii: "}")) { return nil }
            guard take(UInt8(ascii: ",")) else { throw unexpected("a comma or the end of the object") }
            skipSpace()
        } else if leave(UInt8(ascii: "}")) {
            return nil
        }
        guard take(UInt8(ascii: "\"")) else { throw unexpected("a key") }
        let key = try string()
        skipSpace()
        guard take(UInt8(ascii: ":")) else { throw unexpected("a colon") }
        isAfterValue = false
        return key
    }

    /// Whether another element comes; false past the end of the array.
    package mutating func nextElement() throws(ObsError) -> Bool {
        skipSpace()
        if isAfterValue {
            if leave(UInt8(ascii: "]")) { return false }
            guard take(UInt8(ascii: ",")) else { throw unexpected("a comma or the end of the array") }
            isAfterValue = false
            return true
        }
        return !leave(UInt8(ascii: "]"))
    }

    /// Passes one whole value, nested ones included.
    package mutating func value() throws(ObsError) -> JSONToken {
        guard let kind = peek() else { throw unexpected("a value") }
        let start = position
        switch kind {
        case .string:
            position += 1
            isAfterValue = true
            return try string()
        case .object:
            try enterObject()
            while try nextKey() != nil { _ = try value() }
        case .array:
            try enterArray()
            while try nextElement() { _ = try value() }
        case .number: try number()
        case .bool: try literal(text[position] == UInt8(ascii: "t") ? "true" : "false")
        case .null: try literal("null")
        }
        isAfterValue = true
        return JSONToken(kind: kind, range: start..<position)
    }

    /// Nothing but space may follow.
    package mutating func end() throws(ObsError) {
        skipSpace()
        guard position == text.count else { throw unexpected("the end") }
    }

    private mutating func literal(_ word: StaticString) throws(ObsError) {
        for index in 0..<word.utf8CodeUnitCount {
            guard take(word.utf8Start[index]) else { throw unexpected("\(word)") }
        }
    }

    private mutating func digits() throws(ObsError) {
        let start = position
        while position < text.count, text[position] &- UInt8(ascii: "0") <= 9 { position += 1 }
        if position == start { throw unexpected("a digit") }
    }

    private mutating func number() throws(ObsError) {
        _ = take(UInt8(ascii: "-"))
        if take(UInt8(ascii: "0")) {
            if position < text.count, text[position] &- UInt8(ascii: "0") <= 9 { throw failure("a number with a leading zero") }
        } else {
            try digits()
        }
        if take(UInt8(ascii: ".")) { try digits() }
        if position < text.count, text[position] | 0x20 == UInt8(ascii: "e") {
            position += 1
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
    }

    /// Passes a string whose opening quote is behind.
    private mutating func string() throws(ObsError) -> JSONToken {
        let start = position
        var hasEscapes = false
        var nonASCII: UInt64 = 0
        var at = position
        while true {
            // Eight bytes at a time while none is a quote, a backslash or a control character.
            while at + 8 <= text.count {
                let word = text.loadUnaligned(fromByteOffset: at, as: UInt64.self)
                let special = Self.firstSpecial(word)
                nonASCII |= special == 8 ? word : word & (1 << UInt64(special * 8) - 1)
                at += special
                if special < 8 { break }
            }
            while at < text.count, text[at] >= 0x20, text[at] != UInt8(ascii: "\""), text[at] != UInt8(ascii: "\\") {
                nonASCII |= UInt64(text[at])
                at += 1
            }
            position = at
            guard at < text.count else { throw failure("a string does not end", at: start - 1) }
            if text[at] == UInt8(ascii: "\"") { break }
            guard text[at] == UInt8(ascii: "\\") else { throw failure("a control character in a string") }
            hasEscapes = true
            at += try escapeLength(at)
        }
        position = at + 1
        if nonASCII & 0x8080_8080_8080_8080 != 0, !isValidUTF8(UnsafeRawBufferPointer(rebasing: text[start..<at])) {
            throw failure("a string is not valid UTF-8", at: start)
        }
        return JSONToken(kind: .string, range: start..<at, hasEscapes: hasEscapes)
    }

    /// Place of the first quote, backslash or control character among eight bytes; 8 when there is none. (The lowest byte flagged is a true one; borrows
    /// flag false ones above it only.)
    private static func firstSpecial(_ word: UInt64) -> Int {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let highs: UInt64 = 0x8080_8080_8080_8080
        let quotes = word ^ (ones &* UInt64(UInt8(ascii: "\"")))
        let slashes = word ^ (ones &* UInt64(UInt8(ascii: "\\")))
        let zeros = ((quotes &- ones) & ~quotes) | ((slashes &- ones) & ~slashes)
        let controls = (word &- ones &* 0x20) & ~word
        return ((zeros | controls) & highs).trailingZeroBitCount / 8
    }

    private func escapeLength(_ at: Int) throws(ObsError) -> Int {
        guard at + 1 < text.count else { throw failure("a string does not end", at: at) }
        switch text[at + 1] {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"), UInt8(ascii: "n"), UInt8(ascii: "r"),
            UInt8(ascii: "t"):
            return 2
        case UInt8(ascii: "u"):
            guard at + 6 <= text.count, (at + 2..<at + 6).allSatisfy({ hexValue(text[$0]) != nil }) else { throw failure("an incomplete \\u escape", at: at) }
            return 6
        default: throw failure("an unknown escape", at: at)
        }
    }
}

/// Appends the text of a string token: escapes resolved, lone surrogates as U+FFFD.
package func unescapeJSON(_ raw: UnsafeRawBufferPointer, into bytes: inout [UInt8]) {
    var start = 0
    var at = 0
    while at < raw.count {
        guard raw[at] == UInt8(ascii: "\\"), at + 1 < raw.count else {
            at += 1
            continue
        }
        bytes.append(contentsOf: raw[start..<at])
        at += 2
        switch raw[at - 1] {
        case UInt8(ascii: "b"): bytes.append(0x08)
        case UInt8(ascii: "f"): bytes.append(0x0c)
        case UInt8(ascii: "n"): bytes.append(0x0a)
        case UInt8(ascii: "r"): bytes.append(0x0d)
        case UInt8(ascii: "t"): bytes.append(0x09)
        case UInt8(ascii: "u"):
            at -= 2
            bytes.append(contentsOf: String(takeScalar(raw, &at)).utf8)
        default: bytes.append(raw[at - 1])
        }
        start = at
    }
    bytes.append(contentsOf: raw[start..<raw.count])
}

private func takeScalar(_ raw: UnsafeRawBufferPointer, _ at: inout Int) -> Unicode.Scalar {
    let first = codeUnit(raw, at) ?? 0xfffd
    at = min(at + 6, raw.count)
    if 0xd800..<0xdc00 ~= first, let second = codeUnit(raw, at), 0xdc00..<0xe000 ~= second {
        at += 6
        return Unicode.Scalar(0x10000 + (first - 0xd800) << 10 + (second - 0xdc00)) ?? "\u{fffd}"
    }
    return Unicode.Scalar(first) ?? "\u{fffd}"
}

/// The UTF-16 unit of a `\uXXXX` at `at`.
private func codeUnit(_ raw: UnsafeRawBufferPointer, _ at: Int) -> UInt32? {
    guard at + 6 <= raw.count, raw[at] == UInt8(ascii: "\\"), raw[at + 1] == UInt8(ascii: "u") else { return nil }
    var value: UInt32 = 0
    for index in at + 2..<at + 6 {
        guard let half = hexValue(raw[index]) else { return nil }
        value = value << 4 | UInt32(half)
    }
    return value
}
