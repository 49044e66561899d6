import ObsCore
import ObsHash
import ObsNet
import ObsStore
import XCTest

@testable import ObsAPI

final class CardinalityAPITests: XCTestCase {
    /// Three series now and two a day ago.
    private func filled() throws -> API {
        let api = try API()
        let day = 86_400.0
        api.write([
            ([("__name__", "up"), ("job", "a"), ("instance", "1")], 1_699_999_990, 1),
            ([("__name__", "up"), ("job", "a"), ("instance", "2")], 1_699_999_991, 1),
            ([("__name__", "size"), ("job", "b")], 1_699_999_992, 1), ([("__name__", "up"), ("job", "a"), ("instance", "1")], 1_700_000_000 - day, 1),
            ([("__name__", "gone"), ("job", "c")], 1_700_000_000 - day, 1),
        ])
        return api
    }

    func testHeadStatistics() throws {
        let api = try filled()
        assertAnswer(
            api.get("/api/v1/status/tsdb"), 200,
            #"{"status":"success","data":{"headStats":{"numSeries":3,"numLabelPairs":6,"chunkCount":0,"minTime":1699999990000,"maxTime":1699999992000},"#
                + #""seriesCountByMetricName":[{"name":"up","value":2},{"name":"size","value":1}],"#
                + #""labelValueCountByLabelName":[{"name":"__name__","value":2},{"name":"instance","value":2},{"name":"job","value":2}],"#
                + #""memoryInBytesByLabelName":[{"name":"__name__","value":38},{"name":"instance","value":22},{"name":"job","value":18}],"#
                + #""seriesCountByLabelValuePair":[{"name":"__name__=up","value":2},{"name":"job=a","value":2},{"name":"__name__=size","value":1},{"name":"instance=1","value":1},{"name":"instance=2","value":1},{"name":"job=b","value":1}]}}"#
        )
        XCTAssertTrue(api.get("/api/v1/status/tsdb?limit=1").text.contains(#""seriesCountByMetricName":[{"name":"up","value":2}],"#))
        for (limit, text) in [("0", "limit must be a positive number"), ("x", "limit must be a positive number"), ("10001", "limit must not exceed 10000")] {
            assertAnswer(api.get("/api/v1/status/tsdb?limit=\(limit)"), 400, #"{"status":"error","errorType":"bad_data","error":"\#(text)"}"#)
        }
        XCTAssertTrue(try API().get("/api/v1/status/tsdb").text.contains(#""numSeries":0,"numLabelPairs":0,"chunkCount":0,"minTime":9223372036854775807"#))
    }

    func testExplorer() throws {
        let api = try filled()
        XCTAssertEqual(api.get("/api/v1/query?query=rate(up%5B5m%5D)").status, 200)
        assertAnswer(
            api.get("/api/v1/cardinality?since=1699913600&limit=2"), 200,
            #"{"status":"success","data":{"start":1699989200,"end":1700000000,"series":3,"growth":1,"countsMissAtMost":0,"#
                + #""metrics":[{"name":"up","series":2,"growth":1,"lastQueried":1700000000,"inRules":false},{"name":"size","series":1,"growth":1,"lastQueried":null,"inRules":false}],"#
                + #""labels":[{"name":"__name__","values":2,"isExact":true,"series":3,"growth":0},{"name":"instance","values":2,"isExact":true,"series":2,"growth":1}],"#
                + #""pairs":[{"label":"__name__","value":"up","series":2,"growth":1},{"label":"job","value":"a","series":2,"growth":1}],"#
                + #""sources":[{"job":"b","instance":"","series":1,"growth":1},{"job":"a","instance":"1","series":1,"growth":0}],"overflows":[]}}"#)
        let narrow = api.get("/api/v1/cardinality?match[]=%7Bjob=%22b%22%7D&start=1699999000&end=2023-11-14T22:13:20Z").text
        XCTAssertTrue(narrow.hasPrefix(#"{"status":"success","data":{"start":1699999000,"end":1700000000,"series":1,"countsMissAtMost":0,"#), narrow)
        XCTAssertEqual(api.get("/api/v1/cardinality?start=2&end=1").status, 400)
        XCTAssertEqual(api.get("/api/v1/cardinality?match[]=%7B").status, 400)
    }

    func testDistinctCounts() {
        for count in [0, 1, 1000, 1024, 1025, 3000, 50_000, 1_000_000] {
            var distinct = DistinctCount()
            for number in 0..<count {
                withUnsafeBytes(of: number) { distinct.add(hash64($0)) }
                if number % 3 == 0 { withUnsafeBytes(of: number / 2) { distinct.add(hash64($0)) } }
            }
            XCTAssertEqual(distinct.isExact, count <= 1024)
            // Five standard errors.
            XCTAssertEqual(Double(distinct.count), Double(count), accuracy: distinct.isExact ? 0 : Double(count) * 0.08)
        }
    }

    func testCountedTextsKeepTheBiggest() throws {
        let context = QueryContext(tenant: .default)
        var texts = CountedTexts(context)
        for round in 0..<3 {
            for number in 0..<CountedTexts.kept {
                try texts.add("r\(round) \(number)".utf8)
                if number % 64 == 0 { try texts.add("big".utf8, 2) }
            }
        }
        XCTAssertEqual(texts.top(1).map { String(decoding: $0.text, as: UTF8.self) }, ["big"])
        XCTAssertEqual(texts.count(of: "big".utf8), CountedTexts.kept / 64 * 6)
        XCTAssertLessThan(texts.count, CountedTexts.kept * 2)
        // Twice the half of them was forgotten, each seen once.
        XCTAssertEqual(texts.missedMax, 2)
    }
}
