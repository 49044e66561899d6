// Fields of log lines, of log records and of spans: what one is, and what can be asked of it.
//
// A line has fields when it is an object of JSON; a record's attributes are fields. What is asked of a field has one answer, whoever answers: the head, which
// has texts, or a segment, which has columns of values and puts no text together. So the rules are here, for both, and they are these.
//
// - A field's name is a `FieldPath`: keys from the outermost in. `http.status_code` may be one key or two; who does not know gives both paths.
// - Of a line the field is the *first* value in it with that path, and what is behind it is not looked at: a line cut off behind the field has it. A line has
//   the fields that come before the first thing that is not JSON (`JSONFieldWalk`).
// - `null` is no value: the field is missing. Elements of arrays are no fields. An object or an array is there, and compares with nothing.
// - Every value has a text: of a string what its escapes stand for, of a number or a literal its own spelling (`5e2` is not `500`), of an attribute what
//   `AttributeValue.text` says.
// - A value is a number when its text is one in decimals, whether it is written as a string or not: `"500"` is 500, `1e3` is 1000, `0x10`, `NaN` and `5 ms` are none.
//   Integers up to 64 bits are compared exactly, all else as doubles.
// - What it is compared with says how: with a number as numbers, and a value that is none passes no comparison; with a text byte by byte.
// - A missing field passes nothing but what is negated.

internal import Glibc

/// Keys of a field, from the outermost in. Attributes have one.
package struct FieldPath: Hashable, Sendable {
    package var keys: [[UInt8]]

    package init(keys: [[UInt8]]) { self.keys = keys }
    package init(_ keys: String...) { self.keys = keys.map { Array($0.utf8) } }

    /// What a name with dots in it may mean: one key, or a key for each part.
    package static func named(_ name: String) -> [FieldPath] {
        let parts = name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map { Array($0) }
        let whole = FieldPath(keys: [Array(name.utf8)])
        return parts.count > 1 ? [whole, FieldPath(keys: parts)] : [whole]
    }

    /// Keys joined by dots, for people to read.
    package var name: String { keys.map { String(decoding: $0, as: UTF8.self) }.joined(separator: ".") }
}

/// Where a field's value is written.
package enum FieldSource: UInt8, Sendable, Hashable {
    /// The line, an object of JSON.
    case line = 1
    /// An attribute list.
    case attributes = 2
}

/// How a value's bytes are to be read.
package enum FieldForm: UInt8, Sendable, Hashable {
    /// What is between the quotes of a string of JSON.
    case jsonString
    /// A number, literal or other word in JSON.
    case jsonWord
    /// Payloads of attributes; of lists and maps too it is their text.
    case text, bool, int, double, bytes

    package init(_ type: AttributeType) {
        switch type {
        case .string, .list, .map: self = .text
        case .bool: self = .bool
        case .int: self = .int
        case .double: self = .double
        case .bytes: self = .bytes
        }
    }

    package func isNull(_ payload: UnsafeRawBufferPointer) -> Bool { self == .jsonWord && payload.elementsEqual("null".utf8) }

    /// Calls `body` with a value's text.
    package func withText<R>(_ payload: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        switch self {
        case .jsonWord, .text: return body(payload)
        case .jsonString where !payload.contains(UInt8(ascii: "\\")): return body(payload)
        default: return text(payload).withUnsafeBytes { body($0) }
        }
    }

    package func text(_ payload: UnsafeRawBufferPointer) -> [UInt8] {
        switch self {
        case .jsonWord, .text: return Array(payload)
        case .jsonString:
            var text: [UInt8] = []
            appendUnescaped(payload, to: &text)
            return text
        case .bool: return Array(payload.first == 0 ? "false".utf8 : "true".utf8)
        case .int: return Array(String(integer(payload)).utf8)
        case .double: return Array(AttributeValue.double(Double(bitPattern: UInt64(bitPattern: integer(payload)))).text.utf8)
        case .bytes: return Array(base64(payload).utf8)
        }
    }

    /// Nil when the value is no number.
    package func number(_ payload: UnsafeRawBufferPointer) -> FieldNumber? {
        switch self {
        case .int: .integer(integer(payload))
        case .double: .double(Double(bitPattern: UInt64(bitPattern: integer(payload))))
        default: withText(payload) { FieldNumber($0) }
        }
    }

    private func integer(_ payload: UnsafeRawBufferPointer) -> Int64 {
        payload.count == 8 ? Int64(littleEndian: payload.loadUnaligned(as: Int64.self)) : 0
    }
}

