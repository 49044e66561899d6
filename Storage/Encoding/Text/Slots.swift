// Where a text varies. A text is *static* bytes with *slots* between them; texts written by the same statement have the same static bytes, and what is in a
// slot is of a kind: a number, a date, an address. So static bytes become a dictionary of shapes and each slot a column of its own (`TextColumn`).
//
// Nothing here needs to be right about what a text means: any choice of slots gives the text back byte for byte, a bad one only costs space. Hence no parser,
// only scanners that never look back, and everything they do not understand is static or one slot.
//
// A scanner is asked two things: where the next slot is, and, where the text goes on as one seen before (`ShapeTable`), whether a slot begins right behind
// the same static bytes. The second is the first without the search; should it say yes where the first would have cut otherwise, the text is still given back.
internal import ObsCore

/// How texts are cut into slots. Not stored: a reader only puts slots back.
enum SlotRule: Int, CaseIterable {
    /// A JSON object on one line: every string, number and literal is a slot.
    case json = 0
    /// Words with a digit in them, with dots inside: numbers, versions, addresses, identifiers.
    case words
    /// Every word, for texts whose words differ from one to the next.
    case allWords
    /// Runs of digits, or where letters and digits alternate the run of both: what a word is made of.
    case runs
    /// Every word of a text's first bytes, where the date is, and the rest.
    case head
    /// The whole text.
    case whole
    /// An attribute list (FORMAT.md): every value.
    case attributes
    /// Events of a span: of each the time, the name, the attribute list.
    case events
    /// Links of a span: of each the trace id, the span id, the trace state, the attribute list.
    case links

    /// Whether a slot has a length in front of it.
    /// - Parameter type: the last byte before it, which says of a value in an attribute list how long it is.
    func hasLength(slot: Int, type: UInt8) -> Bool {
        switch self {
        case .attributes: type != 2 && type != 3 && type != 4
        case .events: slot % 3 > 0
        case .links: slot % 4 > 1
        default: false
        }
    }
}

enum Slots {
    /// Of a text. More are not looked for: what follows is static. Bounds the columns one shape can have.
    static let max = 128
}

/// A slot of a text. Places are of the buffer that the text is in.
struct Slot {
    /// Where the static bytes before it end: at `from`, or before the length that stands in front of it.
    var staticEnd: Int
    var from: Int
    var to: Int
    /// Where to look for the next one.
    var next: Int

    init(_ from: Int, _ to: Int) { self.init(staticEnd: from, from, to, next: to) }

    init(staticEnd: Int, _ from: Int, _ to: Int, next: Int) {
        self.staticEnd = staticEnd
        self.from = from
        self.to = to
        self.next = next
    }
}

/// A text to be cut.
struct ScannedText {
    let bytes: TextBytes
    let start: Int
    let end: Int
    let classes: UnsafePointer<UInt8>

    @inline(__always)
    func kind(_ at: Int) -> UInt8 { classes[Int(bytes[at])] }
}

protocol SlotScanner {
    /// The first slot that begins at `at` or behind it.
    /// - Parameter before: slots before it.
    static func next(_ text: ScannedText, _ at: Int, before: Int) -> Slot?
    /// The slot right behind static bytes that end at `at`.
    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot?
}

/// What scanners ask of a byte.
enum ByteClass {
    static let digit: UInt8 = 1
    static let letter: UInt8 = 2
    /// Letters, digits, `_` and everything past ASCII.
    static let word: UInt8 = 4
    /// Of numbers and literals in JSON.
    static let json: UInt8 = 8
    static let hexLetter: UInt8 = 16
    static let dot: UInt8 = 32
    static let minus: UInt8 = 64
    /// None of those a number is written with.
    static let other: UInt8 = 128

    /// Of all 256. Made once, never written again.
    nonisolated(unsafe) static let table: UnsafePointer<UInt8> = {
        let table = UnsafeMutablePointer<UInt8>.allocate(capacity: 256)
        for byte in 0..<256 { (table + byte).initialize(to: classes(UInt8(byte))) }
        return UnsafePointer(table)
    }()

    private static func classes(_ byte: UInt8) -> UInt8 {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit | word | json
        case UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"): letter | word | json | hexLetter
        case UInt8(ascii: "g")...UInt8(ascii: "z"), UInt8(ascii: "G")...UInt8(ascii: "Z"): letter | word | json | other
        case UInt8(ascii: "_"), 0x80...0xff: word | other
        case UInt8(ascii: "."): dot | json
        case UInt8(ascii: "-"): minus | json
        case UInt8(ascii: "+"): json | other
        default: other
        }
    }
}

