// Walks over texts that tell which fields they have, and where. A text may be known in part only: static bytes with slots between them, which is how a column of
// texts keeps it (Storage/Encoding/Text); one walk over a shape then answers for all its rows. A text that is known is one piece without slots.
//
// What is in a slot the walk does not know, but it knows how texts are cut (`SlotRule`), and that is enough where a slot is
//
// - all of a string, between its quotes: no quote in it ends the string;
// - part of a string: letters, digits and the like;
// - a word, alone between delimiters: no delimiter is in it;
// - of an attribute list a whole value, behind its type, and its length if it has one.
//
// Anywhere else the walk ends as *unknown*, and who asked has to look at the text. What static bytes show is believed as they stand: a slot that is where only
// a key, a comma or a bracket may be ends the walk as unknown, never as an error.

/// Static bytes and slots in turn, beginning and ending with bytes, which may be none.
package struct ShapedText {
    package let bytes: UnsafeRawBufferPointer
    /// In `bytes`, one more than slots.
    package let pieces: ArraySlice<Range<Int>>
    /// Of each slot, whether a length stands in front of it; none when there is no slot.
    package let hasLength: [Bool]

    package init(_ bytes: UnsafeRawBufferPointer, pieces: ArraySlice<Range<Int>>, hasLength: [Bool]) {
        self.bytes = bytes
        self.pieces = pieces
        self.hasLength = hasLength
    }

    /// A text that is known.
    package init(_ text: UnsafeRawBufferPointer) { self.init(text, pieces: [0..<text.count], hasLength: []) }
}

/// A value met by a walk.
package struct FieldPlace: Sendable, Equatable {
    package enum Value: Sendable, Equatable {
        /// Of the text's bytes.
        case bytes(Range<Int>)
        /// All that is in a slot.
        case slot(Int)
        /// A string that is partly in slots.
        case parts
        /// An object or an array.
        case container
    }
    package var value: Value
    package var form: FieldForm

    package init(value: Value, form: FieldForm) {
        self.value = value
        self.form = form
    }
}

package enum FoundField: Sendable, Equatable {
    case missing
    /// The text must be looked at.
    case unknown
    case at(FieldPlace)
}

extension FieldPath {
    /// Where a text has the field.
    package func find(in text: ShapedText, _ source: FieldSource) -> FoundField {
        switch source {
        case .line:
            var walk = JSONFieldWalk(text)
            while let place = walk.next() { if walk.isAt(self) { return .at(place) } }
            return walk.isUnknown ? .unknown : .missing
        case .attributes:
            guard keys.count == 1 else { return .missing }
            var walk = AttributeWalk(text)
            while let place = walk.next() { if text.bytes[walk.key].elementsEqual(keys[0]) { return .at(place) } }
            return walk.isUnknown ? .unknown : .missing
        }
    }

    /// Calls `body` with the form and bytes of a known text's field; nil when it is missing, an object or an array.
    package func withValue<R>(in text: UnsafeRawBufferPointer, _ source: FieldSource, _ body: (FieldForm, UnsafeRawBufferPointer) -> R) -> R? {
        guard case .at(let place) = find(in: ShapedText(text), source), case .bytes(let range) = place.value else { return nil }
        let payload = UnsafeRawBufferPointer(rebasing: text[range])
        return place.form.isNull(payload) ? nil : body(place.form, payload)
    }
}

extension FieldTest {
    /// Whether the field of a known text passes.
    package func passes(_ path: FieldPath, in text: UnsafeRawBufferPointer, _ source: FieldSource) -> Bool {
        guard case .at(let place) = path.find(in: ShapedText(text), source) else { return false }
        guard case .bytes(let range) = place.value else { return isExists }
        return passes(place.form, UnsafeRawBufferPointer(rebasing: text[range]))
    }
}

