import Foundation
import ObsCore
import ObsNet
import ObsWire
import XCTest

final class TailTests: XCTestCase {
    func testLinesArriveInOrderOnceAndSoon() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let tail = try Streaming(Place.obsq, ["tail", "{app=\"shop\"} |= \"x\"", "-o", "raw", "--addr", obsd.http])
        try tail.waitForErrors("tailing")
        var acknowledged: [Date] = []
        for number in 0..<20 {
            try push(obsd, "noise \(number)")
            try push(obsd, "x\(number)")
            acknowledged.append(Date())
            _ = try eventually({ tail.lines.count }, until: { $0 > number })
        }
        XCTAssertEqual(tail.lines.map(\.text), (0..<20).map { "x\($0)" })
        let delays = zip(tail.lines, acknowledged).map { $0.at.timeIntervalSince($1) * 1000 }.sorted().map { ($0 * 100).rounded() / 100 }
        // Negative where the line stood there before the writer had read its answer.
        print("tail: acknowledged to printed, median \(delays[delays.count / 2]) ms, maximum \(delays.last ?? 0) ms")
    }

    func testManyLinesOfSeveralWritersAllArriveOnce() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let tail = try Streaming(Place.obsq, ["tail", "{app=\"shop\"}", "-o", "raw", "--addr", obsd.http])
        try tail.waitForErrors("tailing")
        let http = obsd.http
        DispatchQueue.concurrentPerform(iterations: 4) { writer in
            let client = HTTPClient()
            for request in 0..<10 {
                let body = (0..<25).map { "{\"app\":\"shop\",\"_msg\":\"\(writer)-\(request * 25 + $0)\"}\n" }.joined()
                _ = try? client.perform(
                    HTTPClientRequest(url: "http://\(http)/insert/jsonline?_stream_fields=app", method: "POST", body: Array(body.utf8)))
            }
        }
        _ = try eventually({ tail.lines.count }, until: { $0 >= 1000 })
        let messages = tail.lines.map(\.text)
        XCTAssertEqual(messages.count, 1000)
        for writer in 0..<4 {
            let own = messages.compactMap { line in (try? JSONDocument.parse(Array(line.utf8)))?.root["_msg"]?.string }.filter { $0.hasPrefix("\(writer)-") }
            XCTAssertEqual(own, (0..<250).map { "\(writer)-\($0)" })
        }
    }

    func testSurvivesARestart() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        try push(obsd, "x before the tail")
        let tail = try Streaming(Place.obsq, ["tail", "{app=\"shop\"} |= \"x\"", "-o", "raw", "--addr", obsd.http])
        try tail.waitForErrors("tailing")
        var sent: [String] = []
        func send(_ text: String) throws {
            try push(obsd, text)
            sent.append(text)
        }
        for number in 0..<3 { try send("x first \(number)") }
        // Equal lines are different records.
        try send("x same")
        try send("x same")
        _ = try eventually({ tail.lines.count }, until: { $0 >= 5 })
        for round in 0..<2 {
            if round == 0 { obsd.crash() } else { XCTAssertEqual(obsd.stop(), 0) }
            try obsd.start()
            for number in 0..<3 { try send("x round \(round) \(number)") }
            _ = try eventually({ tail.lines.count }, until: { $0 >= sent.count })
        }
        try send("x last")
        _ = try eventually({ tail.lines.count }, until: { $0 >= sent.count })
        XCTAssertEqual(tail.lines.map(\.text), sent, tail.errors)
    }

    func testRefusals() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        for query in ["{app=", "{app=\"a\"} | nonsense ???", "{} count_over_time"] {
            let run = try Run(Place.obsq, ["tail", query, "--addr", obsd.http])
            XCTAssertEqual(run.status, 2, "\(query): \(run.errors)")
        }
        XCTAssertEqual(try Run(Place.obsq, ["tail", "{app=\"a\"}", "--addr", "127.0.0.1:\(freePort())"]).status, 4)
    }

    private func push(_ obsd: ObsdProcess, _ text: String) throws {
        let now = UInt64(Date().timeIntervalSince1970 * 1e9)
        let answer = try obsd.post("/loki/api/v1/push", "{\"streams\":[{\"stream\":{\"app\":\"shop\"},\"values\":[[\"\(now)\",\"\(text)\"]]}]}")
        XCTAssertEqual(answer.status, 204)
    }
}

/// A program that runs beside the test, its output seen line by line.
final class Streaming: @unchecked Sendable {  // what the reading thread writes is under `state`
    struct Line: Sendable {
        var text: String
        var at: Date
    }
    private let process = Process()
    private let state = Monitor((lines: [Line](), errors: Data()))

    init(_ program: String, _ arguments: [String]) throws {
        let output = Pipe()
        let errors = Pipe()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.standardOutput = output
        process.standardError = errors
        process.standardInput = FileHandle.nullDevice
        try process.run()
        startThread("output") { [state] in
            var rest = Data()
            while true {
                let piece = output.fileHandleForReading.availableData
                let now = Date()
                if piece.isEmpty { return }
                rest.append(piece)
                while let newline = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    let text = String(decoding: rest[rest.startIndex..<newline], as: UTF8.self)
                    rest = Data(rest[(newline + 1)...])
                    state.update { $0.lines.append(Line(text: text, at: now)) }
                }
            }
        }
        startThread("errors") { [state] in
            while true {
                let piece = errors.fileHandleForReading.availableData
                if piece.isEmpty { return }
                state.update { $0.errors.append(piece) }
            }
        }
    }

    deinit {
        if process.isRunning { process.terminate() }
        process.waitUntilExit()
    }

    var lines: [Line] { state.read { $0.lines } }
    var errors: String { state.read { String(decoding: $0.errors, as: UTF8.self) } }

    func waitForErrors(_ text: String) throws {
        guard try eventually({ errors.contains(text) }, until: { $0 }) else { throw Place.Missing(what: "no \(text) in: \(errors)") }
    }
}
