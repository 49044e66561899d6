/// A 16-byte trace id as two big-endian halves. `none` (all zero) is not a trace.
package struct TraceID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package var high: UInt64
    package var low: UInt64
    package static let none = TraceID(high: 0, low: 0)

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Sixteen bytes, most significant first; nil for any other length.
    package init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count == 16 else { return nil }
        self.init(
            high: UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self)), low: UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
    }

    /// 1–32 hexadecimal digits of any case, padded with zeros at the left.
    package init?(hex text: some StringProtocol) {
        let digits = Array(text.utf8)
        guard (1...32).contains(digits.count) else { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        for digit in digits {
            guard let value = hexValue(digit) else { return nil }
            high = high << 4 | low >> 60
            low = low << 4 | UInt64(value)
        }
        self.init(high: high, low: low)
    }

    package var isNone: Bool { high == 0 && low == 0 }
    /// 32 lower-case hexadecimal digits.
    package var description: String { hexString(high) + hexString(low) }
    package var bytes: [UInt8] { bigEndianBytes(high) + bigEndianBytes(low) }
    package static func < (a: TraceID, b: TraceID) -> Bool { a.high != b.high ? a.high < b.high : a.low < b.low }
}

/// An 8-byte span id as its big-endian number; 0 is none.
package typealias SpanID = UInt64

/// Sixteen lower-case hexadecimal digits.
package func hexString(_ value: UInt64) -> String { hexString(bigEndianBytes(value)) }

package func hexString(_ bytes: some Sequence<UInt8>) -> String {
    let digits = [UInt8]("0123456789abcdef".utf8)
    return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
}

package func bigEndianBytes(_ value: UInt64) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }

@inlinable
package func hexValue(_ digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
}
