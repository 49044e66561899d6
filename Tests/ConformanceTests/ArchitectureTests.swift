import Foundation
import XCTest

/// The page that newcomers read first must not lie about where things are.
final class ArchitectureTests: XCTestCase {
    private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    func testEveryFileNamedOnThePageExists() throws {
        let page = try String(contentsOf: root.appendingPathComponent("docs/ARCHITECTURE.md"), encoding: .utf8)
        let named = page.split(separator: "`").filter { $0.contains("/") && !$0.contains(" ") && !$0.contains("\n") }
        XCTAssertGreaterThan(named.count, 30)
        for path in Set(named) where !path.hasPrefix("/") {
            XCTAssertTrue(
                FileManager.default.fileExists(atPath: root.appendingPathComponent(String(path)).path),
                "\(path) is named in docs/ARCHITECTURE.md and is not there")
        }
    }
}
