import CProtobufs
import ObsCore
import ObsWire
import XCTest

final class OTLPResponseTests: XCTestCase {
    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    func testSuccess() {
        XCTAssertEqual(OTLPResponse.success(.traces, json: false), [])
        XCTAssertEqual(text(OTLPResponse.success(.traces, json: true)), "{}")
    }

    func testPartialSuccess() throws {
        let cases: [(Signal, String)] = [(.traces, "rejectedSpans"), (.logs, "rejectedLogRecords"), (.metrics, "rejectedDataPoints")]
        for (signal, key) in cases {
            XCTAssertEqual(
                text(OTLPResponse.success(signal, rejected: 3, reason: "a \"b\"", json: true)), #"{"partialSuccess":{"\#(key)":"3","errorMessage":"a \"b\""}}"#)
        }
        XCTAssertEqual(text(OTLPResponse.success(.logs, reason: "careful", json: true)), #"{"partialSuccess":{"errorMessage":"careful"}}"#)
        let body = OTLPResponse.success(.logs, rejected: 300, reason: "é", json: false)
        let response = try XCTUnwrap(obs__export_service_response__unpack(nil, body.count, body))
        defer { obs__export_service_response__free_unpacked(response, nil) }
        XCTAssertEqual(response.pointee.partial_success.pointee.rejected, 300)
        XCTAssertEqual(String(cString: response.pointee.partial_success.pointee.error_message), "é")
    }

    func testStatus() throws {
        XCTAssertEqual(text(OTLPResponse.status(grpcCode: 3, message: "no", json: true)), #"{"code":3,"message":"no"}"#)
        let body = OTLPResponse.status(grpcCode: 14, message: "later", json: false)
        XCTAssertEqual(body, [0x08, 14, 0x12, 5] + Array("later".utf8))
        let status = try XCTUnwrap(obs__rpcstatus__unpack(nil, body.count, body))
        defer { obs__rpcstatus__free_unpacked(status, nil) }
        XCTAssertEqual(status.pointee.code, 14)
    }
}
