import ObsCore
import ObsPromQL
import ObsStore
import ObsWire
import XCTest

@testable import ObsAPI

final class ResultJSONTests: XCTestCase {
    private let labels = Labels([("__name__", "h")])
    private let histogram = FloatHistogram(
        schema: 0, zeroThreshold: 0.5, zeroCount: 2, count: 9, sum: 3.5, positive: BucketCounts(indices: [1, 2, 4], counts: [3, 0, 1.5]),
        negative: BucketCounts(indices: [3], counts: [2.5]))
    private let text =
        #"{"count":"9","sum":"3.5","buckets":[[1,"-8","-4","2.5"],[3,"-0.5","0.5","2"],[0,"1","2","3"],[0,"8","16","1.5"]]}"#

    private func json(_ value: PromQLValue) throws -> String {
        var writer = JSONWriter(reserving: 64)
        writer.beginObject()
        try writer.value(value) { _ in }
        writer.endObject()
        return String(decoding: writer.bytes, as: UTF8.self)
    }

    func testSamplesThatAreHistograms() throws {
        let samples = [
            VectorSample(labels: labels, timeMillis: 1500, value: .nan, histogram: histogram), VectorSample(labels: .empty, timeMillis: 1500, value: 2),
        ]
        XCTAssertEqual(
            try json(.vector(samples)),
            #"{"resultType":"vector","result":[{"metric":{"__name__":"h"},"histogram":[1.500,\#(text)]},{"metric":{},"value":[1.500,"2"]}]}"#)
    }

    func testSeriesOfNumbersAndHistograms() throws {
        var columns = HistogramColumns()
        columns.append(histogram, timeMillis: 2000)
        columns.append(FloatHistogram(), timeMillis: 3000)
        let both = SeriesSamples(labels: labels, timesMillis: [1000], values: [7], histograms: columns)
        let alone = SeriesSamples(labels: labels, timesMillis: [], values: [], histograms: columns)
        let shown = #""histograms":[[2,\#(text)],[3,{"count":"0","sum":"0"}]]"#
        XCTAssertEqual(
            try json(.matrix([both, alone])),
            #"{"resultType":"matrix","result":[{"metric":{"__name__":"h"},"values":[[1,"7"]],\#(shown)},{"metric":{"__name__":"h"},\#(shown)}]}"#)
    }

    func testBoundsOfTheirOwn() throws {
        let custom = FloatHistogram(schema: -53, count: 6, sum: 20, positive: BucketCounts(indices: [0, 2], counts: [4, 2]), bounds: [5, 10])
        XCTAssertEqual(
            try json(.vector([VectorSample(labels: .empty, timeMillis: 0, value: .nan, histogram: custom)])),
            #"{"resultType":"vector","result":[{"metric":{},"histogram":[0,{"count":"6","sum":"20","buckets":[[3,"-Inf","5","4"],[0,"10","+Inf","2"]]}]}]}"#)
    }
}
