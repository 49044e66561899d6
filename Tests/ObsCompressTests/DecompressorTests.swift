import ObsCompress
import ObsCore
import XCTest

final class DecompressorTests: XCTestCase {
    private let text = [UInt8](String(repeating: "the quick brown fox jumps over the lazy dog; ", count: 500).utf8)

    private func zstd(_ bytes: [UInt8]) -> [UInt8] { zstdCompress(bytes, level: 3) }

    private func assertFails(_ body: [UInt8], _ compression: BodyCompression, bytesMax: Int = 1 << 20, _ code: ObsError.Code, line: UInt = #line) {
        XCTAssertThrowsError(try decompress(body, compression, decodedBytesMax: bytesMax), line: line) {
            XCTAssertEqual(($0 as? ObsError)?.code, code, "\($0)", line: line)
        }
    }

    func testEveryCompressionGivesTheBytesBack() throws {
        for bytes in [[], [7], text, [UInt8](repeating: 0, count: 300_000)] {
            let bodies: [(BodyCompression, [UInt8])] = [
                (.none, bytes), (.gzip, gzipCompress(bytes)), (.deflate, deflateCompress(bytes)), (.zstd, zstd(bytes)), (.snappy, snappyCompress(bytes)),
            ]
            for (compression, body) in bodies {
                XCTAssertEqual(try decompress(body, compression, decodedBytesMax: 300_000), bytes, "\(compression) of \(bytes.count)")
            }
        }
    }

    func testDeflateMayComeWithoutItsZlibHeader() throws {
        let zlib = deflateCompress(text)
        XCTAssertEqual(try decompress(Array(zlib.dropFirst(2).dropLast(4)), .deflate, decodedBytesMax: 1 << 20), text)
    }

    func testGzipOfSeveralMembersAndPadding() throws {
        let body = gzipCompress(text) + gzipCompress([]) + gzipCompress([1, 2, 3])
        XCTAssertEqual(try decompress(body, .gzip, decodedBytesMax: 1 << 20), text + [1, 2, 3])
        XCTAssertEqual(try decompress(body + [0, 0, 0], .gzip, decodedBytesMax: 1 << 20), text + [1, 2, 3])
        assertFails(body + [9], .gzip, .badInput)
    }

