import ObsCore
import ObsStore
import ObsTraceQL
import XCTest

final class SpanSelectorTests: XCTestCase {
    func testSelectors() throws {
        let id = String(repeating: "0", count: 30) + "ab"
        for (text, wanted) in [
            ("{}", []), (#"{ resource.service.name = "cart" }"#, ["service equal cart"]), (#"{.service.name="cart"}"#, ["service equal cart"]),
            (#"{ name =~ "get.*" && resource.service.name != "shop" }"#, ["name matches get.*", "service notEqual shop"]),
            (#"{ trace:id = "AB" && name !~ "x|y" }"#, ["trace_id equal \(id)", "name matchesNot x|y"]),
        ] {
            XCTAssertEqual(try parseSpanSelector(text).map { "\($0.name) \($0.operation) \($0.value)" }, wanted, text)
        }
    }

    func testRefusals() {
        for text in [
            "", "{", #"{ kind = server }"#, #"{ span.service.name = "x" }"#, #"{ name = "a" || name = "b" }"#, #"{ name = "a" } | count() > 1"#,
            #"{ name = "a" } && { name = "b" }"#, #"{ trace:id = "xyz" }"#, #"{ duration > 1s }"#, #"{ parent.resource.service.name = "x" }"#, #"{ name = 5 }"#,
        ] {
            XCTAssertThrowsError(try parseSpanSelector(text), text) { XCTAssertEqual(($0 as? ObsError)?.code, .badInput) }
        }
    }
}