/// A number as fields are compared by.
package enum FieldNumber: Sendable, Equatable {
    case integer(Int64)
    case double(Double)

    /// Negative, 0, positive; nil for what has no order.
    package static func compare(_ a: FieldNumber, _ b: FieldNumber) -> Int? {
        switch (a, b) {
        case (.integer(let a), .integer(let b)): return a < b ? -1 : a > b ? 1 : 0
        case (.double(let a), .double(let b)): return a < b ? -1 : a > b ? 1 : a == b ? 0 : nil
        case (.integer(let a), .double(let b)): return compare(a, b)
        case (.double(let a), .integer(let b)): return compare(b, a).map { -$0 }
        }
    }

    private static func compare(_ a: Int64, _ b: Double) -> Int? {
        if b.isNaN { return nil }
        if b >= 0x1p63 { return -1 }
        if b < -0x1p63 { return 1 }
        let whole = b.rounded(.towardZero)
        let other = Int64(whole)
        if a != other { return a < other ? -1 : 1 }
        return b == whole ? 0 : b > whole ? -1 : 1
    }
}

/// A question about a value.
package enum FieldTest: Sendable {
    package enum Order: Sendable {
        case equal, less, lessOrEqual, greater, greaterOrEqual

        package func holds(_ order: Int) -> Bool {
            switch self {
            case .equal: order == 0
            case .less: order < 0
            case .lessOrEqual: order <= 0
            case .greater: order > 0
            case .greaterOrEqual: order >= 0
            }
        }
    }
    package enum Operand: Sendable {
        case number(FieldNumber)
        case text([UInt8])

        package static func bool(_ value: Bool) -> Operand { .text(Array(value ? "true".utf8 : "false".utf8)) }
    }
    case exists
    case compares(Order, Operand)
    /// Of the value's text.
    case holds(@Sendable (UnsafeRawBufferPointer) -> Bool)

    /// Whether a value passes. Objects and arrays of a line are not asked: they pass `exists` and no other.
    package func passes(_ form: FieldForm, _ payload: UnsafeRawBufferPointer) -> Bool {
        if form.isNull(payload) { return false }
        switch self {
        case .exists: return true
        case .compares(let order, .number(let wanted)): return form.number(payload).map { passes(order, $0, wanted) } ?? false
        case .compares(let order, .text(let wanted)):
            return form.withText(payload) { text in wanted.withUnsafeBytes { order.holds(compareBytes(text, $0)) } }
        case .holds(let body): return form.withText(payload, body)
        }
    }

    private func passes(_ order: Order, _ value: FieldNumber, _ wanted: FieldNumber) -> Bool {
        FieldNumber.compare(value, wanted).map { order.holds($0) } ?? false
    }

    package var isExists: Bool {
        if case .exists = self { return true }
        return false
    }
}

extension FieldNumber {
    /// Reads decimals: `12`, `-0.5`, `1e3`, `+7`, `.5`, `5.`; nil for anything else. Past a double's range it is infinite.
    package init?(_ text: UnsafeRawBufferPointer) {
        guard let number = Self.read(text) else { return nil }
        self = number
    }

