import Foundation
import ObsNet
import XCTest

/// The commands that look into a store: what they print and what they exit with.
final class StoreCommandTests: XCTestCase {
    func testFsckAndItsKin() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", #"{"app":"a","msg":"kept"}"#).status, 200)
        let busy = try Run(Place.obsd, ["fsck", "--data", obsd.data])
        XCTAssertEqual(busy.status, 2)
        XCTAssertTrue(busy.errors.contains("running obsd"), busy.errors)
        XCTAssertEqual(obsd.stop(), 0)
        let clean = try Run(Place.obsd, ["fsck", "--data", obsd.data])
        XCTAssertEqual(clean.status, 0, clean.output)
        XCTAssertTrue(clean.output.hasPrefix("clean: 1 segments"), clean.output)
        let listed = try Run(Place.obsd, ["segments", "ls", "--data", obsd.data])
        XCTAssertEqual(listed.output.split(separator: "\n").count, 2, listed.output)
        XCTAssertEqual(try Run(Place.obsd, ["segments", "ls", "--data", obsd.data, "--signal", "metrics", "--json"]).output, "")
        XCTAssertEqual(try Run(Place.obsd, ["segments", "ls", "--data", obsd.data, "--signal", "smoke"]).status, 2)

        let files = try XCTUnwrap(FileManager.default.enumerator(atPath: obsd.data)?.compactMap { $0 as? String })
        let segment = try obsd.data + "/" + XCTUnwrap(files.first { $0.hasSuffix(".seg") })
        let row = try Run(Place.obsd, ["segment", "dump", segment, "--rows", "5"])
        XCTAssertTrue(row.output.contains("kept") && row.output.hasPrefix("{\"stream\":{\"app\":\"a\""), row.output)
        XCTAssertTrue(try Run(Place.obsd, ["segment", "dump", segment, "--blocks"]).output.contains("COLUMN"))