    /// What `printf hello | zstd --no-check` gives: no content size in the frame.
    private let helloWithoutSize: [UInt8] = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x29, 0x00, 0x00] + Array("hello".utf8)

    func testZstdWithoutSizeAndOfSeveralFrames() throws {
        XCTAssertEqual(try decompress(helloWithoutSize, .zstd, decodedBytesMax: 5), Array("hello".utf8))
        XCTAssertEqual(try decompress(zstd(text) + helloWithoutSize + zstd([1]), .zstd, decodedBytesMax: 1 << 20), text + Array("hello".utf8) + [1])
        let skippable: [UInt8] = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9]
        XCTAssertEqual(try decompress(skippable + zstd(text), .zstd, decodedBytesMax: 1 << 20), text)
    }

    func testTheBoundHoldsToTheByte() throws {
        for (compression, body) in [
            (.none, text), (.gzip, gzipCompress(text)), (.deflate, deflateCompress(text)), (.zstd, zstd(text)), (.snappy, snappyCompress(text)),
            (.zstd, zstd(Array(text.dropLast(5))) + helloWithoutSize),
        ] as [(BodyCompression, [UInt8])] {
            XCTAssertEqual(try decompress(body, compression, decodedBytesMax: text.count).count, text.count)
            assertFails(body, compression, bytesMax: text.count - 1, .tooLarge)
        }
    }

    func testBombsAreRefused() {
        let zeros = [UInt8](repeating: 0, count: 64 << 20)
        for (compression, body) in [(.gzip, gzipCompress(zeros, level: 9)), (.zstd, zstd(zeros)), (.snappy, snappyCompress(zeros))]
            as [(BodyCompression, [UInt8])]
        {
            assertFails(body, compression, bytesMax: 1 << 20, .tooLarge)
        }
        // Four bytes that declare 200 MB: refused before they are believed.
        assertFails([0x80, 0x80, 0x90, 0x60], .snappy, bytesMax: 1 << 30, .badInput)
    }

    func testGarbageAndEveryTruncation() {
        for compression in [BodyCompression.gzip, .zstd, .snappy] {
            assertFails(Array("not compressed at all".utf8), compression, .badInput)
        }
        let short = Array(text.prefix(300))
        for (compression, body) in [
            (.gzip, gzipCompress(short)), (.deflate, deflateCompress(short)), (.zstd, zstd(short)), (.zstd, helloWithoutSize), (.snappy, snappyCompress(short)),
        ] as [(BodyCompression, [UInt8])] {
            for length in 0..<body.count { assertFails(Array(body.prefix(length)), compression, .badInput) }
        }
    }

    func testMutationsDoNotCrash() {
        var random = SystemRandomNumberGenerator()
        let seed = UInt64.random(in: 0...UInt64.max, using: &random)
        var state = seed
        func next() -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33)
        }
        for (compression, body) in [
            (.gzip, gzipCompress(text)), (.deflate, deflateCompress(text)), (.zstd, zstd(text)), (.snappy, snappyCompress(text)),
        ] as [(BodyCompression, [UInt8])] {
            for _ in 0..<300 {
                var mutated = body
                for _ in 0...next() % 3 { mutated[next() % mutated.count] = UInt8(truncatingIfNeeded: next()) }
                let result = try? decompress(mutated, compression, decodedBytesMax: 1 << 20)
                XCTAssertLessThanOrEqual(result?.count ?? 0, 1 << 20, "seed \(seed)")
            }
        }
    }

    func testContentEncodingNames() throws {
        let cases: [(String?, BodyCompression)] = [
            (nil, .none), ("", .none), ("identity", .none), ("gzip", .gzip), (" GZIP ", .gzip), ("x-gzip", .gzip), ("deflate", .deflate), ("zstd", .zstd),
            ("snappy", .snappy),
        ]
        for (name, expected) in cases { XCTAssertEqual(try bodyCompression(contentEncoding: name), expected) }
        for name in ["br", "gzip, zstd", "compress"] {
            XCTAssertThrowsError(try bodyCompression(contentEncoding: name)) { XCTAssertEqual(($0 as? ObsError)?.code, .unsupportedType) }
        }
    }
}

final class ZstdContextTests: XCTestCase {
    func testIntoTheCallersBuffer() throws {
        let context = ZstdContext()
        let bytes = [UInt8](repeating: 5, count: 10_000)
        var packed = [UInt8](repeating: 0, count: ZstdContext.bound(bytes.count))
        let written = bytes.withUnsafeBytes { from in packed.withUnsafeMutableBytes { context.compress(from, into: $0, level: 1) } }
        let count = try XCTUnwrap(written)
        var unpacked = [UInt8](repeating: 0, count: bytes.count)
        let read = packed.withUnsafeBytes { from in
            unpacked.withUnsafeMutableBytes { context.decompress(UnsafeRawBufferPointer(rebasing: from[..<count]), into: $0) }
        }
        XCTAssertEqual(read, bytes.count)
        XCTAssertEqual(unpacked, bytes)
        let tooSmall = bytes.withUnsafeBytes { from in packed.withUnsafeMutableBytes { context.compress(from, into: .init(rebasing: $0[..<4]), level: 1) } }
        XCTAssertNil(tooSmall)
    }

    func testExactSizes() throws {
        let packed = zstdCompress([1, 2, 3], level: 3)
        XCTAssertEqual(try zstdDecompress(packed, exactly: 3), [1, 2, 3])
        XCTAssertThrowsError(try zstdDecompress(packed, exactly: 2))
        XCTAssertThrowsError(try zstdDecompress(packed, exactly: 4))
        XCTAssertEqual(try zstdDecompress(zstdCompress([], level: 3), exactly: 0), [])
    }
}
