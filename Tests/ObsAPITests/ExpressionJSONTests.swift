import ObsNet
import XCTest

@testable import ObsAPI

/// The trees Prometheus 3.14 answers.
final class ExpressionJSONTests: XCTestCase {
    private func check(_ query: String, _ tree: String, line: UInt = #line) throws {
        let api = try API()
        assertAnswer(api.get("/api/v1/parse_query?query=\(encoded(query))"), 200, #"{"status":"success","data":\#(tree)}"#, line: line)
    }

    private let up =
        #"{"anchored":false,"matchers":[{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":0,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":null,"type":"vectorSelector"}"#

    func testLiterals() throws {
        try check("1e21", #"{"type":"numberLiteral","val":"1000000000000000000000"}"#)
        try check("0.0000001", #"{"type":"numberLiteral","val":"0.0000001"}"#)
        try check("+Inf", #"{"type":"numberLiteral","val":"+Inf"}"#)
        try check(#""a\"b""#, #"{"type":"stringLiteral","val":"a\"b"}"#)
        try check("(1)", #"{"expr":{"type":"numberLiteral","val":"1"},"type":"parenExpr"}"#)
    }

    func testSelectors() throws {
        try check("up", up)
        try check("-up", #"{"expr":\#(up),"op":"-","type":"unaryExpr"}"#)
        try check(
            #"up{job=~"a.*",x!="y"} offset -1m @ 1.5"#,
            #"{"anchored":false,"matchers":[{"name":"job","type":"=~","value":"a.*"},{"name":"x","type":"!=","value":"y"},{"name":"__name__","type":"=","value":"up"}],"name":"up","offset":-60000,"offsetExpr":null,"smoothed":false,"startOrEnd":null,"timestamp":1500,"type":"vectorSelector"}"#
        )
        try check(
            #"{job="a"}[5m] @ end()"#,
            #"{"anchored":false,"matchers":[{"name":"job","type":"=","value":"a"}],"name":"","offset":0,"offsetExpr":null,"range":300000,"rangeExpr":null,"smoothed":false,"startOrEnd":"end","timestamp":null,"type":"matrixSelector"}"#
        )
        try check(
            "up[1h:1m] offset 5m",
            #"{"expr":\#(up),"offset":300000,"offsetExpr":null,"range":3600000,"rangeExpr":null,"startOrEnd":null,"step":60000,"stepExpr":null,"timestamp":null,"type":"subquery"}"#
        )
    }

    func testOperators() throws {
        try check(
            "sum by (a, b) (up)", #"{"expr":\#(up),"grouping":["a","b"],"op":"sum","param":null,"type":"aggregation","without":false}"#)
        try check(
            "topk without (a) (3, up)",
            #"{"expr":\#(up),"grouping":["a"],"op":"topk","param":{"type":"numberLiteral","val":"3"},"type":"aggregation","without":true}"#)
        try check(
            "up == bool 1",
            #"{"bool":true,"lhs":\#(up),"matching":null,"op":"==","rhs":{"type":"numberLiteral","val":"1"},"type":"binaryExpr"}"#)
        try check(
            "up * on (a) group_left (b) up",
            #"{"bool":false,"lhs":\#(up),"matching":{"card":"many-to-one","fillValues":{"lhs":null,"rhs":null},"include":["b"],"labels":["a"],"on":true},"op":"*","rhs":\#(up),"type":"binaryExpr"}"#
        )
        try check(
            "up and up",
            #"{"bool":false,"lhs":\#(up),"matching":{"card":"many-to-many","fillValues":{"lhs":null,"rhs":null},"include":[],"labels":[],"on":false},"op":"and","rhs":\#(up),"type":"binaryExpr"}"#
        )
        try check(
            "round(up)",
            #"{"args":[\#(up)],"func":{"argTypes":["vector","scalar"],"name":"round","returnType":"vector","variadic":1},"type":"call"}"#)
        try check("time()", #"{"args":[],"func":{"argTypes":[],"name":"time","returnType":"scalar","variadic":0},"type":"call"}"#)
    }

    func testFailures() throws {
        let api = try API()
        assertAnswer(
            api.get("/api/v1/parse_query?query="), 400,
            #"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": unknown position: parse error: no expression found in input"}"#)
        let answer = api.post("/api/v1/parse_query", "application/x-www-form-urlencoded", "query=sum(")
        XCTAssertEqual(answer.status, 400)
        XCTAssertTrue(answer.text.contains(#"invalid parameter \"query\": 1:5: parse error: "#), answer.text)
    }
}
