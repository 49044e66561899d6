import ObsCore
import ObsDisk
import XCTest

final class DiskLayoutTests: XCTestCase {
    private let layout = DiskLayout(root: "/data")

    func testNames() throws {
        let tenant = try TenantID("team-a")
        XCTAssertEqual(layout.wal(.logs, sequence: 0xabc), "/data/wal/logs/0000000000000abc.wal")
        XCTAssertEqual(layout.segment(tenant, .traces, day: 19_723, id: "x1"), "/data/tenants/team-a/traces/2024-01-01/x1.seg")
        XCTAssertEqual(layout.catalog, "/data/index/catalog.sqlite")
        XCTAssertEqual(layout.quarantined("/data/tenants/a/logs/2024-01-01/x.seg"), "/data/quarantine/tenants~a~logs~2024-01-01~x.seg")
    }

    func testNamesBack() {
        XCTAssertEqual(DiskLayout.walSequence("0000000000000abc.wal"), 0xabc)
        XCTAssertEqual(DiskLayout.walSequence("ffffffffffffffff.wal"), .max)
        for name in ["abc.wal", "0000000000000abc.wal.tmp", "+000000000000abc.wal", "0000000000000abg.wal", ".wal", "0000000000000abc"] {
            XCTAssertNil(DiskLayout.walSequence(name), name)
        }
        XCTAssertEqual(DiskLayout.segmentID("a-1.seg"), "a-1")
        for name in [".seg", "a.seg.tmp", "a"] { XCTAssertNil(DiskLayout.segmentID(name), name) }
        XCTAssertTrue(DiskLayout.isTemporary("a.seg.tmp"))
        XCTAssertEqual(DiskLayout.folder(of: "/a/b"), "/a")
        XCTAssertEqual(DiskLayout.folder(of: "/a"), "/")
        XCTAssertEqual(DiskLayout.folder(of: "a"), ".")
        XCTAssertEqual(DiskLayout.name(of: "/a/b"), "b")
    }

    func testEveryDayComesBack() {
        // Int64 nanoseconds reach from 1677 to 2262, milliseconds far beyond.
        for day in [-106_752, -719_529, -1_000_000, -1, 0, 1, 19_723, 106_751, 106_751_991_167, -106_751_991_168] + Array(20_000..<20_400) {
            XCTAssertEqual(DiskLayout.partitionDay(dayName(day)), day, dayName(day))
        }
        for name in ["2024-02-30", "2024-1-01", "2024-01", "2024-01-01x", "", "-", "99999999999999999999-01-01", "9223372036854775807-01-01"] {
            XCTAssertNil(DiskLayout.partitionDay(name), name)
        }
    }
}