    private static func read(_ text: UnsafeRawBufferPointer) -> FieldNumber? {
        var at = 0
        guard let first = text.first else { return nil }
        let isNegative = first == UInt8(ascii: "-")
        if isNegative || first == UInt8(ascii: "+") { at = 1 }
        var mantissa: UInt64 = 0
        var (digits, significant, exponent) = (0, 0, 0)
        var hasPoint = false
        while at < text.count {
            let digit = text[at] &- UInt8(ascii: "0")
            if digit <= 9 {
                digits &+= 1
                if mantissa != 0 || digit != 0 { significant &+= 1 }
                if significant <= 19 { mantissa = mantissa &* 10 &+ UInt64(digit) }
                if hasPoint { exponent &-= 1 }
            } else {
                guard text[at] == UInt8(ascii: "."), !hasPoint else { break }
                hasPoint = true
            }
            at &+= 1
        }
        guard digits > 0 else { return nil }
        if at == text.count, !hasPoint, significant < 19 || significant == 19 && mantissa <= UInt64(Int64.max) {
            return .integer(isNegative ? -Int64(mantissa) : Int64(mantissa))
        }
        if at < text.count {
            guard text[at] | 0x20 == UInt8(ascii: "e"), let power = power(UnsafeRawBufferPointer(rebasing: text[(at + 1)...])) else { return nil }
            exponent += power
        }
        // Both factors exact: one rounding, so the result is the nearest double (Clinger).
        if significant <= 19, mantissa < 1 << 53, (-22...22).contains(exponent) {
            let value = exponent < 0 ? Double(mantissa) / powersOfTen[-exponent] : Double(mantissa) * powersOfTen[exponent]
            return .double(isNegative ? -value : value)
        }
        return .double(slowly(text))
    }

    private static func power(_ text: UnsafeRawBufferPointer) -> Int? {
        var at = 0
        let isNegative = text.first == UInt8(ascii: "-")
        if isNegative || text.first == UInt8(ascii: "+") { at = 1 }
        guard at < text.count else { return nil }
        var power = 0
        while at < text.count {
            let digit = text[at] &- UInt8(ascii: "0")
            guard digit <= 9 else { return nil }
            power = min(power * 10 + Int(digit), 100_000)
            at += 1
        }
        return isNegative ? -power : power
    }

    private static func slowly(_ text: UnsafeRawBufferPointer) -> Double {
        withUnsafeTemporaryAllocation(byteCount: text.count + 1, alignment: 1) { copy in
            copy.copyMemory(from: text)
            copy[text.count] = 0
            return copy.withMemoryRebound(to: CChar.self) { $0.baseAddress.map { strtod($0, nil) } ?? .nan }
        }
    }
}

private let powersOfTen: [Double] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
]

/// Appends what a string of JSON stands for: escapes resolved, half a surrogate pair and an escape that is cut off as U+FFFD, of an unknown escape its character.
package func appendUnescaped(_ raw: UnsafeRawBufferPointer, to bytes: inout [UInt8]) {
    var at = 0
    while at < raw.count {
        let byte = raw[at]
        at += 1
        guard byte == UInt8(ascii: "\\"), at < raw.count else {
            bytes.append(byte)
            continue
        }
        let kind = raw[at]
        at += 1
        switch kind {
        case UInt8(ascii: "n"): bytes.append(0x0a)
        case UInt8(ascii: "t"): bytes.append(0x09)
        case UInt8(ascii: "r"): bytes.append(0x0d)
        case UInt8(ascii: "b"): bytes.append(0x08)
        case UInt8(ascii: "f"): bytes.append(0x0c)
        case UInt8(ascii: "u"):
            guard let first = codeUnit(raw, at) else {
                bytes.append(contentsOf: "\u{fffd}".utf8)
                continue
            }
            at += 4
            var code = first
            if first & 0xfc00 == 0xd800, at + 6 <= raw.count, raw[at] == UInt8(ascii: "\\"), raw[at + 1] == UInt8(ascii: "u"),
                let second = codeUnit(raw, at + 2), second & 0xfc00 == 0xdc00
            {
                code = 0x10000 + (first & 0x3ff) << 10 + second & 0x3ff
                at += 6
            }
            bytes.append(contentsOf: String(Unicode.Scalar(code) ?? "\u{fffd}").utf8)
        default: bytes.append(kind)
        }
    }
}

/// Four hexadecimal digits.
private func codeUnit(_ raw: UnsafeRawBufferPointer, _ from: Int) -> UInt32? {
    guard from + 4 <= raw.count else { return nil }
    var value: UInt32 = 0
    for at in from..<from + 4 {
        let byte = raw[at]
        let digit: UInt8
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte &- UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte &- UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte &- UInt8(ascii: "A") + 10
        default: return nil
        }
        value = value << 4 | UInt32(digit)
    }
    return value
}
