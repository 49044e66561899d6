internal import ObsCore
import XCTest

@testable import ObsIndex

final class CatalogTests: XCTestCase {
    private func path() -> String {
        let folder = "/tmp/obs-test-\(UInt64.random(in: .min ... .max))"
        try? FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        addTeardownBlock { try? FileManager.default.removeItem(atPath: folder) }
        return folder + "/catalog.sqlite"
    }

    private func row(_ id: String, names: [String] = ["up", "a\"b\\c\nd", "ü"]) -> CatalogRow {
        CatalogRow(
            path: "tenants/default/metrics/1970-01-01/\(id).seg", id: id, tenant: "default", signal: .metrics, level: 0, day: -1, minTime: .min, maxTime: .max,
            rows: 5, bytes: 7, checksum: .max, walRanges: [1...9, 12...UInt64.max], names: names, services: [])
    }

    func testRowsComeBack() throws {
        let path = path()
        let first = try Catalog.open(path)
        try first.replace(adding: [row("b"), row("a", names: [])])
        XCTAssertEqual(try first.rows(), [row("a", names: []), row("b")])
        try first.replace(removing: [row("a").path], adding: [row("c")])
        XCTAssertEqual(try Catalog.open(path).rows(), [row("b"), row("c")])
    }

    func testUnreadableCatalogueIsMadeAnew() throws {
        let whole = path()
        try Catalog.open(whole).replace(adding: [row("a")])
        let good = try Data(contentsOf: URL(fileURLWithPath: whole))
        for bytes in [Data("no database at all, and longer than the sixteen bytes of a magic".utf8), Data(), good.prefix(good.count / 2)] {
            let path = path()
            try bytes.write(to: URL(fileURLWithPath: path))
            let catalog = try Catalog.open(path)
            _ = try catalog.rows()
            try catalog.replace(adding: [row("x")])
            XCTAssertTrue(try Catalog.open(path).rows().contains(row("x")))
        }
    }

    func testOtherSchemaVersionIsMadeAnew() throws {
        for version in [UInt8(99), 2] {
            let path = path()
            try Catalog.open(path).replace(adding: [row("a")])
            var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
            bytes[63] = version  // user_version, big endian from 60
            try bytes.write(to: URL(fileURLWithPath: path))
            XCTAssertThrowsError(try Catalog.inspect(path)) { XCTAssertTrue("\($0)".contains("version \(version)"), "\($0)") }
            XCTAssertEqual(try Catalog.open(path).rows(), [])
            XCTAssertEqual(try Catalog.inspect(path), [])
        }
    }

    /// SQLite has no checksums: a row may be well-formed and no row of ours.
    func testRowThatIsNone() throws {
        let path = path()
        try Catalog.open(path).replace(adding: [row("a"), row("b")])
        var bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        let name = try XCTUnwrap(bytes.range(of: Data("defaultmetrics".utf8), in: 4096..<bytes.count))
        bytes[name.lowerBound + 7] = UInt8(ascii: "X")
        try bytes.write(to: URL(fileURLWithPath: path))
        let catalog = try Catalog.open(path)
        XCTAssertThrowsError(try catalog.rows())
        XCTAssertEqual(catalog.readableRows(), [])
        catalog.tell(adding: [row("c")])
        XCTAssertEqual(try catalog.rows(), [row("c")])
    }

    func testWithoutAPlaceItIsKeptInMemory() throws {
        let catalog = try Catalog.open("/nowhere/catalog.sqlite")
        catalog.tell(adding: [row("a")])
        XCTAssertEqual(try catalog.rows(), [row("a")])
        XCTAssertThrowsError(try Catalog.inspect("/nowhere/catalog.sqlite")) { XCTAssertEqual(($0 as? ObsError)?.code, .notFound) }
    }

    func testSchemaFileIsWhatRuns() throws {
        let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("../../Storage/Index/schema/sqlite/0001_catalog.sql")
        func words(_ text: String) -> [String] {
            text.split(separator: "\n").map { $0.split(separator: "--", omittingEmptySubsequences: false)[0] }.joined(separator: " ").split(separator: " ").map(
                String.init)
        }
        XCTAssertEqual(words(try String(contentsOf: file, encoding: .utf8)), words(CatalogSchema.statements))
    }
}