        var bytes = try Data(contentsOf: URL(fileURLWithPath: segment))
        var newer = bytes
        newer[6] = 9
        newer[newer.count - 2] = 9
        try newer.write(to: URL(fileURLWithPath: segment))
        let unknown = try Run(Place.obsd, ["fsck", "--data", obsd.data])
        XCTAssertEqual(unknown.status, 2)
        XCTAssertTrue(unknown.output.hasPrefix("newer version: \(segment):0: "), unknown.output)
        XCTAssertTrue(unknown.output.contains("\n1 not to be read: "), unknown.output)
        bytes[20] ^= 1
        try bytes.write(to: URL(fileURLWithPath: segment))
        let damaged = try Run(Place.obsd, ["fsck", "--data", obsd.data])
        XCTAssertEqual(damaged.status, 1)
        XCTAssertTrue(damaged.output.hasPrefix("damage: \(segment):"), damaged.output)
        XCTAssertEqual(try Run(Place.obsd, ["fsck", "--data", obsd.data, "--repair"]).status, 1)
        XCTAssertEqual(try Run(Place.obsd, ["fsck", "--data", obsd.data]).status, 0)
        XCTAssertEqual(try Run(Place.obsd, ["index", "rebuild", "--data", obsd.data]).status, 0)
        try obsd.start()
        XCTAssertEqual(obsd.stop(), 0)
    }

    /// The answer names the place and what is done; the daemon stays up and has done it soon.
    func testDamageMetByAQuery() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", #"{"app":"a","msg":"kept"}"#).status, 200)
        XCTAssertEqual(obsd.stop(), 0)
        try obsd.start()
        let files = try XCTUnwrap(FileManager.default.enumerator(atPath: obsd.data)?.compactMap { $0 as? String })
        let segment = try obsd.data + "/" + XCTUnwrap(files.first { $0.hasSuffix(".seg") })
        let file = try XCTUnwrap(FileHandle(forUpdatingAtPath: segment))
        try file.seek(toOffset: 20)
        let byte = try XCTUnwrap(file.read(upToCount: 1)?.first)
        try file.seek(toOffset: 20)
        try file.write(contentsOf: [byte ^ 1])
        let query = [("query", #"{app="a"}"#)]
        let answer = try obsd.get("/loki/api/v1/query_range", query)
        let text = String(decoding: answer.body, as: UTF8.self)
        XCTAssertEqual(answer.status, 500, text)
        for word in [segment + ":8", "checksum", "saved within seconds", "`obsd fsck --repair`"] { XCTAssertTrue(text.contains(word), text) }
        let status = try eventually(seconds: 20, { try obsd.get("/loki/api/v1/query_range", query).status }, until: { $0 == 200 })
        XCTAssertEqual(status, 200)
        XCTAssertEqual(obsd.stop(), 0)
    }

    /// `index/` is derived: after a clean stop and after a kill, the answers are the same without it.
    func testWithoutTheIndexFolder() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let now = Int64(Date().timeIntervalSince1970)
        func write(_ round: Int) throws {
            let nanos = "\(now - 100 + Int64(round))000000000"
            XCTAssertEqual(
                try obsd.post("/insert/jsonline?_stream_fields=app&_time_field=t", #"{"app":"a","msg":"line \#(round)","t":"\#(nanos)"}"#).status, 200)
            let point = #"{"timeUnixNano":"\#(nanos)","asInt":"\#(round)"}"#
            let gauge = #"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"g","gauge":{"dataPoints":[\#(point)]}}]}]}]}"#
            XCTAssertEqual(try obsd.post("/v1/metrics", gauge).status, 200)
            let ids = #""traceId":"000000000000000000000000000000ab","spanId":"000000000000000\#(round + 1)""#
            let span = #"{\#(ids),"name":"op","startTimeUnixNano":"\#(nanos)","endTimeUnixNano":"\#(nanos)"}"#
            XCTAssertEqual(try obsd.post("/v1/traces", #"{"resourceSpans":[{"scopeSpans":[{"spans":[\#(span)]}]}]}"#).status, 200)
        }
        func answers() throws -> [String] {
            let range = [("start", "\(now - 200)"), ("end", "\(now + 200)")]
            return try [
                obsd.get("/api/v1/query_range", [("query", "g"), ("step", "7")] + range),
                obsd.get("/loki/api/v1/query_range", [("query", #"{app="a"}"#)] + range),
                obsd.get("/api/traces/000000000000000000000000000000ab"), obsd.get("/api/v1/series", [("match[]", "g")] + range),
                obsd.get("/loki/api/v1/labels", range),
            ].map { answer in
                let text = String(decoding: answer.body, as: UTF8.self)
                XCTAssertEqual(answer.status, 200, text)
                // What a query cost may differ.
                return text.replacingOccurrences(of: #""stats":\{.*"#, with: "", options: .regularExpression)
            }
        }
        for round in 0..<3 {
            try write(round)
            let before = try answers()
            XCTAssertTrue(before[1].contains("line \(round)"), before[1])
            if round == 1 { obsd.crash() } else { XCTAssertEqual(obsd.stop(), 0) }
            try FileManager.default.removeItem(atPath: obsd.data + "/index")
            try obsd.start()
            XCTAssertEqual(try answers(), before, "round \(round)")
        }
        XCTAssertEqual(obsd.stop(), 0)
        XCTAssertEqual(try Run(Place.obsd, ["fsck", "--data", obsd.data]).status, 0)
    }

    func testWrongUsage() throws {
        for arguments in [
            ["fsck", "--data", "/nowhere"], ["fsck", "more"], ["index"], ["segments", "rm"], ["segment", "dump"], ["fsck", "--rows", "3"], ["--repair"],
        ] {
            XCTAssertEqual(try Run(Place.obsd, arguments).status, 2, "\(arguments)")
        }
    }
}
