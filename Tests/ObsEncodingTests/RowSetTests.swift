import ObsTestSupport
import XCTest

@testable import ObsEncoding

final class RowSetTests: XCTestCase {
    func testAgainstSets() {
        var random = SplitMix(state: 4)
        for count in [0, 1, 63, 64, 65, 128, 1000] {
            var pairs: [(RowSet, Set<Int>)] = []
            for _ in 0..<4 {
                var rows = RowSet(count: count)
                var right = Set<Int>()
                for _ in 0..<6 where count > 0 {
                    let (a, b) = (Int(random.next() % UInt64(count + 1)), Int(random.next() % UInt64(count + 1)))
                    rows.insert(min(a, b)..<max(a, b))
                    right.formUnion(min(a, b)..<max(a, b))
                    let out = Int(random.next() % UInt64(count))
                    rows.remove(out)
                    right.remove(out)
                }
                XCTAssertEqual(rows.rows, right.sorted())
                XCTAssertEqual(rows.population, right.count)
                XCTAssertEqual(rows.isEmpty, right.isEmpty)
                XCTAssertEqual(rows.isAll, right.count == count)
                pairs.append((rows, right))
            }
            for (a, x) in pairs {
                for (b, y) in pairs {
                    XCTAssertEqual(a.union(b).rows, x.union(y).sorted())
                    XCTAssertEqual(a.intersection(b).rows, x.intersection(y).sorted())
                    XCTAssertEqual(a.subtracting(b).rows, x.subtracting(y).sorted())
                }
            }
            XCTAssertEqual(RowSet(all: count).rows, Array(0..<count))
            XCTAssertTrue((0..<count).allSatisfy { RowSet(all: count).contains($0) })
        }
    }
}
