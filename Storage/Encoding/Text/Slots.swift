// Where a text varies. A text is *static* bytes with *slots* between them; texts written by the same statement have the same static bytes, and what is in a
// slot is of a kind: a number, a date, an address. So static bytes become a dictionary of shapes and each slot a column of its own (`TextColumn`).
//
// Nothing here needs to be right about what a text means: any choice of slots gives the text back byte for byte, a bad one only costs space. Hence no parser,
// only scanners that never look back, and everything they do not understand is static or one slot.
internal import ObsCore

/// Slots of one text, ascending, not overlapping.
struct Slots {
    struct Slot {
        /// Where the static bytes before it end: at `from`, or before the length that stands in front of it.
        var staticEnd: Int
        var from: Int
        var to: Int
    }
    private(set) var all: [Slot] = []
    /// More are not looked for: what follows is static. Bounds the columns one shape can have.
    static let max = 128

    mutating func removeAll() { all.removeAll(keepingCapacity: true) }

    var isFull: Bool { all.count >= Self.max }

    mutating func add(_ from: Int, _ to: Int) { if !isFull { all.append(Slot(staticEnd: from, from: from, to: to)) } }

    mutating func add(staticEnd: Int, _ from: Int, _ to: Int) { if !isFull { all.append(Slot(staticEnd: staticEnd, from: from, to: to)) } }
}

/// What scanners ask of a byte.
enum ByteClass {
    static let digit: UInt8 = 1
    static let letter: UInt8 = 2
    /// Letters, digits, `_` and everything past ASCII.
    static let word: UInt8 = 4

    static let table: [UInt8] = (0..<256).map { byte in
        switch UInt8(byte) {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit | word
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): letter | word
        case UInt8(ascii: "_"), 0x80...0xff: word
        default: 0
        }
    }
}

/// How texts are cut into slots. Not stored: a reader only puts slots back.
enum SlotRule {
    /// A JSON object on one line: every string, number and literal is a slot.
    case json
    /// Words with a digit in them, with dots inside: numbers, versions, addresses, identifiers.
    case words
    /// Every word, for texts whose words differ from one to the next.
    case allWords
    /// Runs of digits, or where letters and digits alternate the run of both: what a word is made of.
    case runs
    /// The whole text.
    case whole
    /// An attribute list (FORMAT.md): every value.
    case attributes

    /// A slot of an attribute list has a length in front of it unless its type says how long it is.
    func hasLength(type: UInt8) -> Bool { self == .attributes && type != 2 && type != 3 && type != 4 }

    func find(in text: UnsafeRawBufferPointer, _ classes: UnsafePointer<UInt8>, _ slots: inout Slots) {
        slots.removeAll()
        switch self {
        case .json: Self.findJSON(text, &slots)
        case .words: Self.findWords(text, classes, &slots, all: false)
        case .allWords: Self.findWords(text, classes, &slots, all: true)
        case .runs: Self.findRuns(text, classes, &slots)
        case .whole: slots.add(0, text.count)
        case .attributes: if !Self.findAttributes(text, &slots) { slots.removeAll() }
        }
    }

    /// Not a check of the grammar: brackets, colons and commas are static, so are keys; strings without their quotes and other words are slots.
    private static func findJSON(_ text: UnsafeRawBufferPointer, _ slots: inout Slots) {
        var at = 0
        while at < text.count, !slots.isFull {
            let byte = text[at]
            if byte == UInt8(ascii: "\"") {
                let start = at + 1
                var end = start
                while end < text.count, text[end] != UInt8(ascii: "\"") { end += text[end] == UInt8(ascii: "\\") ? 2 : 1 }
                guard end < text.count else { return }
                at = end + 1
                // A string before a colon is a key.
                if at < text.count, text[at] == UInt8(ascii: ":") { continue }
                slots.add(start, end)
            } else if isJSONWord(byte) {
                let start = at
                while at < text.count, isJSONWord(text[at]) { at += 1 }
                slots.add(start, at)
            } else {
                at += 1
            }
        }
    }

    @inline(__always)
    private static func isJSONWord(_ byte: UInt8) -> Bool {
        byte &- UInt8(ascii: "0") <= 9 || byte | 0x20 &- UInt8(ascii: "a") < 26 || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".")
            || byte == UInt8(ascii: "+")
    }

    /// False when it is none, or one with lengths that are not as short as can be.
    private static func findAttributes(_ text: UnsafeRawBufferPointer, _ slots: inout Slots) -> Bool {
        var at = 0
        while at < text.count {
            guard let keyBytes = readVarint(text, &at), keyBytes < UInt64(text.count - at) else { return false }
            at += Int(keyBytes)
            let type = text[at]
            at += 1
            let staticEnd = at
            switch type {
            case 2: at += 1
            case 3, 4: at += 8
            default:
                guard let bytes = readVarint(text, &at), bytes <= UInt64(text.count - at), at - staticEnd == varintSize(bytes) else { return false }
                slots.add(staticEnd: staticEnd, at, at + Int(bytes))
                at += Int(bytes)
                continue
            }
            guard at <= text.count else { return false }
            slots.add(staticEnd, at)
        }
        return true
    }

    private static func findWords(_ text: UnsafeRawBufferPointer, _ classes: UnsafePointer<UInt8>, _ slots: inout Slots, all: Bool) {
        var at = 0
        while at < text.count {
            if classes[Int(text[at])] & ByteClass.word == 0 {
                at += 1
                continue
            }
            let start = at
            var seen: UInt8 = 0
            while at < text.count {
                let kind = classes[Int(text[at])]
                if kind & ByteClass.word == 0 {
                    // A dot between two words belongs to both: 10.0.0.1, 3.14, api.example.com.
                    guard text[at] == UInt8(ascii: "."), at + 1 < text.count, classes[Int(text[at + 1])] & ByteClass.word != 0 else { break }
                }
                seen |= kind
                at += 1
            }
            if all || seen & ByteClass.digit != 0 {
                if slots.isFull { return }
                slots.add(start, at)
            }
        }
    }

    private static func findRuns(_ text: UnsafeRawBufferPointer, _ classes: UnsafePointer<UInt8>, _ slots: inout Slots) {
        var at = 0
        while at < text.count {
            let kind = classes[Int(text[at])]
            if kind & (ByteClass.digit | ByteClass.letter) == 0 {
                at += 1
                continue
            }
            let start = at
            var firstDigit = -1
            var isMixed = false
            while at < text.count {
                let kind = classes[Int(text[at])]
                if kind & ByteClass.digit != 0 {
                    if firstDigit < 0 { firstDigit = at }
                } else if kind & ByteClass.letter != 0 {
                    isMixed = isMixed || firstDigit >= 0
                } else {
                    break
                }
                at += 1
            }
            guard firstDigit >= 0 else { continue }
            if slots.isFull { return }
            slots.add(isMixed ? start : firstDigit, at)
        }
    }
}

/// Bytes of a number as a varint.
private func varintSize(_ value: UInt64) -> Int { (63 - (value | 1).leadingZeroBitCount) / 7 + 1 }
