package import ObsCore

/// Writes JSON text. Commas are put by the writer; the caller opens and closes.
package struct JSONWriter {
    package private(set) var bytes: [UInt8] = []
    private var needsComma = false

    package init(reserving count: Int = 256) { bytes.reserveCapacity(count) }

    private mutating func separate() {
        if needsComma { bytes.append(UInt8(ascii: ",")) }
        needsComma = false
    }

    package mutating func beginObject() {
        separate()
        bytes.append(UInt8(ascii: "{"))
    }

    package mutating func endObject() {
        bytes.append(UInt8(ascii: "}"))
        needsComma = true
    }

    package mutating func beginArray() {
        separate()
        bytes.append(UInt8(ascii: "["))
    }

    package mutating func endArray() {
        bytes.append(UInt8(ascii: "]"))
        needsComma = true
    }

    package mutating func key(_ name: String) {
        separate()
        quote(name)
        bytes.append(UInt8(ascii: ":"))
    }

    package mutating func string(_ text: String) {
        separate()
        quote(text)
        needsComma = true
    }

    /// Text as bytes; what is not valid UTF-8 becomes U+FFFD.
    package mutating func string(_ text: UnsafeRawBufferPointer) {
        separate()
        if isValidUTF8(text) { quote(text) } else { quote(String(decoding: text, as: UTF8.self)) }
        needsComma = true
    }

    package mutating func bool(_ value: Bool) { raw(value ? "true" : "false") }
    package mutating func int(_ value: some BinaryInteger) { raw(String(value)) }
    package mutating func null() { raw("null") }

    /// A JSON number, shortest round-trip; NaN and infinities have no JSON form and become strings.
    package mutating func double(_ value: Double) {
        let text = formatSampleValue(value)
        guard value.isFinite else { return string(text) }
        // Whole numbers of more digits than an integer has must not look like one: strict readers, ours among them, refuse them.
        raw(abs(value) >= 0x1p63 && abs(value) < 1e21 ? text + ".0" : text)
    }

    /// JSON text written as it is.
    package mutating func raw(_ text: String) {
        separate()
        bytes.append(contentsOf: text.utf8)
        needsComma = true
    }

    package mutating func raw(_ text: some Sequence<UInt8>) {
        separate()
        bytes.append(contentsOf: text)
        needsComma = true
    }

    package mutating func member(_ name: String, _ value: String) {
        key(name)
        string(value)
    }

    package mutating func member(_ name: String, int value: some BinaryInteger) {
        key(name)
        int(value)
    }

    package mutating func member(_ name: String, bool value: Bool) {
        key(name)
        bool(value)
    }

    /// `{"name":"value",…}` of a label set.
    package mutating func labels(_ labels: Labels) {
        beginObject()
        labels.forEach { name, value in
            separate()
            quote(name)
            bytes.append(UInt8(ascii: ":"))
            needsComma = false
            string(value)
        }
        endObject()
    }

    /// Seconds with up to three decimals from milliseconds, as Prometheus prints sample times.
    package mutating func seconds(millis: Int64) {
        let rest = abs(millis % 1000)
        raw("\(millis < 0 && millis > -1000 ? "-" : "")\(millis / 1000)" + (rest == 0 ? "" : "." + padded(Int(rest), 3)))
    }

    /// A sample value as a string, as Prometheus writes it.
    package mutating func sampleValue(_ value: Double) {
        // Most samples are whole numbers of few digits: their text takes no detour.
        guard abs(value) < 1e15, let whole = Int64(exactly: value), whole != 0 || value.sign == .plus else { return string(formatSampleValue(value)) }
        separate()
        bytes.append(UInt8(ascii: "\""))
        appendDigits(whole)
        bytes.append(UInt8(ascii: "\""))
        needsComma = true
    }

    private mutating func appendDigits(_ number: Int64) {
        if number < 0 { bytes.append(UInt8(ascii: "-")) }
        var rest = number.magnitude
        let start = bytes.count
        repeat {
            bytes.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest % 10))
            rest /= 10
        } while rest > 0
        bytes[start...].reverse()
    }

    /// Hands over what is written so far, for answers that leave in pieces; the text goes on where it was.
    package mutating func drain() -> [UInt8] {
        defer { bytes = [] }
        return bytes
    }

    private mutating func quote(_ text: String) {
        var copy = text
        copy.withUTF8 { quote(UnsafeRawBufferPointer($0)) }
    }

    private mutating func quote(_ text: UnsafeRawBufferPointer) {
        bytes.append(UInt8(ascii: "\""))
        var start = 0
        for at in 0..<text.count {
            let byte = text[at]
            if byte >= 0x20, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") { continue }
            bytes.append(contentsOf: text[start..<at])
            start = at + 1
            escape(byte)
        }
        bytes.append(contentsOf: text[start..<text.count])
        bytes.append(UInt8(ascii: "\""))
    }

    private mutating func escape(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""): bytes.append(contentsOf: "\\\"".utf8)
        case UInt8(ascii: "\\"): bytes.append(contentsOf: "\\\\".utf8)
        case 0x0a: bytes.append(contentsOf: "\\n".utf8)
        case 0x0d: bytes.append(contentsOf: "\\r".utf8)
        case 0x09: bytes.append(contentsOf: "\\t".utf8)
        default: bytes.append(contentsOf: "\\u00\(hexString([byte]))".utf8)
        }
    }
}

/// Whether bytes are well-formed UTF-8 (RFC 3629).
package func isValidUTF8(_ text: UnsafeRawBufferPointer) -> Bool {
    // ASCII, eight bytes at a time, is the common case.
    var at = 0
    while at + 8 <= text.count, text.loadUnaligned(fromByteOffset: at, as: UInt64.self) & 0x8080_8080_8080_8080 == 0 { at += 8 }
    return String(validating: UnsafeRawBufferPointer(rebasing: text[at...]), as: UTF8.self) != nil
}