/// Not a check of the grammar: brackets, colons and commas are static, so are keys; strings without their quotes and other words are slots.
enum JSONSlots: SlotScanner {
    @inline(__always)
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? {
        var at = from
        while at < text.end {
            if text.bytes[at] == UInt8(ascii: "\"") {
                guard let end = stringEnd(text, at + 1) else { return nil }
                if !isKey(text, end) { return Slot(staticEnd: at + 1, at + 1, end, next: end + 1) }
                at = end + 1
            } else if text.kind(at) & ByteClass.json != 0 {
                return Slot(at, wordEnd(text, at))
            } else {
                at += 1
            }
        }
        return nil
    }

    @inline(__always)
    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? {
        if at > text.start, text.bytes[at - 1] == UInt8(ascii: "\"") {
            guard let end = stringEnd(text, at), !isKey(text, end) else { return nil }
            return Slot(staticEnd: at, at, end, next: end + 1)
        }
        guard at < text.end, text.kind(at) & ByteClass.json != 0 else { return nil }
        return Slot(at, wordEnd(text, at))
    }

    /// A string before a colon is a key.
    @inline(__always)
    private static func isKey(_ text: ScannedText, _ end: Int) -> Bool { end + 1 < text.end && text.bytes[end + 1] == UInt8(ascii: ":") }

    @inline(__always)
    private static func wordEnd(_ text: ScannedText, _ from: Int) -> Int {
        var at = from
        while at < text.end, text.kind(at) & ByteClass.json != 0 { at &+= 1 }
        return at
    }

    /// Of the closing quote.
    @inline(__always)
    private static func stringEnd(_ text: ScannedText, _ from: Int) -> Int? {
        var at = from
        while at < text.end {
            if at &+ 8 <= text.end {
                // Eight at a time: the lowest bit of each byte's highest that is zero where it is a quote or a backslash.
                let eight = text.bytes.eight(at)
                let found = zeroBytes(eight ^ 0x2222_2222_2222_2222) | zeroBytes(eight ^ 0x5c5c_5c5c_5c5c_5c5c)
                if found == 0 {
                    at &+= 8
                    continue
                }
                at &+= found.trailingZeroBitCount / 8
            }
            let byte = text.bytes[at]
            if byte == UInt8(ascii: "\"") { return at }
            at &+= byte == UInt8(ascii: "\\") ? 2 : 1
        }
        return nil
    }

    /// The highest bit of every byte that is zero; above the lowest such also of others.
    @inline(__always)
    private static func zeroBytes(_ eight: UInt64) -> UInt64 { (eight &- 0x0101_0101_0101_0101) & ~eight & 0x8080_8080_8080_8080 }
}

enum WordSlots: SlotScanner {
    @inline(__always)
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? { nextWord(text, from, all: false) }
    @inline(__always)
    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? { word(text, at, all: false) }
}

enum AllWordSlots: SlotScanner {
    @inline(__always)
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? { nextWord(text, from, all: true) }
    @inline(__always)
    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? { word(text, at, all: true) }
}

@inline(__always)
private func nextWord(_ text: ScannedText, _ from: Int, all: Bool) -> Slot? {
    var at = from
    while at < text.end {
        if text.kind(at) & ByteClass.word == 0 {
            at &+= 1
            continue
        }
        let (end, seen) = wordEnd(text, at)
        if all || seen & ByteClass.digit != 0 { return Slot(at, end) }
        at = end
    }
    return nil
}

@inline(__always)
private func word(_ text: ScannedText, _ at: Int, all: Bool) -> Slot? {
    guard at < text.end, text.kind(at) & ByteClass.word != 0 else { return nil }
    let (end, seen) = wordEnd(text, at)
    return all || seen & ByteClass.digit != 0 ? Slot(at, end) : nil
}

/// A dot between two words belongs to both: 10.0.0.1, 3.14, api.example.com.
@inline(__always)
private func wordEnd(_ text: ScannedText, _ from: Int) -> (end: Int, seen: UInt8) {
    var at = from
    var seen: UInt8 = 0
    while at < text.end {
        let kind = text.kind(at)
        if kind & ByteClass.word == 0 {
            guard kind & ByteClass.dot != 0, at + 1 < text.end, text.kind(at + 1) & ByteClass.word != 0 else { break }
        }
        seen |= kind
        at &+= 1
    }
    return (at, seen)
}

enum RunSlots: SlotScanner {
    private static let inside = ByteClass.digit | ByteClass.letter

