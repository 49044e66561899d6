import ObsCore
import ObsNet
import XCTest

@testable import ObsAPI

final class ErrorResponseTests: XCTestCase {
    /// Code, then the status in Prometheus', text, Loki's, OTLP's, Jaeger's and our own shape.
    func testStatuses() {
        let table: [(ObsError.Code, [Int])] = [
            (.badInput, [400, 400, 400, 400, 400, 400]),
            (.unprocessable, [422, 422, 422, 422, 422, 422]),
            (.unauthenticated, [401, 401, 401, 401, 401, 401]),
            (.forbidden, [403, 403, 403, 403, 403, 403]),
            (.notFound, [404, 404, 404, 404, 404, 404]),
            (.methodNotAllowed, [405, 405, 405, 405, 405, 405]),
            (.tooLarge, [413, 413, 413, 413, 413, 413]),
            (.unsupportedType, [415, 415, 415, 415, 415, 415]),
            (.overloaded, [503, 503, 503, 503, 503, 503]),
            (.limitExceeded, [422, 422, 400, 422, 422, 422]),
            (.timeout, [503, 503, 504, 503, 503, 503]),
            (.cancelled, [499, 499, 499, 499, 499, 499]),
            (.unavailable, [503, 503, 503, 503, 503, 503]),
            (.corrupt, [500, 500, 500, 500, 500, 500]),
            (.internalError, [500, 500, 500, 500, 500, 500]),
        ]
        let shapes: [ErrorShape] = [.prometheus, .text, .loki, .otlp(json: true), .jaeger, .native]
        for (code, statuses) in table {
            XCTAssertEqual(shapes.map { HTTPResponse(ObsError(code, "m"), $0).status }, statuses, "\(code)")
        }
    }

    func testPrometheusTypes() {
        let types: [(ObsError.Code, String)] = [
            (.badInput, "bad_data"), (.unprocessable, "execution"), (.limitExceeded, "execution"), (.timeout, "timeout"), (.cancelled, "canceled"),
            (.internalError, "internal"), (.corrupt, "internal"), (.notFound, "not_found"), (.unavailable, "unavailable"), (.overloaded, "unavailable"),
        ]
        for (code, type) in types {
            let response = HTTPResponse(ObsError(code, "say \"why\""), .prometheus)
            XCTAssertEqual(response.text, #"{"status":"error","errorType":"\#(type)","error":"say \"why\""}"#)
            XCTAssertEqual(response.type, "application/json")
        }
    }

    func testShapes() {
        let error = ObsError(.badInput, "no \"b\"", place: "line 3")
        XCTAssertEqual(HTTPResponse(error, .text).text, "line 3: no \"b\"\n")
        XCTAssertEqual(HTTPResponse(error, .loki).type, "text/plain; charset=utf-8")
        XCTAssertEqual(HTTPResponse(error, .native).text, #"{"error":"line 3: no \"b\""}"#)
        XCTAssertEqual(
            HTTPResponse(error, .jaeger).text, #"{"data":null,"total":0,"limit":0,"offset":0,"errors":[{"code":400,"msg":"line 3: no \"b\""}]}"#)
        XCTAssertEqual(HTTPResponse(error, .otlp(json: true)).text, #"{"code":3,"message":"line 3: no \"b\""}"#)
        let protobuf = HTTPResponse(ObsError(.badInput, "bad"), .otlp(json: false))
        XCTAssertEqual(protobuf.body, [8, 3, 18, 3] + Array("bad".utf8))
        XCTAssertEqual(protobuf.type, "application/x-protobuf")
    }

    func testOTLPCodes() {
        let codes: [(ObsError.Code, Int)] = [
            (.badInput, 3), (.unsupportedType, 3), (.timeout, 4), (.notFound, 5), (.forbidden, 7), (.tooLarge, 8), (.cancelled, 1), (.overloaded, 14),
            (.unavailable, 14), (.internalError, 13), (.corrupt, 13), (.unauthenticated, 16),
        ]
        for (code, number) in codes {
            XCTAssertEqual(HTTPResponse(ObsError(code, "m"), .otlp(json: true)).text, #"{"code":\#(number),"message":"m"}"#, "\(code)")
        }
    }

    /// OTLP senders lose the data of a 500; they repeat a 503.
    func testRetryAfter() {
        XCTAssertEqual(HTTPResponse(ObsError(.overloaded, "m", retryAfterSeconds: 7), .otlp(json: true)).header("retry-after"), "7")
        XCTAssertEqual(HTTPResponse(ObsError(.unavailable, "m"), .text).header("retry-after"), "1")
        XCTAssertNil(HTTPResponse(ObsError(.badInput, "m"), .text).header("retry-after"))
    }
}
