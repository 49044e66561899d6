import Foundation
import ObsCompress
import ObsCore
import ObsNet
import ObsWire
import XCTest

/// The guard on cardinality in a running obsd: it folds, tells who did it, and says the same after a kill.
final class CardinalityTests: XCTestCase {
    private func write(_ obsd: ObsdProcess, _ users: ClosedRange<Int>, _ millis: Int64) throws {
        var writer = ProtobufWriter()
        for user in users {
            let labels = Labels([("__name__", "logins_total"), ("instance", "i"), ("job", "web"), ("user", "u\(user)")])
            writer.timeSeries(1, labels, times: [millis], values: [Double(user)])
        }
        XCTAssertEqual(try obsd.post("/api/v1/write", snappyCompress(writer.bytes), type: "application/x-protobuf").status, 204)
    }

    private func users(_ obsd: ObsdProcess) throws -> [String] { try obsd.tree("/api/v1/label/user/values")["data"].texts }

    func testTheGuardFoldsAndReplayRepeatsIt() throws {
        let folder = try TemporaryFolder()
        let config = try folder.write("obsd.yml", "obsd: {cardinality: {label-values-max: 5}}")
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", config])
        let now = Int64(Date().timeIntervalSince1970) * 1000
        try write(obsd, 1...4, now - 20_000)
        // Folding begins when the store has been read.
        var step: Int64 = 0
        let folded = try eventually(
            { () -> [String] in
                step += 1
                try write(obsd, 1...4, now - 15_000 + step)
                try write(obsd, Int(5 + step)...Int(5 + step), now - 15_000 + step)
                return try users(obsd)
            }, until: { $0.contains("__overflow__") })
        XCTAssertTrue(folded.contains("__overflow__"))
        let before = folded
        try write(obsd, 100...200, now - 5000)
        XCTAssertEqual(try users(obsd), before)
        XCTAssertEqual(try obsd.samples(#"logins_total{user="u1"}"#).count, 1)
        XCTAssertTrue(obsd.logText.contains("\"metric\":\"logins_total\",\"label\":\"user\""), obsd.logText)
        let explored = try obsd.tree("/api/v1/cardinality")["data"]
        XCTAssertEqual(explored["overflows"][0]["metric"].text, "logins_total")
        XCTAssertEqual(explored["overflows"][0]["source"]["job"].text, "web")
        XCTAssertEqual(explored["metrics"][0]["name"].text, "logins_total")
        XCTAssertTrue(explored["metrics"][0]["lastQueried"].exists)
        XCTAssertEqual(try obsd.tree("/api/v1/status/tsdb")["data"]["headStats"]["numSeries"].number, explored["series"].number)
        let explained = try obsd.tree("/api/v1/query", [("query", "logins_total"), ("explain", "1")])["data"]["explain"]
        XCTAssertEqual(explained["series"].number, Double(before.count))
        XCTAssertGreaterThan(explained["samples"].number, 4)

        obsd.crash()
        try obsd.start()
        XCTAssertEqual(try users(obsd), before)
        // What is stored is known again: none of it is folded, and there is no room for more.
        _ = try eventually(
            { () -> Double in
                step += 1
                try write(obsd, 1...4, now + step)
                try write(obsd, 300...300, now + step)
                return try obsd.tree("/api/v1/cardinality")["data"]["overflows"][0]["foldedSamples"].number
            }, until: { $0 > 0 })
        XCTAssertLessThanOrEqual(try users(obsd).count, before.count + 1)
    }
}