    @inline(__always)
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? {
        var at = from
        while at < text.end {
            if text.kind(at) & inside == 0 {
                at &+= 1
                continue
            }
            let run = run(text, at)
            if run.firstDigit >= 0 { return Slot(run.isMixed ? at : run.firstDigit, run.end) }
            at = run.end
        }
        return nil
    }

    @inline(__always)
    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? {
        let run = run(text, at)
        // Behind letters that are static only digits are a slot.
        if at > text.start, text.kind(at - 1) & ByteClass.letter != 0 { return run.firstDigit == at && !run.isMixed ? Slot(at, run.end) : nil }
        return run.firstDigit == at || run.isMixed ? Slot(at, run.end) : nil
    }

    @inline(__always)
    private static func run(_ text: ScannedText, _ from: Int) -> (end: Int, firstDigit: Int, isMixed: Bool) {
        var at = from
        var firstDigit = -1
        var isMixed = false
        while at < text.end {
            let kind = text.kind(at)
            if kind & ByteClass.digit != 0 {
                if firstDigit < 0 { firstDigit = at }
            } else if kind & ByteClass.letter != 0 {
                isMixed = isMixed || firstDigit >= 0
            } else {
                break
            }
            at &+= 1
        }
        return (at, firstDigit, isMixed)
    }
}

enum HeadSlots: SlotScanner {
    private static let bytes = 24

    @inline(__always)
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? {
        guard from < text.end else { return nil }
        if from < text.start + bytes, let word = nextWord(text, from, all: true), word.from < text.start + bytes { return word }
        return Slot(from, text.end)
    }

    @inline(__always)
    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? {
        guard at < text.end else { return nil }
        return at < text.start + bytes ? word(text, at, all: true) : Slot(at, text.end)
    }
}

enum WholeSlot: SlotScanner {
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? { slot(text, at: from, before: before) }
    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? { at == text.start && at < text.end ? Slot(at, text.end) : nil }
}

/// What is none, or has lengths that are not as short as can be, is static to the end.
enum AttributeSlots: SlotScanner {
    @inline(__always)
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? {
        var at = from
        guard let keyBytes = varint(text, &at), keyBytes < text.end - at else { return nil }
        return slot(text, at: at + keyBytes + 1, before: before)
    }

    @inline(__always)
    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? {
        guard at > text.start else { return nil }
        switch text.bytes[at - 1] {
        case 2: return fixed(text, at, 1)
        case 3, 4: return fixed(text, at, 8)
        default: return measured(text, at)
        }
    }
}

enum EventSlots: SlotScanner {
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? {
        var at = from
        // Behind an event stands how many of its attributes were dropped.
        if before > 0, before % 3 == 0, varint(text, &at) == nil { return nil }
        return slot(text, at: at, before: before)
    }

    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? { before % 3 == 0 ? fixed(text, at, 8) : measured(text, at) }
}

enum LinkSlots: SlotScanner {
    static func next(_ text: ScannedText, _ from: Int, before: Int) -> Slot? {
        var at = from
        // Likewise, and flags.
        if before > 0, before % 4 == 0 {
            guard varint(text, &at) != nil else { return nil }
            at += 4
        }
        return slot(text, at: at, before: before)
    }

    static func slot(_ text: ScannedText, at: Int, before: Int) -> Slot? {
        switch before % 4 {
        case 0: fixed(text, at, 16)
        case 1: fixed(text, at, 8)
        default: measured(text, at)
        }
    }
}

@inline(__always)
private func fixed(_ text: ScannedText, _ at: Int, _ count: Int) -> Slot? { at + count <= text.end ? Slot(at, at + count) : nil }

/// A slot behind its length.
@inline(__always)
private func measured(_ text: ScannedText, _ at: Int) -> Slot? {
    var from = at
    guard let bytes = varint(text, &from), bytes <= text.end - from, from - at == varintSize(bytes) else { return nil }
    return Slot(staticEnd: at, from, from + bytes, next: from + bytes)
}

/// Of up to 2^35.
@inline(__always)
private func varint(_ text: ScannedText, _ at: inout Int) -> Int? {
    var value = 0
    for shift in stride(from: 0, to: 35, by: 7) {
        guard at < text.end else { return nil }
        let byte = text.bytes[at]
        at += 1
        value |= Int(byte & 0x7f) << shift
        if byte < 0x80 { return value }
    }
    return nil
}

/// Bytes of a number as a varint.
private func varintSize(_ value: Int) -> Int { (63 - (value | 1).leadingZeroBitCount) / 7 + 1 }
