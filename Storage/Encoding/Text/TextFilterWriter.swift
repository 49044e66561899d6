internal import ObsCore
internal import ObsHash

/// Collects what a `TextFilter` is made of, while a column is written.
final class TextFilterWriter {
    /// Columns with more fours are noted.
    private static let foursOfColumnMax = 3072
    private static let foursMax = 8192
    /// Past this there is no filter of fours: static bytes cannot be noted.
    private static let foursOfAllMax = 1 << 16
    /// Runs that are shorter are not worth a place among the tokens.
    private static let tokenBytesMin = 8
    private static let digitTokenBytesMin = 12

    private let tokensMax: Int
    private var seen = [UInt64](repeating: 0, count: TextCodes.fours / 64 + 1)
    private var fours: [UInt32] = []
    private var noted: [(column: TextFilter.Noted, tokens: [UInt64])] = []
    private var digitsMax = 0
    private var hasTimes = false

    /// - Parameter rows: of the column: tokens are kept in proportion.
    init(rows: Int) { tokensMax = max(rows, 64) * 2 }

    /// Static bytes, or a text that is in all rows.
    func vocabulary(_ text: UnsafeRawBufferPointer) {
        var length = 0
        var four: UInt32 = 0
        seen.withUnsafeMutableBufferPointer { seen in
            for byte in text {
                let code = TextCodes.of(byte)
                guard code < TextCodes.none else {
                    length = 0
                    four = 0
                    continue
                }
                length &+= 1
                four = (four % (36 * 36 * 36)) &* 36 &+ UInt32(code)
                guard length >= 4 else { continue }
                let (word, bit) = (Int(four >> 6), UInt64(1) << UInt64(four & 63))
                if seen[word] & bit == 0 {
                    seen[word] |= bit
                    fours.append(four)
                }
            }
        }
    }

    private struct Runs {
        var codes: UInt64 = 0
        var longest = 0
    }

    /// Texts as they came, all different or not.
    func plain(_ texts: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes) {
        let before = fours.count
        var words = Runs()
        var numbers = Runs()
        var isNoted = false
        eachRun(texts, bytes) { run in
            var codes: UInt64 = 0
            for byte in run { codes |= 1 << UInt64(TextCodes.of(byte)) }
            // Runs of digits are mostly all different.
            if codes & ~0x3ff == 0 {
                numbers.codes |= codes
                numbers.longest = max(numbers.longest, run.count)
            } else {
                words.codes |= codes
                words.longest = max(words.longest, run.count)
                if isNoted { return }
                vocabulary(run)
                isNoted = fours.count - before > Self.foursOfColumnMax || fours.count > Self.foursMax
            }
        }
        if numbers.longest > digitsMax { note(numbers, texts, bytes) }
        guard isNoted else { return }
        for four in fours[before...] { seen[Int(four >> 6)] &= ~(1 << UInt64(four & 63)) }
        fours.removeLast(fours.count - before)
        note(words, texts, bytes)
    }

    private func note(_ runs: Runs, _ texts: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes) {
        var column = TextFilter.Noted(codes: runs.codes, longest: runs.longest, tokens: .none)
        var tokens: [UInt64] = []
        if Self.mayBeIdentifiers(runs) {
            column.tokens = TextFilter.windowedBytes.contains(runs.longest) ? .windows : .whole
            tokens.reserveCapacity(texts.count)
            eachRun(texts, bytes) { run in
                if column.tokens == .windows { windows(run, &tokens) } else if run.count == runs.longest { tokens.append(TextCodes.hash(run)) }
            }
        }
        noted.append((column, tokens))
    }

    /// Drops tokens that answer nothing since they may be in another column too, and those of columns that have too many.
    private func chooseTokens() {
        while true {
            for index in noted.indices where noted[index].column.tokens != .none {
                let column = noted[index].column
                let isHidden = noted.contains { other in
                    other.column.codes & column.codes == column.codes && other.column.longest > column.longest
                        && (other.column.tokens != .windows || column.longest < TextFilter.windowBytes + TextFilter.windowStep - 1)
                }
                if isHidden { drop(index) }
            }
            guard noted.reduce(0, { $0 + $1.tokens.count }) > tokensMax,
                let most = noted.indices.max(by: { noted[$0].tokens.count < noted[$1].tokens.count })
            else { return }
            drop(most)
        }
    }

