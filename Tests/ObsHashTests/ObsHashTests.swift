import ObsHash
import XCTest

final class DigestTests: XCTestCase {
    /// Test vectors of RFC 3174, FIPS 180-2 and RFC 1321 for "abc".
    func testKnownAnswers() {
        func hex(_ bytes: [UInt8]) -> String { bytes.map { String(format: "%02x", $0) }.joined() }
        XCTAssertEqual(hex(Digest.sha1.hash("abc".utf8)), "a9993e364706816aba3e25717850c26c9cd0d89d")
        XCTAssertEqual(hex(Digest.sha256.hash("abc".utf8)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        XCTAssertEqual(hex(Digest.md5.hash("abc".utf8)), "900150983cd24fb0d6963f7d28e17f72")
        XCTAssertEqual(hex(Digest.md5.hash([])), "d41d8cd98f00b204e9800998ecf8427e")
    }

    /// RFC 3720 appendix B.4, and the check value of the polynomial.
    func testCRC32C() {
        XCTAssertEqual(crc32c("123456789".utf8), 0xe306_9283)
        XCTAssertEqual(crc32c([UInt8](repeating: 0, count: 32)), 0x8a91_36aa)
        XCTAssertEqual(crc32c([UInt8](repeating: 0xff, count: 32)), 0x62a8_ab43)
        XCTAssertEqual(crc32c([]), 0)
    }

    func testKeyedHashesDifferByKey() {
        Array("label bytes".utf8).withUnsafeBytes { bytes in
            XCTAssertEqual(hash128(bytes, key: 1), hash128(bytes, key: 1))
            XCTAssertNotEqual(hash128(bytes, key: 1), hash128(bytes, key: 2))
        }
    }
}
