/// Walks JSON text in place. It checks what it walks over and no more: text after a value is left alone, as Loki does.
/// Nesting past `depthMax` is taken as malformed, before it can exhaust the stack.
struct JSONText {
    static let depthMax = 64

    private let text: UnsafeRawBufferPointer
    private(set) var at = 0
    private var depth = 0

    init(_ text: UnsafeRawBufferPointer) { self.text = text }

    var isAtEnd: Bool { at >= text.count }
    var peek: UInt8 { at < text.count ? text[at] : 0 }

    mutating func skipBlanks() { while at < text.count, text[at] == 0x20 || (text[at] >= 0x09 && text[at] <= 0x0d) { at += 1 } }

    mutating func take(_ byte: UInt8) -> Bool {
        skipBlanks()
        guard at < text.count, text[at] == byte else { return false }
        at += 1
        return true
    }

    /// Range of a string's content, quotes left off, and whether it holds escapes; nil when there is none or it does not end.
    mutating func string() -> (range: Range<Int>, escaped: Bool)? {
        guard take(UInt8(ascii: "\"")) else { return nil }
        let start = at
        var escaped = false
        while at < text.count {
            let byte = text[at]
            if byte == UInt8(ascii: "\"") {
                at += 1
                return (start..<at - 1, escaped)
            }
            if byte == UInt8(ascii: "\\") {
                escaped = true
                at += 1
            }
            at += 1
        }
        return nil
    }

    /// Appends a string's content, escapes undone.
    func appendString(_ string: (range: Range<Int>, escaped: Bool), to bytes: inout [UInt8]) {
        let content = UnsafeRawBufferPointer(rebasing: text[string.range])
        guard string.escaped else { return bytes.append(contentsOf: content) }
        var at = 0
        while at < content.count {
            let byte = content[at]
            at += 1
            guard byte == UInt8(ascii: "\\"), at < content.count else {
                bytes.append(byte)
                continue
            }
            let kind = content[at]
            at += 1
            switch kind {
            case UInt8(ascii: "n"): bytes.append(0x0a)
            case UInt8(ascii: "t"): bytes.append(0x09)
            case UInt8(ascii: "r"): bytes.append(0x0d)
            case UInt8(ascii: "b"): bytes.append(0x08)
            case UInt8(ascii: "f"): bytes.append(0x0c)
            case UInt8(ascii: "u"): appendUnicode(content, &at, to: &bytes)
            default: bytes.append(kind)
            }
        }
    }

    private func appendUnicode(_ content: UnsafeRawBufferPointer, _ at: inout Int, to bytes: inout [UInt8]) {
        func unit(_ from: Int) -> UInt32? {
            guard from + 4 <= content.count else { return nil }
            var value: UInt32 = 0
            for index in from..<from + 4 {
                guard let digit = hexDigit(content[index]) else { return nil }
                value = value << 4 | UInt32(digit)
            }
            return value
        }
        guard let first = unit(at) else { return bytes.append(contentsOf: "\u{fffd}".utf8) }
        at += 4
        var code = first
        if first & 0xfc00 == 0xd800, at + 6 <= content.count, content[at] == UInt8(ascii: "\\"), content[at + 1] == UInt8(ascii: "u"),
            let second = unit(at + 2),
            second & 0xfc00 == 0xdc00
        {
            code = 0x10000 + (first & 0x3ff) << 10 + (second & 0x3ff)
            at += 6
        }
        bytes.append(contentsOf: String(Unicode.Scalar(code) ?? "\u{fffd}").utf8)
    }

    private func hexDigit(_ byte: UInt8) -> UInt8? {
        if isDigit(byte) { return byte - UInt8(ascii: "0") }
        let low = byte | 0x20
        return low >= UInt8(ascii: "a") && low <= UInt8(ascii: "f") ? low - UInt8(ascii: "a") + 10 : nil
    }

    /// Range of a number, `true`, `false` or `null`; nil when there is none.
    mutating func scalar() -> Range<Int>? {
        skipBlanks()
        let start = at
        while at < text.count {
            let byte = text[at]
            guard isLetter(byte) || isDigit(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") else { break }
            at += 1
        }
        guard at > start else { return nil }
        let word = text[start..<at]
        let first = text[start]
        if isDigit(first) || first == UInt8(ascii: "-") { return start..<at }
        return word.elementsEqual("true".utf8) || word.elementsEqual("false".utf8) || word.elementsEqual("null".utf8) ? start..<at : nil
    }

    /// Moves past any value; nil when it is malformed.
    mutating func skipValue() -> Range<Int>? {
        skipBlanks()
        let start = at
        switch peek {
        case UInt8(ascii: "\""): return string() == nil ? nil : start..<at
        case UInt8(ascii: "{"):
            let walked = object { _, inner in inner.skipValue() != nil }
            return walked ? start..<at : nil
        case UInt8(ascii: "["):
            let walked = array { _, inner in inner.skipValue() != nil }
            return walked ? start..<at : nil
        default: return scalar()
        }
    }

    /// Walks an object's members. `body` must move past the value; false stops. Returns whether the object was walked to its end.
    mutating func object(_ body: (_ key: (range: Range<Int>, escaped: Bool), _ text: inout JSONText) -> Bool) -> Bool {
        guard depth < Self.depthMax, take(UInt8(ascii: "{")) else { return false }
        depth += 1
        defer { depth -= 1 }
        if take(UInt8(ascii: "}")) { return true }
        while true {
            guard let key = string(), take(UInt8(ascii: ":")), body(key, &self) else { return false }
            if take(UInt8(ascii: "}")) { return true }
            guard take(UInt8(ascii: ",")) else { return false }
        }
    }

    mutating func array(_ body: (_ index: Int, _ text: inout JSONText) -> Bool) -> Bool {
        guard depth < Self.depthMax, take(UInt8(ascii: "[")) else { return false }
        depth += 1
        defer { depth -= 1 }
        if take(UInt8(ascii: "]")) { return true }
        var index = 0
        while true {
            guard body(index, &self) else { return false }
            index += 1
            if take(UInt8(ascii: "]")) { return true }
            guard take(UInt8(ascii: ",")) else { return false }
        }
    }

    func slice(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: text[range]) }

    /// Walks an object and gives each leaf with its path joined by `_` after `name`: arrays and nulls are left out. False when malformed;
    /// what came before was given.
    mutating func flatten(_ name: inout [UInt8], _ leaf: (_ name: [UInt8], _ value: UnsafeRawBufferPointer) -> Void) -> Bool {
        object { key, inner in
            let length = name.count
            defer { name.removeSubrange(length...) }
            if length > 0 { name.append(UInt8(ascii: "_")) }
            if key.escaped {
                var text: [UInt8] = []
                inner.appendString(key, to: &text)
                text.withUnsafeBytes { appendSanitised($0, to: &name) }
            } else {
                appendSanitised(inner.slice(key.range), to: &name)
            }
            inner.skipBlanks()
            switch inner.peek {
            case UInt8(ascii: "{"): return inner.flatten(&name, leaf)
            case UInt8(ascii: "["): return inner.skipValue() != nil
            case UInt8(ascii: "\""):
                guard let value = inner.string() else { return false }
                if value.escaped {
                    var text: [UInt8] = []
                    inner.appendString(value, to: &text)
                    text.withUnsafeBytes { leaf(name, $0) }
                } else {
                    leaf(name, inner.slice(value.range))
                }
            default:
                guard let range = inner.scalar() else { return false }
                let value = inner.slice(range)
                if value.first != UInt8(ascii: "n") { leaf(name, value) }
            }
            return true
        }
    }
}