    private func drop(_ index: Int) {
        noted[index].column.tokens = .none
        noted[index].tokens = []
    }

    /// Worth a place among the tokens: not times, or numbers too short to be anyone's name.
    private static func mayBeIdentifiers(_ runs: Runs) -> Bool {
        if runs.codes & ~0x3ff == 0 { return runs.longest >= digitTokenBytesMin }
        return runs.longest >= tokenBytesMin && runs.codes & ~TextCodes.ofTimes != 0
    }

    private func windows(_ run: UnsafeRawBufferPointer, _ tokens: inout [UInt64]) {
        for start in stride(from: TextFilter.firstWindow, through: run.count - TextFilter.windowBytes, by: TextFilter.windowStep) {
            tokens.append(TextCodes.hash(UnsafeRawBufferPointer(rebasing: run[start..<start + TextFilter.windowBytes])))
        }
    }

    private func eachRun(_ texts: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes, _ body: (UnsafeRawBufferPointer) -> Void) {
        for range in texts {
            let text = bytes.text(range)
            var at = 0
            while at < text.count {
                let start = at
                while at < text.count, TextCodes.of(text[at]) < TextCodes.none { at += 1 }
                if at > start { body(UnsafeRawBufferPointer(rebasing: text[start..<at])) } else { at += 1 }
            }
        }
    }

    /// Texts of hexadecimal digits.
    func hex(_ texts: UnsafeBufferPointer<ByteRange>, _ format: HexText, _ bytes: TextBytes) {
        let runs = Runs(codes: 0xffff, longest: format.digits)
        // A run each, so that nothing is looked for; small letters are hashed as they are.
        guard !format.isUpper, Self.mayBeIdentifiers(runs) else { return note(runs, texts, bytes) }
        let isWindowed = TextFilter.windowedBytes.contains(format.digits)
        var tokens: [UInt64] = []
        tokens.reserveCapacity(texts.count)
        for range in texts {
            let text = bytes.text(range)
            guard isWindowed else {
                tokens.append(hash64(text))
                continue
            }
            for start in stride(from: TextFilter.firstWindow, through: text.count - TextFilter.windowBytes, by: TextFilter.windowStep) {
                tokens.append(hash64(UnsafeRawBufferPointer(rebasing: text[start..<start + TextFilter.windowBytes])))
            }
        }
        noted.append((TextFilter.Noted(codes: runs.codes, longest: runs.longest, tokens: isWindowed ? .windows : .whole), tokens))
    }

    /// - Parameter digits: of each, at least.
    func numbers(_ numbers: UnsafeBufferPointer<Int64>, digits: Int) {
        var all: UInt64 = 0
        for number in numbers { all |= number.magnitude }
        // Up to the next power of two all may occur.
        digitsMax = max(digitsMax, digits, digitCount(all == 0 ? 0 : .max >> UInt64(all.leadingZeroBitCount)))
    }

    func times(digits: Int) {
        hasTimes = true
        digitsMax = max(digitsMax, digits, 4)
    }

    consuming func finish() -> [UInt8] {
        chooseTokens()
        let columns = Set(noted.map(\.column))
        let tokens = noted.flatMap(\.tokens)
        var output = [TextFilter.version, hasTimes ? TextFilter.hasTimes : 0]
        output.appendVarint(UInt64(digitsMax))
        output.appendVarint(UInt64(columns.count))
        for column in columns.sorted(by: { ($0.codes, $0.longest, $0.tokens.rawValue) < ($1.codes, $1.longest, $1.tokens.rawValue) }) {
            output.appendVarint(column.codes)
            output.appendVarint(UInt64(column.longest) << 2 | UInt64(column.tokens.rawValue))
        }
        if fours.count <= Self.foursOfAllMax, FuseFilter.append(fours.map(UInt64.init), to: &output) { output[1] |= TextFilter.hasFours }
        // Without fours no answer gets as far as the tokens.
        if output[1] & TextFilter.hasFours != 0, !tokens.isEmpty, FuseFilter.append(tokens, to: &output) { output[1] |= TextFilter.hasTokens }
        return output
    }
}
