import ObsCore
import XCTest

final class LabelsTests: XCTestCase {
    func testCanonicalFormSortsAndDropsEmptyValues() {
        let labels = Labels([("b", "2"), ("a", "1"), ("c", "")])
        XCTAssertEqual(labels.description, #"{a="1", b="2"}"#)
        XCTAssertEqual(labels, Labels([("a", "1"), ("b", "2")]))
        XCTAssertEqual(labels["b"], "2")
        XCTAssertNil(labels["c"])
    }

    func testOrderIsBytewisePairByPair() {
        let sets = [[], [("a", "1")], [("a", "1"), ("b", "1")], [("a", "2")], [("é", "1")]].map { Labels($0) }
        for (i, x) in sets.enumerated() {
            for (j, y) in sets.enumerated() { XCTAssertEqual(x < y, i < j, "\(x) \(y)") }
        }
    }
}
