// Two readers of JSON, for two needs. `JSONDocument` is for bodies we take apart as a whole (Loki push, OTLP, rule files of JSON): simdjson
// validates it and writes a tape, which Swift walks in place; strings come unescaped, a value is a struct of two words.
// `JSONScanner` is for objects of which we need a few members and where their text lies (JSON lines, LogQL's `json`): nothing is built.

internal import CSimdjson
package import ObsCore

/// A parsed JSON document. Values keep it alive.
package final class JSONDocument: @unchecked Sendable {  // immutable after init
    private let handle: OpaquePointer
    fileprivate let tape: UnsafePointer<UInt64>
    fileprivate let strings: UnsafePointer<UInt8>

    private init(_ handle: OpaquePointer) {
        self.handle = handle
        tape = obs_json_tape(handle)
        strings = obs_json_strings(handle)
    }

    deinit { obs_json_free(handle) }

    package var root: JSONValue { JSONValue(document: self, index: 1) }

    /// - Parameter repairing: takes what strict JSON does not and senders nevertheless send: bytes that are not UTF-8 and lone surrogates become U+FFFD,
    ///   integers of more than 64 bits become doubles.
    /// - Throws: `.badInput` with the byte offset as its place.
    package static func parse(_ bytes: [UInt8], nestingMax: Int = Limits().nestingMax, repairing: Bool = false) throws(ObsError) -> JSONDocument {
        var error: Int32 = 0
        // simdjson's bound counts the root as a level of its own.
        let handle = bytes.withUnsafeBufferPointer { obs_json_parse($0.baseAddress, $0.count, nestingMax + 1, &error) }
        if let handle { return JSONDocument(handle) }
        if repairing, let repaired = repair(bytes, error) { return try parse(repaired, nestingMax: nestingMax, repairing: false) }
        throw describe(bytes, Int(error), nestingMax)
    }

    /// simdjson says what, not where; a failed document is scanned again for the place.
    private static func describe(_ bytes: [UInt8], _ error: Int, _ nestingMax: Int) -> ObsError {
        if error == OBS_JSON_MEMORY { return ObsError(.tooLarge, "JSON document of \(bytes.count) bytes is too large") }
        let found = bytes.withUnsafeBytes { text -> ObsError? in
            var scanner = JSONScanner(text, nestingMax: nestingMax)
            do throws(ObsError) {
                _ = try scanner.value()
                try scanner.end()
                return nil
            } catch { return error }
        }
        return found ?? ObsError(.badInput, error == OBS_JSON_NUMBER ? "invalid JSON: a number is out of range" : "invalid JSON")
    }
}

package enum JSONKind: Sendable, Equatable {
    case object, array, string, int64, uint64, double, bool, null
}

