import ObsCore
import XCTest

final class SystemMemoryTests: XCTestCase {
    private let gibi = 1 << 30
    private let machine = "MemTotal:       16777216 kB\nMemFree:          100000 kB\n"

    private func limit(_ files: [String: String]) -> Int? { SystemMemory.cgroupLimitBytes { files[$0] } }

    func testVersion2TakesTheLeastOfAllLevels() {
        let group = ["/proc/self/cgroup": "0::/system.slice/obsd.service\n"]
        let none = ["/sys/fs/cgroup/system.slice/obsd.service/memory.max": "max\n"]
        XCTAssertNil(limit(group))
        XCTAssertNil(limit(group.merging(none) { $1 }))
        let slice = none.merging(["/sys/fs/cgroup/system.slice/memory.max": "1073741824\n"]) { $1 }
        XCTAssertEqual(limit(group.merging(slice) { $1 }), gibi)
        let own = slice.merging(["/sys/fs/cgroup/system.slice/obsd.service/memory.max": "536870912\n"]) { $1 }
        XCTAssertEqual(limit(group.merging(own) { $1 }), gibi / 2)
        // A limit of the parent holds for the child that has a higher one.
        let higher = slice.merging(["/sys/fs/cgroup/system.slice/obsd.service/memory.max": "8589934592\n"]) { $1 }
        XCTAssertEqual(limit(group.merging(higher) { $1 }), gibi)
    }

    func testContainersSeeTheirOwnRoot() {
        XCTAssertEqual(limit(["/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "268435456\n"]), 256 << 20)
        // The path is one of the host's, which is not there.
        XCTAssertEqual(limit(["/proc/self/cgroup": "0::/../../docker/abc\n", "/sys/fs/cgroup/memory.max": "268435456\n"]), 256 << 20)
    }

    func testVersion1() {
        let group = "12:cpu,cpuacct:/a\n5:hugetlb,memory:/docker/abc\n1:name=systemd:/x\n0::/y\n"
        let files = [
            "/proc/self/cgroup": group, "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "536870912\n",
        ]
        XCTAssertEqual(limit(files), gibi / 2)
        XCTAssertNil(limit(files.filter { !$0.key.contains("abc") }))
    }

    func testNonsenseIsNoLimit() {
        for text in ["", "\n", "max", "-1", "0", "abc", "99999999999999999999999"] {
            XCTAssertNil(limit(["/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": text]), text)
        }
        for group in ["", "garbage", "0:", "::::", "0::"] {
            XCTAssertNil(limit(["/proc/self/cgroup": group]), group)
        }
    }

    func testDefaultCeiling() {
        func ceiling(_ files: [String: String]) -> Int { SystemMemory.defaultCeilingBytes { files[$0] } }
        XCTAssertEqual(ceiling(["/proc/meminfo": machine]), 4 * gibi)
        XCTAssertEqual(ceiling(["/proc/meminfo": "MemTotal: 2000000 kB\n"]), 1_228_800_000)
        XCTAssertEqual(
            ceiling(["/proc/meminfo": machine, "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "1000000000\n"]), 600_000_000)
        // A limit above the machine's memory limits nothing.
        XCTAssertEqual(
            ceiling(["/proc/meminfo": "MemTotal: 2000000 kB\n", "/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "100000000000\n"]), 1_228_800_000)
        XCTAssertEqual(ceiling(["/proc/meminfo": "MemTotal: 65536 kB\n"]), MemoryShares.ceilingBytesMin)
        XCTAssertEqual(ceiling([:]), gibi)
        XCTAssertGreaterThanOrEqual(SystemMemory.defaultCeilingBytes(), MemoryShares.ceilingBytesMin)
    }
}
