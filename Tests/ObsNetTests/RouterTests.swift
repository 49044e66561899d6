import XCTest

@testable import ObsNet

final class RouterTests: XCTestCase {
    private final class Recorder: HTTPResponder, @unchecked Sendable {
        var response: HTTPResponse?
        func send(_ response: HTTPResponse) { self.response = response }
        func stream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream { fatalError() }
        func upgradeToWebSocket(opened: @escaping @Sendable (any WebSocket) -> Void) { fatalError() }
    }

    private func makeRouter() -> Router {
        var router = Router()
        for (methods, pattern) in [
            (["GET"], "/"), (["GET", "POST"], "/api/v1/query"), (["GET"], "/api/v1/label/:name/values"), (["GET"], "/api/v1/label/special/values"),
            (["POST"], "/api/v1/:anything"), (["DELETE"], "/api/:version/x"), (["GET"], "/files/*path"), (["GET"], "/api/v1/*rest"),
        ] {
            router.add(methods, pattern) { request, responder in
                let parameters = request.pathParameters.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
                responder.send(.text(200, pattern + parameters))
            }
        }
        return router
    }

    private func dispatch(_ method: String, _ rawPath: String) -> HTTPResponse {
        let recorder = Recorder()
        makeRouter().dispatch(HTTPRequest(method: method, path: percentDecode(rawPath.utf8), rawPath: rawPath), recorder)
        return recorder.response ?? HTTPResponse(status: 0)
    }

    func testRoutes() {
        func check(_ method: String, _ path: String, _ expected: String, line: UInt = #line) {
            let response = dispatch(method, path)
            XCTAssertEqual(response.status, 200, path, line: line)
            XCTAssertEqual(String(decoding: response.body, as: UTF8.self), expected, line: line)
        }
        check("GET", "/", "/")
        check("GET", "/api/v1/query", "/api/v1/query")
        check("POST", "/api/v1/query/", "/api/v1/query")
        check("HEAD", "/api/v1/query", "/api/v1/query")
        check("GET", "/api/v1/label/job/values", "/api/v1/label/:name/values name=job")
        check("GET", "/api/v1/label/special/values", "/api/v1/label/special/values")
        check("GET", "/api/v1/label/a%2Fb%20c%25/values", "/api/v1/label/:name/values name=a/b c%")
        check("POST", "/api/v1/other", "/api/v1/:anything anything=other")
        check("GET", "/api/v1/other", "/api/v1/*rest rest=other")
        check("GET", "/files/a/b%2Fc", "/files/*path path=a/b/c")
        check("GET", "/files", "/files/*path path=")
        check("GET", "/api/v1/label/x", "/api/v1/*rest rest=label/x")
        check("DELETE", "/api/v1/x", "/api/:version/x version=v1")
    }

    func testNoRoute() {
        for path in ["/nothing", "/api", "/api/v2/query"] {
            XCTAssertEqual(dispatch("GET", path).status, 404, path)
        }
        XCTAssertEqual(String(decoding: dispatch("GET", "/nothing").body, as: UTF8.self), "404 page not found\n")
        let wrong = dispatch("PUT", "/api/v1/query")
        XCTAssertEqual(wrong.status, 405)
        XCTAssertEqual(wrong.headers.last?.value, "GET, HEAD, OPTIONS, POST")
        let options = dispatch("OPTIONS", "/api/v1/query")
        XCTAssertEqual(options.status, 204)
        XCTAssert(options.headers.contains { $0 == ("Access-Control-Allow-Origin", "*") })
    }

    func testPatterns() {
        XCTAssertEqual(
            makeRouter().patterns.map(\.pattern).sorted(),
            [
                "/", "/api/:version/x", "/api/v1/*rest", "/api/v1/:anything", "/api/v1/label/:name/values", "/api/v1/label/special/values", "/api/v1/query",
                "/files/*path",
            ])
    }
}