/// One value of a document.
package struct JSONValue: Sendable {
    private let document: JSONDocument
    private let index: Int

    fileprivate init(document: JSONDocument, index: Int) {
        self.document = document
        self.index = index
    }

    private var word: UInt64 { document.tape[index] }
    private var tag: UInt8 { UInt8(truncatingIfNeeded: word >> 56) }

    package var kind: JSONKind {
        switch tag {
        case UInt8(ascii: "{"): .object
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "\""): .string
        case UInt8(ascii: "l"): .int64
        case UInt8(ascii: "u"): .uint64
        case UInt8(ascii: "d"): .double
        case UInt8(ascii: "t"), UInt8(ascii: "f"): .bool
        default: .null
        }
    }

    package var isNull: Bool { tag == UInt8(ascii: "n") }
    package var bool: Bool? { tag == UInt8(ascii: "t") ? true : tag == UInt8(ascii: "f") ? false : nil }

    /// An integer in range, exact.
    package var int64: Int64? {
        switch tag {
        case UInt8(ascii: "l"): Int64(bitPattern: document.tape[index + 1])
        case UInt8(ascii: "u"): Int64(exactly: document.tape[index + 1])
        default: nil
        }
    }

    package var uint64: UInt64? {
        switch tag {
        case UInt8(ascii: "l"): UInt64(exactly: Int64(bitPattern: document.tape[index + 1]))
        case UInt8(ascii: "u"): document.tape[index + 1]
        default: nil
        }
    }

    /// Any number.
    package var double: Double? {
        switch tag {
        case UInt8(ascii: "d"): Double(bitPattern: document.tape[index + 1])
        case UInt8(ascii: "l"): Double(Int64(bitPattern: document.tape[index + 1]))
        case UInt8(ascii: "u"): Double(document.tape[index + 1])
        default: nil
        }
    }

    /// A string's unescaped UTF-8 bytes. They live as long as the document does; use them within `withStringBytes`.
    private var stringBytes: UnsafeRawBufferPointer? {
        guard tag == UInt8(ascii: "\"") else { return nil }
        let at = UnsafeRawPointer(document.strings) + Int(word & 0x00ff_ffff_ffff_ffff)
        return UnsafeRawBufferPointer(start: at + 4, count: Int(at.loadUnaligned(as: UInt32.self)))
    }

    /// Calls `body` with a string's unescaped bytes; nil when the value is not a string.
    package func withStringBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R? {
        guard let bytes = stringBytes else { return nil }
        defer { withExtendedLifetime(document) {} }
        return try body(bytes)
    }

    package var string: String? { withStringBytes { String(decoding: $0, as: UTF8.self) } }

    /// The index past this value on the tape.
    private var next: Int {
        switch tag {
        case UInt8(ascii: "{"), UInt8(ascii: "["): Int(word & 0xffff_ffff)
        case UInt8(ascii: "l"), UInt8(ascii: "u"), UInt8(ascii: "d"): index + 2
        default: index + 1
        }
    }

    /// Calls `body` with each member in order, repeated keys included. Nothing for a value that is not an object.
    package func forEachMember<E: Error>(_ body: (_ key: UnsafeRawBufferPointer, _ value: JSONValue) throws(E) -> Void) throws(E) {
        guard tag == UInt8(ascii: "{") else { return }
        defer { withExtendedLifetime(document) {} }
        let end = next - 1
        var at = index + 1
        while at < end {
            let value = JSONValue(document: document, index: at + 1)
            guard let key = JSONValue(document: document, index: at).stringBytes else { return }
            try body(key, value)
            at = value.next
        }
    }

    /// Calls `body` with each element. Nothing for a value that is not an array.
    package func forEachElement<E: Error>(_ body: (JSONValue) throws(E) -> Void) throws(E) {
        guard tag == UInt8(ascii: "[") else { return }
        let end = next - 1
        var at = index + 1
        while at < end {
            let value = JSONValue(document: document, index: at)
            try body(value)
            at = value.next
        }
    }

    /// Number of elements or members; 0 for other kinds.
    package var count: Int {
        var count = 0
        switch kind {
        case .array: forEachElement { _ in count += 1 }
        case .object: forEachMember { _, _ in count += 1 }
        default: break
        }
        return count
    }

    /// The member of that name (the last, where it is repeated); nil when there is none or this is no object.
    package subscript(_ name: String) -> JSONValue? {
        var name = name
        return name.withUTF8 { wanted in
            var found: JSONValue?
            forEachMember { key, value in
                if compareBytes(key, UnsafeRawBufferPointer(wanted)) == 0 { found = value }
            }
            return found
        }
    }

    /// The element at a place; nil past the end or when this is no array.
    package subscript(_ place: Int) -> JSONValue? {
        var at = 0
        var found: JSONValue?
        forEachElement { value in
            if at == place { found = value }
            at += 1
        }
        return found
    }

    /// Appends the value as compact JSON text.
    package func appendJSON(to bytes: inout [UInt8]) {
        var writer = JSONWriter()
        write(to: &writer)
        bytes.append(contentsOf: writer.bytes)
    }

    package func write(to writer: inout JSONWriter) {
        switch kind {
        case .object:
            writer.beginObject()
            forEachMember { key, value in
                writer.key(String(decoding: key, as: UTF8.self))
                value.write(to: &writer)
            }
            writer.endObject()
        case .array:
            writer.beginArray()
            forEachElement { $0.write(to: &writer) }
            writer.endArray()
        case .string: _ = withStringBytes { writer.string($0) }
        case .int64, .uint64:
            if let value = int64 { writer.int(value) } else { writer.int(uint64 ?? 0) }
        case .double: writer.double(double ?? 0)
        case .bool: writer.bool(bool ?? false)
        case .null: writer.null()
        }
    }
}

