import Foundation
import ObsCore
import ObsEncoding
import XCTest

/// Encode, decode, compare; then damage the bytes, which must end in an error or in values, never in a crash.
final class CodecTests: XCTestCase {
    private var random = SystemLikeRandom(seed: 42)

    /// Decodes damaged copies; only that it returns matters.
    private func damage(_ bytes: [UInt8], _ decode: (inout ByteCursor) throws(ObsError) -> Void) {
        for _ in 0..<50 where !bytes.isEmpty {
            var copy = bytes
            switch random.below(3) {
            case 0: copy[random.below(copy.count)] = UInt8(truncatingIfNeeded: random.next())
            case 1: copy.removeLast(1 + random.below(copy.count))
            default: copy.insert(UInt8(truncatingIfNeeded: random.next()), at: random.below(copy.count))
            }
            _ = try? decoding(copy, decode)
        }
    }

    private func checkIntegers(_ values: [Int64], bytesMax: Int? = nil, line: UInt = #line) throws {
        var bytes: [UInt8] = []
        IntegerCodec.append(values, to: &bytes)
        let back = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> [Int64] in
            let values = try IntegerCodec.decode(&cursor, count: values.count)
            try cursor.expectEnd()
            return values
        }
        XCTAssertEqual(back, values, line: line)
        if let bytesMax { XCTAssertLessThanOrEqual(bytes.count, bytesMax, line: line) }
        damage(bytes) { (cursor: inout ByteCursor) throws(ObsError) in _ = try IntegerCodec.decode(&cursor, count: values.count) }
    }

    func testIntegers() throws {
        try checkIntegers([], bytesMax: 0)
        try checkIntegers([0], bytesMax: 2)
        try checkIntegers([.min])
        try checkIntegers([.min, .max])
        try checkIntegers([.max, .min, .max, 0, -1, 1, .min])
        try checkIntegers([0, .min, 0, .max])
        try checkIntegers([Int64](repeating: 7, count: 10_000), bytesMax: 2)
        try checkIntegers((0..<10_000).map { $0 }, bytesMax: 10)
        try checkIntegers((0..<1000).map { 1_700_000_000_000 + $0 * 15_000 }, bytesMax: 20)
        try checkIntegers((0..<1000).map { 1_700_000_000_000_000_000 + $0 * $0 * 1_000_000 }, bytesMax: 2020)
        try checkIntegers((0..<1000).map { _ in Int64(random.below(200)) }, bytesMax: 1010)
        // The bits above whole bytes are packed when they are four or fewer.
        for (bits, packed) in [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (9, 9), (10, 10), (12, 12), (13, 16), (17, 17), (20, 20), (57, 57), (64, 64)] {
            for count in [999, 1000, 1001] {
                let values = (0..<count).map { _ in Int64(bitPattern: random.next() >> UInt64(64 - bits)) }
                try checkIntegers(values, bytesMax: (count * packed + 7) / 8 + count / 1000 + 24)
            }
        }
        for _ in 0..<100 {
            let width = UInt64(random.below(64))
            try checkIntegers((0..<(1 + random.below(300))).map { _ in Int64(bitPattern: random.next() >> width) })
        }
    }

    func testNarrowIntegers() throws {
        var bytes: [UInt8] = []
        IntegerCodec.append(converting: [UInt64.max, 0, 5], to: &bytes)
        XCTAssertEqual(
            try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in try IntegerCodec.decode(&cursor, count: 3, as: UInt64.self) }, [.max, 0, 5])
        XCTAssertThrowsError(
            try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in try IntegerCodec.decode(&cursor, count: 3, as: UInt8.self) })
    }

    private func checkFloats(_ values: [Double], bytesMax: Int? = nil, line: UInt = #line) throws {
        var bytes: [UInt8] = []
        FloatCodec.append(values, to: &bytes)
        let back = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> [Double] in
            let values = try FloatCodec.decode(&cursor, count: values.count)
            try cursor.expectEnd()
            return values
        }
        XCTAssertEqual(back.map(\.bitPattern), values.map(\.bitPattern), line: line)
        if let bytesMax { XCTAssertLessThanOrEqual(bytes.count, bytesMax, line: line) }
        damage(bytes) { (cursor: inout ByteCursor) throws(ObsError) in _ = try FloatCodec.decode(&cursor, count: values.count) }
    }

    func testFloats() throws {
        let odd: [Double] = [
            0, -0.0, .nan, SpecialValue.stale, SpecialValue.normalNaN, Double(bitPattern: 0x7ff0_0000_0000_0001), .infinity, -.infinity,
            .leastNonzeroMagnitude, .leastNormalMagnitude, .greatestFiniteMagnitude, -.greatestFiniteMagnitude, 9_007_199_254_740_992,
            9_007_199_254_740_992, -9_007_199_254_740_994, 1e15, 1e16, 1e22, 1e-15, 0.1, 0.3, 1.0 / 3,
        ]
        try checkFloats([])
        for value in odd {
            try checkFloats([value])
            try checkFloats([Double](repeating: value, count: 500), bytesMax: 9)
            try checkFloats([value, 1, 2, 3])
            try checkFloats([1, 2, 3, value])
            // Large whole numbers widen the integers; zstd takes the zeros out again.
            let isWide = value.isFinite && value.magnitude >= 1e15 && value.magnitude < 1e300
            try checkFloats((0..<100).map { $0 % 10 == 9 ? value : Double($0) }, bytesMax: isWide ? 710 : 320)
        }
        try checkFloats(odd)
        try checkFloats((0..<1000).map { Double($0 * 3) }, bytesMax: 20)
        try checkFloats((0..<1000).map { Double($0 % 100) / 1000 }, bytesMax: 1020)
        try checkFloats((0..<1000).map { Double($0 % 7) * 0.1 + 0.2 })
        for _ in 0..<100 {
            let kind = random.below(4)
            try checkFloats(
                (0..<(1 + random.below(300))).map { _ in
                    switch kind {
                    case 0: Double(bitPattern: random.next())
                    case 1: Double(random.below(1_000_000)) / 100
                    case 2: random.below(20) == 0 ? SpecialValue.stale : Double(random.below(1000))
                    default: random.below(4) == 0 ? odd[random.below(odd.count)] : Double(random.below(1000)) / 3
                    }
                })
        }
    }

    /// Each form is chosen where it should be.
    func testFormsOfFloats() throws {
        func form(_ values: [Double]) -> UInt8 {
            var bytes: [UInt8] = []
            FloatCodec.append(values, to: &bytes)
            return bytes[0]
        }
        let ramp = (0..<200).map { Double($0) }
        let table: [(String, [Double], UInt8, bytesMax: Int)] = [
            ("constant", ramp.map { _ in 0.1 }, 0, 9), ("counter", ramp.map { $0 * 7 }, 3, 10),
            ("decimals", ramp.map { ($0 * 37).truncatingRemainder(dividingBy: 50) / 100 }, 3, 210),
            ("round and too big", ramp.map { ($0 + 30) * 1e20 }, 3, 20), ("random", ramp.map { _ in Double(random.next() >> 11) * 0x1p-53 + 1 }, 4, 1420),
            ("of two signs", ramp.map { _ in (Double(random.next() >> 11) * 0x1p-53 + 1) * (random.below(2) == 0 ? 1 : -1) }, 4, 1420),
            ("near the one before", ramp.map { 1.0 / 3 + $0 * 0x1p-50 }, 2, 1601), ("bits", ramp.map { _ in Double(bitPattern: random.next()) }, 2, 1601),
        ]
        for (name, values, expected, bytesMax) in table {
            XCTAssertEqual(form(values), expected, name)
            try checkFloats(values, bytesMax: bytesMax)
        }
        // A few stale markers in a counter cost two bytes each, and their bits once.
        try checkFloats(ramp.map { [50, 51, 120, 199].contains($0) ? SpecialValue.stale : $0 * 7 }, bytesMax: 240)
        try checkFloats(ramp.map { $0 < 6 ? SpecialValue.stale : 1_000_000 + $0 }, bytesMax: 230)
    }

    /// Any bits, of kinds from alike to unlike, come back; so do realistic series with what may be among them.
    func testFloatsOfAnyBits() throws {
        for _ in 0..<400 {
            let count = 1 + random.below(150)
            let mask = random.next() & random.next()
            let base = random.next()
            let exponent = random.below(40) - 20
            let kind = random.below(6)
            var value = Double(random.below(1000))
            let values = (0..<count).map { _ -> Double in
                if random.below(40) == 0 {
                    return Double(bitPattern: [SpecialValue.staleBits, 0x7ff8_dead_beef_0001, 1 << 63, 1, 0x7ff0 << 48, random.next()][random.below(6)])
                }
                switch kind {
                case 0: return Double(bitPattern: base & ~mask | random.next() & mask)
                case 1: value += Double(random.below(100))
                case 2: value = (value * 100 + Double(random.below(200)) - 100).rounded() / 100
                case 3: value = Double(random.below(100_000)) * pow(10, Double(exponent))
                case 4: value = Double(random.next() >> 11) * 0x1p-53 - 0.2
                default: value += Double(random.next() >> 40) * 1e-9
                }
                return value
            }
            try checkFloats(values)
        }
    }

    /// Blocks of version 2 have decimals with each exception whole.
    func testFormsNoLongerWritten() throws {
        var bytes: [UInt8] = [1, 2, 2, 1]
        bytes.appendLittleEndian(SpecialValue.staleBits)
        bytes.append(2)
        bytes.appendLittleEndian((-0.0).bitPattern)
        IntegerCodec.append([150, 150, 175, 175, 200], to: &bytes)
        let back = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in try FloatCodec.decode(&cursor, count: 5) }
        XCTAssertEqual(back.map(\.bitPattern), [1.5, SpecialValue.stale, 1.75, -0.0, 2].map(\.bitPattern))
        for exponent in [16, 128, 129, 255] as [UInt8] {
            XCTAssertThrowsError(
                try decoding([1, exponent, 0, 0, 2]) { (cursor: inout ByteCursor) throws(ObsError) in try FloatCodec.decode(&cursor, count: 5) })
        }
    }

    private func checkStrings(_ strings: [[UInt8]], bytesMax: Int? = nil, line: UInt = #line) throws {
        var buffer: [UInt8] = [9, 9]
        let ranges = strings.map { buffer.intern($0) }
        var bytes: [UInt8] = []
        StringColumn.append(ranges, of: buffer, to: &bytes)
        var output: [UInt8] = [1]
        let back = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> [ByteRange] in
            let ranges = try StringColumn.decode(&cursor, count: strings.count, into: &output)
            try cursor.expectEnd()
            return ranges
        }
        XCTAssertEqual(back.map { Array(output[$0.range]) }, strings, line: line)
        if let bytesMax { XCTAssertLessThanOrEqual(bytes.count, bytesMax, line: line) }
        damage(bytes) { (cursor: inout ByteCursor) throws(ObsError) in
            var output: [UInt8] = []
            _ = try StringColumn.decode(&cursor, count: strings.count, into: &output)
        }
    }

    func testStrings() throws {
        try checkStrings([])
        try checkStrings([[]])
        try checkStrings([[0], [], [0, 0], [0xff]])
        try checkStrings([[UInt8]](repeating: Array("same".utf8), count: 1000), bytesMax: 6)
        try checkStrings((0..<1000).map { Array("value \($0 % 3)".utf8) }, bytesMax: 1060)
        try checkStrings((0..<3000).map { Array("value \($0)".utf8) })
        for _ in 0..<50 {
            let distinct = 1 + random.below(50)
            let pool = (0..<distinct).map { _ in random.bytes(random.below(20)) }
            try checkStrings((0..<(1 + random.below(400))).map { _ in pool[random.below(distinct)] })
        }
    }

    func testTraceIDs() throws {
        for distinct in [1, 3, 200] {
            let pool = (0..<distinct).map { $0 == 0 ? TraceID.none : TraceID(high: random.next(), low: random.next()) }
            let ids = (0..<200).map { pool[$0 % distinct] }
            var bytes: [UInt8] = []
            TraceIDColumn.append(ids, to: &bytes)
            XCTAssertEqual(
                try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in try TraceIDColumn.decode(&cursor, count: ids.count) }, ids)
            damage(bytes) { (cursor: inout ByteCursor) throws(ObsError) in _ = try TraceIDColumn.decode(&cursor, count: ids.count) }
        }
    }

    func testFrames() throws {
        for content in [[], [1], [UInt8](repeating: 0, count: 100_000), random.bytes(1000), Array("text text text text text text text".utf8)] {
            var bytes: [UInt8] = []
            try Frame.append(content, level: 1, to: &bytes)
            XCTAssertEqual(try Frame.content(of: bytes), content)
            XCTAssertEqual(
                try decoding(Array(bytes.prefix(Frame.headerBytesMax))) { (cursor: inout ByteCursor) throws(ObsError) in try Frame.length(head: cursor.bytes) },
                bytes.count)
            for offset in bytes.indices.prefix(200) {
                var damaged = bytes
                damaged[offset] ^= 0x10
                XCTAssertThrowsError(try Frame.content(of: damaged)) { XCTAssertEqual(($0 as? ObsError)?.code, .corrupt) }
                XCTAssertThrowsError(try Frame.content(of: Array(bytes.prefix(offset))))
            }
            XCTAssertThrowsError(try Frame.content(of: bytes + [0]))
        }
    }

    func testCursor() throws {
        let bytes: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0x80, 1, 3, 0x61, 0x62, 0x63]
        try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in
            let first = try cursor.u8()
            XCTAssertEqual(first, 1)
            let number = try cursor.u64()
            XCTAssertEqual(number, 0x0908_0706_0504_0302)
            let varint = try cursor.varint()
            XCTAssertEqual(varint, 128)
            let text = try cursor.string()
            XCTAssertEqual(text, "abc")
            try cursor.expectEnd()
        }
        for count in [0, 1, 3, 7] {
            XCTAssertThrowsError(try decoding([UInt8](repeating: 0xff, count: count)) { (cursor: inout ByteCursor) throws(ObsError) in try cursor.u64() })
            XCTAssertThrowsError(try decoding([UInt8](repeating: 0xff, count: count)) { (cursor: inout ByteCursor) throws(ObsError) in try cursor.text() })
        }
        for value in [Int64.min, -1, 0, 1, .max] { XCTAssertEqual(unzigzag(zigzag(value)), value) }
    }

    func testInterner() {
        var interner = ByteInterner()
        let texts = (0..<5000).map { Array("text \($0 % 1700)".utf8) } + [[], [0]]
        var numbers: [[UInt8]: Int] = [:]
        for text in texts {
            let number = interner.intern(text)
            XCTAssertEqual(number, numbers[text] ?? numbers.count)
            numbers[text] = number
            XCTAssertEqual(Array(interner.bytes[interner.range(number)]), text)
        }
        XCTAssertEqual(interner.sortedNumbers().map { Array(interner.bytes[interner.range($0)]) }, numbers.keys.sorted { $0.lexicographicallyPrecedes($1) })
    }
}

/// xorshift64*: the same numbers in every run.
struct SystemLikeRandom {
    private var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_f491_4f6c_dd1d
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }
}