/// The fields of an object of JSON in the order they are written. It checks what it needs to: brackets, colons and commas must be right, what a string or
/// a word holds does not matter. Text behind the object is left alone.
package struct JSONFieldWalk {
    private enum Expectation { case root, keyOrEnd, key, value, valueOrEnd, separator }

    /// Nesting past it is taken as the end of what is JSON.
    package static let depthMax = 64

    private let bytes: UnsafeRawBufferPointer
    private let pieces: ArraySlice<Range<Int>>
    private let hasLength: [Bool]
    /// Number of the piece.
    private var piece: Int
    private var at: Int
    private var end: Int
    private var expected = Expectation.root
    /// Open brackets; bit d is whether the one at depth d is of an array.
    private var depth = 0
    private var arrays: UInt64 = 0
    /// Depth of the outermost array; none.
    private var arrayDepth = Int.max
    /// Keys down to the last value, where their text lies between the quotes.
    package private(set) var keys: [Range<Int>] = []
    package private(set) var isUnknown = false

    package init(_ text: ShapedText) {
        bytes = text.bytes
        pieces = text.pieces
        hasLength = text.hasLength
        piece = pieces.startIndex
        at = pieces[piece].lowerBound
        end = pieces[piece].upperBound
    }

    /// The next field; nil at the end, or where it cannot be told (`isUnknown`). Fields of arrays' elements are passed over.
    package mutating func next() -> FieldPlace? {
        while true {
            skipBlanks()
            guard at < end else {
                guard isAtSlot, expected == .value || expected == .valueOrEnd else { return stop(isUnknown: isAtSlot && isOpenAtSlot) }
                guard let place = wordSlot() else { return nil }
                if isKept { return place }
                continue
            }
            let byte = bytes[at]
            switch expected {
            case .root:
                guard byte == UInt8(ascii: "{") else { return stop() }
                open(isArray: false)
            case .keyOrEnd where byte == UInt8(ascii: "}"): if close(isArray: false) { return stop() }
            case .key, .keyOrEnd:
                guard byte == UInt8(ascii: "\""), key() else { return stop(isUnknown: isUnknown) }
                expected = .value
            case .separator:
                switch byte {
                case UInt8(ascii: ","):
                    at += 1
                    expected = isInArray ? .value : .key
                case UInt8(ascii: "}") where !isInArray, UInt8(ascii: "]") where isInArray: if close(isArray: isInArray) { return stop() }
                default: return stop()
                }
            case .valueOrEnd where byte == UInt8(ascii: "]"): if close(isArray: true) { return stop() }
            case .value, .valueOrEnd:
                let isKept = isKept
                guard let place = value(byte) else { return stop(isUnknown: isUnknown) }
                if isKept { return place }
            }
        }
    }

    /// Whether the last value has this path.
    package func isAt(_ path: FieldPath) -> Bool {
        guard keys.count == path.keys.count else { return false }
        for (range, wanted) in zip(keys, path.keys).reversed() where !isKey(range, wanted) { return false }
        return true
    }

    /// The path of the last value.
    package var path: FieldPath {
        FieldPath(keys: keys.map { FieldForm.jsonString.text(UnsafeRawBufferPointer(rebasing: bytes[$0])) })
    }

    private func isKey(_ range: Range<Int>, _ wanted: [UInt8]) -> Bool {
        let key = UnsafeRawBufferPointer(rebasing: bytes[range])
        // Escapes are longer than what they stand for.
        guard key.count >= wanted.count else { return false }
        return FieldForm.jsonString.withText(key) { key in wanted.withUnsafeBytes { compareBytes(key, $0) == 0 } }
    }

    private mutating func stop(isUnknown: Bool = false) -> FieldPlace? {
        self.isUnknown = isUnknown
        expected = .separator
        (piece, at, end) = (pieces.endIndex - 1, 0, 0)
        return nil
    }

    private var isAtSlot: Bool { piece + 1 < pieces.endIndex }
    private var slot: Int { piece - pieces.startIndex }

    /// Whether a slot here may be anything. Where a text begins it is a word, which begins no object, unless it is the rest of the text.
    private var isOpenAtSlot: Bool { expected != .root || isRestSlot }

    /// Whether the slot here may be all that is left of the text.
    private var isRestSlot: Bool { piece + 2 == pieces.endIndex && pieces[piece + 1].isEmpty }

    private mutating func nextPiece() {
        piece += 1
        at = pieces[piece].lowerBound
        end = pieces[piece].upperBound
    }

    private mutating func skipBlanks() {
        while at < end, bytes[at] == 0x20 || bytes[at] == 0x09 || bytes[at] == 0x0a || bytes[at] == 0x0d { at += 1 }
    }

    // MARK: Brackets

    private var isInArray: Bool { depth > 0 && arrays >> UInt64(depth - 1) & 1 == 1 }

    /// Whether a value that comes now is a field.
    private var isKept: Bool { arrayDepth == .max }

    private mutating func open(isArray: Bool) {
        at += 1
        if isArray {
            arrays |= 1 << UInt64(depth)
            arrayDepth = min(arrayDepth, depth)
        } else {
            arrays &= ~(1 << UInt64(depth))
        }
        depth += 1
        expected = isArray ? .valueOrEnd : .keyOrEnd
    }

    /// True when it was the last one.
    private mutating func close(isArray: Bool) -> Bool {
        at += 1
        depth -= 1
        if isArray, depth == arrayDepth { arrayDepth = .max }
        expected = .separator
        return depth == 0
    }

    // MARK: Keys and values

    /// A key and its colon. False when there is none, or it is unknown.
    private mutating func key() -> Bool {
        at += 1
        let start = at
        while true {
            guard at < end else {
                isUnknown = isAtSlot
                return false
            }
            if bytes[at] == UInt8(ascii: "\"") { break }
            at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1
        }
        let key = start..<at
        at += 1
        skipBlanks()
        guard at < end, bytes[at] == UInt8(ascii: ":") else {
            isUnknown = at >= end && isAtSlot
            return false
        }
        at += 1
        if isKept {
            keys.removeLast(max(0, keys.count - depth + 1))
            keys.append(key)
        }
        return true
    }

    /// What begins with a byte. Nil when it is no value, or unknown.
    private mutating func value(_ byte: UInt8) -> FieldPlace? {
        switch byte {
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            guard depth < Self.depthMax else { return nil }
            open(isArray: byte == UInt8(ascii: "["))
            return FieldPlace(value: .container, form: .text)
        case UInt8(ascii: "\""): return string()
        default: return word()
        }
    }

    private static func isDelimiter(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x20, 0x09, 0x0a, 0x0d, UInt8(ascii: ","), UInt8(ascii: ":"), UInt8(ascii: "\""), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: "{"),
            UInt8(ascii: "}"):
            true
        default: false
        }
    }

    private mutating func word() -> FieldPlace? {
        let start = at
        while at < end, !Self.isDelimiter(bytes[at]) { at += 1 }
        if at == end, isAtSlot {
            isUnknown = true
            return nil
        }
        guard at > start else { return nil }
        expected = .separator
        return FieldPlace(value: .bytes(start..<at), form: .jsonWord)
    }

    /// A slot where a value must be: a word, if a delimiter is behind it.
    private mutating func wordSlot() -> FieldPlace? {
        let slot = slot
        guard !hasLength[slot], let behind = pieces[piece + 1].first, Self.isDelimiter(bytes[behind]) else { return stop(isUnknown: true) }
        nextPiece()
        expected = .separator
        return FieldPlace(value: .slot(slot), form: .jsonWord)
    }

    private mutating func string() -> FieldPlace? {
        at += 1
        let start = at
        expected = .separator
        if at == end, isAtSlot, let behind = pieces[piece + 1].first, bytes[behind] == UInt8(ascii: "\""), !hasLength[slot] {
            let slot = slot
            nextPiece()
            at += 1
            return FieldPlace(value: .slot(slot), form: .jsonString)
        }
        var hasSlots = false
        while true {
            if at >= end {
                // Behind a backslash that the piece ends with, the slot's first byte is no letter of its own.
                guard isAtSlot, at == end, !isRestSlot, !hasLength[slot] else {
                    isUnknown = isAtSlot
                    return nil
                }
                nextPiece()
                hasSlots = true
            } else if bytes[at] == UInt8(ascii: "\"") {
                at += 1
                return FieldPlace(value: hasSlots ? .parts : .bytes(start..<(at - 1)), form: .jsonString)
            } else {
                at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1
            }
        }
    }
}

