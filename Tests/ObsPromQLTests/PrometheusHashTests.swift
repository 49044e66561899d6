import ObsCore
import XCTest

@testable import ObsPromQL

final class PrometheusHashTests: XCTestCase {
    /// Values of the reference implementation of XXH64, seed 0.
    func testKnownHashes() {
        func hash(_ bytes: [UInt8]) -> UInt64 { bytes.withUnsafeBytes { xxHash64($0) } }
        XCTAssertEqual(hash([]), 0xef46_db37_51d8_e999)
        XCTAssertEqual(hash(Array("abc".utf8)), 0x44bc_2cf5_ad77_0999)
        XCTAssertEqual(hash(Array(0..<45)), 0x10fd_d84d_6409_abdf)
        XCTAssertEqual(hash(Array(0..<100)), 0x6ac1_e580_3216_6597)
    }

    func testLengthsOfLabels() {
        let long = String(repeating: "x", count: 300)
        let bytes: [UInt8] = [1, 97, 255, 44, 1, 0] + Array(long.utf8)
        XCTAssertEqual(prometheusHash(Labels([("a", long)])), bytes.withUnsafeBytes { xxHash64($0) })
    }
}
