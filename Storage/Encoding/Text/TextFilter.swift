// What is certainly in no text of a column, from a few bytes a row, so that a search need not read the column at all. Made of the distinct pieces the column is made
// of, while they are at hand, never of the texts.
//
// It rests on where texts are never cut (`SlotRule`): *within a run of ASCII letters and digits, a slot begins or ends only where letters end, digits begin, and nothing but
// digits follows in the run*. So a run of the needle lies within one piece, or is letters at the end of one and digits at the beginning of the next. A run that is in no
// piece is in no text, wherever the needle's ends fall.
//
// Pieces are of two sorts. *Vocabulary* repeats: static bytes, texts of dictionaries, words. All sequences of four letters and digits in it, in lower case, go into one filter,
// and a run that is in a piece has all of its fours there. *Noted* runs do not: identifiers, numbers that are not stored as such, random words. Their fours would be all
// there are, so instead it is noted which letters and digits a column has and how long its runs are. A run longer than that is not of it; one as long is a whole
// one of the column's. Those are in a second filter, which so finds an identifier among all others. Of runs that are a little longer *windows* are in it, eight
// bytes of every nine from the ninth on: an identifier of sixteen may be a part of one of thirty-two, but then it has one of its windows. Numbers are told by the most
// digits they have.
//
// ```
// version u8 1 · flags u8 (1 fours, 2 tokens, 4 times) · varint digits of numbers, at most · varint n · noted × n
// filter of fours, if there is one · filter of tokens, if there is one   (`FuseFilter`)
// noted   varint letters and digits (bit 0 is `0`, bit 10 is `a`) · varint longest run << 2 | what of it is in the filter of tokens: 0 nothing, 1 runs as long, 2 windows
// ```
package import ObsCore
internal import ObsHash

package struct TextFilter: Sendable {
    static let version: UInt8 = 1
    static let hasFours: UInt8 = 1
    static let hasTokens: UInt8 = 2
    static let hasTimes: UInt8 = 4

    struct Noted: Hashable, Sendable {
        enum Tokens: UInt8 { case none = 0, whole, windows }
        /// Which letters and digits.
        var codes: UInt64
        var longest: Int
        /// What is in the filter of tokens.
        var tokens: Tokens
    }
    static let windowBytes = 8
    static let windowStep = 9
    /// The last that a part of sixteen bytes, from the first on, still has in it.
    static let firstWindow = 8
    /// Length of runs whose windows are kept: shorter ones have no other in them, longer ones too many windows.
    static let windowedBytes = 17...64

    private let isEmpty: Bool
    private let hasTimes: Bool
    private let digitsMax: Int
    private let noted: [Noted]
    /// None: any four may be there.
    private let fours: FuseFilter?
    private let tokens: FuseFilter?

    /// - Parameter bytes: what `TextColumn.append` gave; none: everything may be inside.
    /// - Throws: `.corrupt`.
    package init(_ bytes: [UInt8]) throws(ObsError) {
        isEmpty = bytes.isEmpty
        var read = (hasTimes: false, digitsMax: 0, noted: [Noted](), fours: FuseFilter?.none, tokens: FuseFilter?.none)
        if !bytes.isEmpty {
            try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in
                let version = try cursor.u8()
                guard version == Self.version else { throw ObsError(.corrupt, "unknown text filter \(version)") }
                let flags = try cursor.u8()
                read.hasTimes = flags & Self.hasTimes != 0
                read.digitsMax = try cursor.count(max: 64)
                for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                    let codes = try cursor.varint()
                    let tagged = try cursor.count(max: Int(UInt32.max))
                    guard let tokens = Noted.Tokens(rawValue: UInt8(tagged & 3)) else { throw ObsError(.corrupt, "unknown tokens of a text filter") }
                    read.noted.append(Noted(codes: codes, longest: tagged >> 2, tokens: tokens))
                }
                if flags & Self.hasFours != 0 { read.fours = try FuseFilter(&cursor) }
                if flags & Self.hasTokens != 0 { read.tokens = try FuseFilter(&cursor) }
                try cursor.expectEnd()
            }
        }
        (hasTimes, digitsMax, noted, fours, tokens) = read
    }

    /// Memory, about.
    package var byteSize: Int { (fours?.byteSize ?? 0) + (tokens?.byteSize ?? 0) + noted.count * 24 + 128 }

    /// False: certainly in no row. For attribute lists: in no value that is a string.
    /// - Parameter ignoringCase: of ASCII letters; the needle is in lower case then.
    package func mayContain(_ needle: [UInt8], ignoringCase: Bool) -> Bool {
        if isEmpty { return true }
        // All is in lower case here: what is not there ignoring case is not there at all.
        return needle.withUnsafeBytes { needle in
            var at = 0
            while at < needle.count {
                let start = at
                while at < needle.count, TextCodes.of(needle[at]) < TextCodes.none { at += 1 }
                if at - start >= 4, !mayHave(run: UnsafeRawBufferPointer(rebasing: needle[start..<at])) { return false }
                if at == start { at += 1 }
            }
            return true
        }
    }

    private func mayHave(run: UnsafeRawBufferPointer) -> Bool {
        if mayBeWhole(run) { return true }
        // Letters, then digits, and nothing else.
        let letters = run.prefix { TextCodes.of($0) >= 10 }.count
        guard letters > 0, letters < run.count, run[letters...].allSatisfy({ TextCodes.of($0) < 10 }) else { return false }
        return mayBeWhole(UnsafeRawBufferPointer(rebasing: run[..<letters])) && mayBeWhole(UnsafeRawBufferPointer(rebasing: run[letters...]))
    }

    /// Whether it may be within one piece.
    private func mayBeWhole(_ run: UnsafeRawBufferPointer) -> Bool {
        guard run.count >= 4, let fours else { return true }
        var codes: UInt64 = 0
        for byte in run { codes |= 1 << UInt64(TextCodes.of(byte)) }
        let digits: UInt64 = 0x3ff
        if codes & ~digits == 0, run.count <= digitsMax { return true }
        if hasTimes, codes & ~TextCodes.ofTimes == 0 { return true }
        for column in noted where codes & ~column.codes == 0 && run.count <= column.longest {
            if mayBe(run, in: column) { return true }
        }
        for start in 0...run.count - 4 where !fours.mayContain(UInt64(TextCodes.four(run, start))) { return false }
        return true
    }
}

