import Foundation
import XCTest

/// Every input the fuzzer found worth keeping, and every one that once brought a decoder down, goes through its target.
final class RegressionTests: XCTestCase {
    private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()

    private func inputs(_ kind: String, _ target: String) throws -> [URL] {
        let folder = Self.folder.appendingPathComponent("\(kind)/\(target)")
        guard FileManager.default.fileExists(atPath: folder.path) else { return [] }
        return try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil).sorted { $0.path < $1.path }
    }

    private func run(_ targets: [FuzzTarget]) throws {
        for target in targets {
            let corpus = try inputs("corpus", target.name)
            XCTAssertFalse(corpus.isEmpty, "\(target.name) has no corpus")
            for file in try corpus + inputs("crashes", target.name) { target.run(Array(try Data(contentsOf: file))) }
            for short in [[], [0], [0xff], [UInt8](repeating: 0xff, count: 64), [UInt8](repeating: 0, count: 64)] { target.run(short) }
        }
    }

    func testDisk() throws { try run(diskTargets) }
    func testColumns() throws { try run(columnTargets) }
    func testWire() throws { try run(wireTargets) }
    func testLanguages() throws { try run(languageTargets) }
    func testNet() throws { try run(netTargets) }

    /// A folder without a target would be inputs nobody runs.
    func testFoldersAreTargets() throws {
        for kind in ["corpus", "crashes"] {
            for name in (try? FileManager.default.contentsOfDirectory(atPath: Self.folder.appendingPathComponent(kind).path)) ?? [] where !name.hasPrefix(".") {
                XCTAssertNotNil(FuzzTarget.named(name), "\(kind)/\(name)")
            }
        }
    }
}
