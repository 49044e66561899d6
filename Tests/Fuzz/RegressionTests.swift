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

    /// The files of a target's archive.
    private func corpus(_ target: String) throws -> [Data] {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let tar = Process()
        tar.executableURL = URL(fileURLWithPath: "/bin/tar")
        tar.arguments = ["-xzf", Self.folder.appendingPathComponent("corpus/\(target).tar.gz").path, "-C", folder.path]
        try tar.run()
        tar.waitUntilExit()
        XCTAssertEqual(tar.terminationStatus, 0, target)
        return try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil).sorted { $0.path < $1.path }.map {
            try Data(contentsOf: $0)
        }
    }

    private func run(_ targets: [FuzzTarget]) throws {
        for target in targets {
            let corpus = try corpus(target.name)
            XCTAssertFalse(corpus.isEmpty, "\(target.name) has no corpus")
            for input in try corpus + inputs("crashes", target.name).map({ try Data(contentsOf: $0) }) { target.run(Array(input)) }
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
                XCTAssertNotNil(FuzzTarget.named(name.replacingOccurrences(of: ".tar.gz", with: "")), "\(kind)/\(name)")
            }
        }
    }
}