extension TextFilter {
    private func mayBe(_ run: UnsafeRawBufferPointer, in column: Noted) -> Bool {
        guard let tokens else { return true }
        switch column.tokens {
        case .none: return true
        case .whole: return run.count < column.longest || tokens.mayContain(TextCodes.hash(run))
        case .windows:
            // Wherever in the column's run it begins, the windows within it must all be there.
            let firsts = run.count == column.longest ? Self.firstWindow..<Self.firstWindow + 1 : 0..<Self.windowStep
            return firsts.contains { first in
                stride(from: first, through: run.count - Self.windowBytes, by: Self.windowStep).allSatisfy {
                    tokens.mayContain(TextCodes.hash(UnsafeRawBufferPointer(rebasing: run[$0..<$0 + Self.windowBytes])))
                }
            }
        }
    }
}

/// Letters and digits as small numbers.
enum TextCodes {
    /// What is neither.
    static let none: UInt8 = 36
    /// Sequences of four.
    static let fours = 36 * 36 * 36 * 36

    /// Of the digits, T and Z.
    static let ofTimes: UInt64 = 0x3ff | 1 << 29 | 1 << 35

    /// Made once, never written again.
    private nonisolated(unsafe) static let table: UnsafePointer<UInt8> = {
        let table = UnsafeMutablePointer<UInt8>.allocate(capacity: 256)
        for byte in 0..<256 {
            switch lowerCased(UInt8(byte)) {
            case let digit where digit &- UInt8(ascii: "0") < 10: table[byte] = digit - UInt8(ascii: "0")
            case let letter where letter &- UInt8(ascii: "a") < 26: table[byte] = letter - UInt8(ascii: "a") + 10
            default: table[byte] = none
            }
        }
        return UnsafePointer(table)
    }()

    @inline(__always)
    static func of(_ byte: UInt8) -> UInt8 { table[Int(byte)] }

    @inline(__always)
    static func four(_ run: UnsafeRawBufferPointer, _ at: Int) -> UInt32 {
        ((UInt32(of(run[at])) &* 36 &+ UInt32(of(run[at &+ 1]))) &* 36 &+ UInt32(of(run[at &+ 2]))) &* 36 &+ UInt32(of(run[at &+ 3]))
    }

    /// Of a run in lower case.
    static func hash(_ run: UnsafeRawBufferPointer) -> UInt64 {
        withUnsafeTemporaryAllocation(byteCount: run.count, alignment: 1) { lower in
            for index in 0..<run.count { lower[index] = lowerCased(run[index]) }
            return hash64(UnsafeRawBufferPointer(lower))
        }
    }
}