/// The entries of an attribute list in order, as far as it is one.
package struct AttributeWalk {
    private let text: ShapedText
    private var piece: Int
    private var at: Int
    /// Of the last value, where its key is.
    package private(set) var key = 0..<0
    package private(set) var isUnknown = false

    package init(_ text: ShapedText) {
        self.text = text
        piece = text.pieces.startIndex
        at = text.pieces[piece].lowerBound
    }

    private var isLast: Bool { piece + 1 == text.pieces.endIndex }

    /// The next value; nil at the end, or where it cannot be told.
    package mutating func next() -> FieldPlace? {
        // A walk that ended goes on ending.
        if isUnknown || isLast && at == text.pieces[piece].upperBound { return nil }
        // Lengths are of what is in the piece: nothing goes on behind it but values.
        let here = UnsafeRawBufferPointer(rebasing: text.bytes[..<text.pieces[piece].upperBound])
        guard let key = readLabelPart(here, &at), at < here.count else { return stop() }
        guard let type = AttributeType(rawValue: here[at]) else { return end() }
        at += 1
        self.key = key
        let form = FieldForm(type)
        if at == here.count, !isLast {
            let slot = piece - text.pieces.startIndex
            guard text.hasLength[slot] == (type != .bool && type != .int && type != .double) else { return stop() }
            piece += 1
            at = text.pieces[piece].lowerBound
            return FieldPlace(value: .slot(slot), form: form)
        }
        switch type {
        case .string, .bytes, .list, .map:
            guard let range = readLabelPart(here, &at) else { return stop() }
            return FieldPlace(value: .bytes(range), form: form)
        case .bool, .int, .double:
            let width = type == .bool ? 1 : 8
            guard here.count - at >= width else { return stop() }
            at += width
            return FieldPlace(value: .bytes((at - width)..<at), form: form)
        }
    }

    /// The piece ends within an entry: with the text, or at a slot.
    private mutating func stop() -> FieldPlace? {
        isUnknown = !isLast
        return end()
    }

    private mutating func end() -> FieldPlace? {
        piece = text.pieces.endIndex - 1
        at = text.pieces[piece].upperBound
        return nil
    }
}
