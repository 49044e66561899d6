import ObsCompress
import ObsCore
import ObsNet
import ObsStore
import ObsWire
import XCTest

@testable import ObsAPI

final class AnswerStreamTests: XCTestCase {
    /// A matrix of a few megabytes.
    private func filled() throws -> API {
        let api = try API()
        let labels = (0..<40).map { [("__name__", "up"), ("instance", "host-\($0)")] }
        for start in stride(from: 0, to: 2000, by: 500) {
            api.write(labels.flatMap { labels in (start..<start + 500).map { (labels, 1_699_990_000 + Double($0), Double($0) / 3) } })
        }
        return api
    }

    private let target = "/api/v1/query?query=up%5B1h%5D&time=1699993000"

    func testALargeAnswerLeavesInPieces() throws {
        let api = try filled()
        let answer = api.get(target)
        XCTAssertEqual(answer.status, 200)
        XCTAssertEqual(answer.header("transfer-encoding"), "chunked")
        XCTAssertGreaterThan(answer.body.count, 2 << 20)
        XCTAssertTrue(
            answer.text.hasPrefix(
                #"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up","instance":"host-0"},"values":[[1699990000,"0"],["#))
        XCTAssertTrue(answer.text.hasSuffix(#"[1699991999,"666.3333333333334"]]}]}}"#))
        XCTAssertNotNil(try JSONSerialization.jsonObject(with: Data(answer.body)) as? [String: Any])
        let packed = api.get(target, [("Accept-Encoding", "gzip, deflate")])
        XCTAssertEqual(packed.header("content-encoding"), "gzip")
        XCTAssertLessThan(packed.body.count, answer.body.count / 3)
        XCTAssertEqual(try decompress(packed.body, .gzip, decodedBytesMax: 1 << 30), answer.body)
        // A small one has its length.
        XCTAssertNil(api.get("/api/v1/query?query=1").header("transfer-encoding"))
    }

    /// Refuses every other write, then is gone.
    private final class SlowStream: HTTPStream {
        let state = Monitor((bytes: [UInt8](), refusals: 0, finished: false))
        func write(_ bytes: [UInt8]) -> Bool {
            state.update { state in
                if state.refusals.isMultiple(of: 2) {
                    state.refusals += 1
                    return false
                }
                state.refusals += 1
                state.bytes += bytes
                return true
            }
        }
        func finish() { state.update { $0.finished = true } }
    }

    private final class Responder: HTTPResponder {
        let opened = SlowStream()
        func send(_ response: HTTPResponse) {}
        func stream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream { opened }
        func upgradeToWebSocket(opened: @escaping @Sendable (any WebSocket) -> Void) {}
    }

    func testASlowClientIsWaitedForUntilItIsGone() throws {
        let responder = Responder()
        let isGone = Monitor(false)
        let context = QueryContext(tenant: .default, timeoutMillis: 60_000, clientGone: { isGone.read { $0 } })
        let request = HTTPRequest(method: "GET", path: "/")
        let answer = AnswerStream(request, responder, type: "text/plain", context: context)
        try answer.send([1, 2])
        try answer.send([3])
        XCTAssertTrue(answer.isStarted)
        try answer.finish()
        XCTAssertEqual(responder.opened.state.read { $0.bytes }, [1, 2, 3])
        XCTAssertTrue(responder.opened.state.read { $0.finished })
        isGone.update { $0 = true }
        XCTAssertThrowsError(try answer.send([4])) { XCTAssertEqual(($0 as? ObsError)?.code, .cancelled) }
    }
}