// MARK: - repairs

private func repair(_ bytes: [UInt8], _ error: Int32) -> [UInt8]? {
    switch Int(error) {
    case OBS_JSON_UTF8: return withoutLoneSurrogates(withShortIntegers([UInt8](String(decoding: bytes, as: UTF8.self).utf8)))
    case OBS_JSON_STRING, OBS_JSON_NUMBER: return withoutLoneSurrogates(withShortIntegers(bytes))
    default: return nil
    }
}

/// Rewrites the tail of integers longer than 64 bits as an exponent, in place and of the same length;
/// the digits that go are past what a double holds.
private func withShortIntegers(_ source: [UInt8]) -> [UInt8] {
    var bytes = source
    var at = 0
    while at < bytes.count {
        switch bytes[at] {
        case UInt8(ascii: "\""): at = endOfString(bytes, at)
        case UInt8(ascii: "0")...UInt8(ascii: "9"):
            let start = at
            while at < bytes.count, isDigit(bytes[at]) { at += 1 }
            let isInteger = at == bytes.count || !isFractional(bytes[at])
            let isWhole = start == 0 || !isFractional(bytes[start - 1])
            if isInteger, isWhole, (20...300).contains(at - start) { bytes.replaceSubrange(at - 4..<at, with: "e004".utf8) }
        default: at += 1
        }
    }
    return bytes
}

private func isDigit(_ byte: UInt8) -> Bool { byte &- UInt8(ascii: "0") <= 9 }
private func isFractional(_ byte: UInt8) -> Bool { byte == UInt8(ascii: ".") || byte | 0x20 == UInt8(ascii: "e") || byte == UInt8(ascii: "+") }

/// Index past the closing quote of the string that opens at `start`.
private func endOfString(_ bytes: [UInt8], _ start: Int) -> Int {
    var at = start + 1
    while at < bytes.count {
        if bytes[at] == UInt8(ascii: "\"") { return at + 1 }
        at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1
    }
    return bytes.count
}

/// Replaces `\ud800` escapes without their partner by `\ufffd`.
private func withoutLoneSurrogates(_ source: [UInt8]) -> [UInt8] {
    var bytes = source
    func unit(_ at: Int) -> UInt32? {
        guard at + 6 <= bytes.count, bytes[at] == UInt8(ascii: "\\"), bytes[at + 1] == UInt8(ascii: "u") else { return nil }
        var value: UInt32 = 0
        for digit in bytes[at + 2..<at + 6] {
            guard let half = hexValue(digit) else { return nil }
            value = value << 4 | UInt32(half)
        }
        return value
    }
    var at = 0
    while at < bytes.count {
        guard bytes[at] == UInt8(ascii: "\\") else {
            at += 1
            continue
        }
        guard let first = unit(at), 0xd800...0xdfff ~= first else {
            at += 2
            continue
        }
        if first < 0xdc00, let second = unit(at + 6), 0xdc00...0xdfff ~= second {
            at += 12
        } else {
            bytes.replaceSubrange(at + 2..<at + 6, with: "fffd".utf8)
            at += 6
        }
    }
    return bytes
}
