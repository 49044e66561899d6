import Foundation
import ObsCore
import ObsNet
import ObsWire
import XCTest

/// The repository's root, and what `make deps` put beside the sources.
enum Place {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static let products = Bundle(for: ObsdProcess.self).bundleURL
    static let obsd = products.appendingPathComponent("obsd").path
    static let obsq = products.appendingPathComponent("obsq").path
    static let python = root.appendingPathComponent(".cache/python/bin/python").path
    static let clients = root.appendingPathComponent("Tests/EndToEndTests/clients").path
    /// A program unpacked from a Debian package.
    static func debian(_ path: String) throws -> String {
        let full = root.appendingPathComponent(".cache/debian/\(path)").path
        guard FileManager.default.isExecutableFile(atPath: full) else { throw Missing(what: "\(full) is not there; run `deploy/deps test`") }
        return full
    }

    struct Missing: Error { let what: String }
}

/// A folder that goes with the test.
final class TemporaryFolder {
    let path: String
    init() throws {
        path = NSTemporaryDirectory() + "obs-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func write(_ name: String, _ text: String) throws -> String {
        let file = "\(path)/\(name)"
        try text.write(toFile: file, atomically: true, encoding: .utf8)
        return file
    }
}

/// What a process wrote to stderr so far.
final class LogText: @unchecked Sendable {  // all access is under `lock`
    private let lock = NSLock()
    private var bytes = Data()
    func append(_ data: Data) { lock.withLock { bytes.append(data) } }
    func clear() { lock.withLock { bytes = Data() } }
    var text: String { lock.withLock { String(decoding: bytes, as: UTF8.self) } }
}

/// A live obsd on ports it chose itself.
final class ObsdProcess {
    let data: String
    private let arguments: [String]
    private var process = Process()
    private var output = Pipe()
    private(set) var http = ""
    private(set) var otlp = ""
    private let client = HTTPClient()
    private let log = LogText()

    /// Starts and waits until it listens and answers.
    init(data: String, _ arguments: [String] = []) throws {
        self.data = data
        self.arguments = arguments
        try start()
    }

    deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

    func start() throws {
        process = Process()
        output = Pipe()
        process.executableURL = URL(fileURLWithPath: Place.obsd)
        // After a restart the same ports, so that clients that stayed find it again.
        let addresses = [("--http", http), ("--otlp-http", otlp)].flatMap { [$0.0, $0.1.isEmpty ? "127.0.0.1:0" : $0.1] }
        process.arguments = ["--data", data] + addresses + arguments
        process.standardError = output
        output.fileHandleForReading.readabilityHandler = { [log] handle in log.append(handle.availableData) }
        try process.run()
        let deadline = Date().addingTimeInterval(30)
        while !contains("\"msg\":\"started\"") || !contains("\"msg\":\"ready\"") {
            guard process.isRunning, Date() < deadline else { throw Place.Missing(what: "obsd did not start:\n\(logText)") }
            usleep(5000)
        }
        http = try address(of: "http")
        otlp = try address(of: "otlp-http")
    }

    var logText: String { log.text }
    private func contains(_ text: String) -> Bool { logText.contains(text) }

    private func address(of listener: String) throws -> String {
        guard let line = logText.split(separator: "\n").last(where: { $0.contains("\"listener\":\"\(listener)\"") }),
            let start = line.range(of: "\"address\":\"")
        else {
            throw Place.Missing(what: "no listener \(listener) in:\n\(logText)")
        }
        return String(line[start.upperBound...].prefix { $0 != "\"" })
    }

    var processID: Int32 { process.processIdentifier }

    /// `kill -9`.
    func crash() {
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        log.clear()
    }

    /// SIGTERM; the exit code.
    @discardableResult
    func stop() -> Int32 {
        process.terminate()
        process.waitUntilExit()
        log.clear()
        return process.terminationStatus
    }

    func signal(_ number: Int32) { kill(process.processIdentifier, number) }

    // MARK: Requests

    func get(_ path: String, _ parameters: [(String, String)] = [], headers: [(name: String, value: String)] = []) throws -> HTTPClientResponse {
        let query = parameters.map { "\($0.0)=\(percentEncode($0.1))" }.joined(separator: "&")
        return try client.perform(HTTPClientRequest(url: "http://\(http)\(path)\(query.isEmpty ? "" : "?" + query)", headers: headers))
    }

    func post(_ path: String, _ body: [UInt8], type: String, headers: [(name: String, value: String)] = []) throws -> HTTPClientResponse {
        try client.perform(HTTPClientRequest(url: "http://\(http)\(path)", method: "POST", headers: [("Content-Type", type)] + headers, body: body))
    }

    func post(_ path: String, _ body: String, type: String = "application/json") throws -> HTTPClientResponse { try post(path, Array(body.utf8), type: type) }

    /// The JSON answer to a GET that must succeed.
    func json(_ path: String, _ parameters: [(String, String)] = [], file: StaticString = #filePath, line: UInt = #line) throws -> JSONValue {
        let response = try get(path, parameters)
        XCTAssertEqual(response.status, 200, "\(path): \(String(decoding: response.body, as: UTF8.self))", file: file, line: line)
        return try JSONDocument.parse(response.body).root
    }

    /// Value of an instant query's only sample.
    func value(_ promQL: String, at time: Double? = nil) throws -> Double? {
        let answer = try json("/api/v1/query", [("query", promQL)] + (time.map { [("time", String($0))] } ?? []))
        return answer["data"]?["result"]?[0]?["value"]?[1]?.string.flatMap(Double.init)
    }

    /// All lines of a log query, oldest first.
    func logLines(_ logQL: String, since seconds: Int = 3600, limit: Int = 5000) throws -> [String] {
        let now = Int64(Date().timeIntervalSince1970 * 1e9)
        let answer = try json(
            "/loki/api/v1/query_range",
            [
                ("query", logQL), ("start", String(now - Int64(seconds) * 1_000_000_000)), ("end", String(now + 60_000_000_000)), ("limit", String(limit)),
                ("direction", "forward"),
            ])
        var found: [(Int64, String)] = []
        answer["data"]?["result"]?.forEachElement { stream in
            stream["values"]?.forEachElement { found.append((Int64($0[0]?.string ?? "") ?? 0, $0[1]?.string ?? "")) }
        }
        return found.sorted { $0.0 < $1.0 }.map(\.1)
    }
}

/// Runs a program to its end.
struct Run {
    let status: Int32
    let output: String
    let errors: String

    init(_ program: String, _ arguments: [String], input: String? = nil, environment: [String: String] = [:], timeoutSeconds: Double = 120) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        let out = Pipe()
        let err = Pipe()
        let stdin = Pipe()
        process.standardOutput = out
        process.standardError = err
        process.standardInput = stdin
        try process.run()
        if let input { stdin.fileHandleForWriting.write(Data(input.utf8)) }
        try? stdin.fileHandleForWriting.close()
        let timer = DispatchSource.makeTimerSource()
        timer.schedule(deadline: .now() + timeoutSeconds)
        timer.setEventHandler { kill(process.processIdentifier, SIGKILL) }
        timer.resume()
        let errorText = Collected()
        let reader = Thread { errorText.set(err.fileHandleForReading.readDataToEndOfFile()) }
        reader.start()
        output = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        timer.cancel()
        errors = errorText.wait()
        status = process.terminationStatus
    }

    private final class Collected: @unchecked Sendable {  // handed over by the semaphore
        private var data = Data()
        private let done = DispatchSemaphore(value: 0)
        func set(_ data: Data) {
            self.data = data
            done.signal()
        }
        func wait() -> String {
            done.wait()
            return String(decoding: data, as: UTF8.self)
        }
    }
}

/// A server of somebody else's that runs as long as the test.
final class Background {
    private let process = Process()

    init(_ program: String, _ arguments: [String], log: String) throws {
        process.executableURL = URL(fileURLWithPath: program)
        process.arguments = arguments
        _ = FileManager.default.createFile(atPath: log, contents: nil)
        let file = FileHandle(forWritingAtPath: log)
        process.standardOutput = file
        process.standardError = file
        try process.run()
    }

    deinit {
        process.terminate()
        process.waitUntilExit()
    }
}

/// Asks again until the answer is the wanted one; the last answer when it never is. Generous, so that a slow machine passes.
func eventually<Value>(seconds: Double = 60, _ ask: () throws -> Value, until wanted: (Value) -> Bool) throws -> Value {
    let deadline = Date().addingTimeInterval(seconds)
    while true {
        let value = try ask()
        if wanted(value) || Date() > deadline { return value }
        usleep(50_000)
    }
}

/// A loopback port that was free a moment ago.
func freePort() -> Int {
    let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(file) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(file, $0, length)
            getsockname(file, $0, &length)
        }
    }
    return Int(UInt16(bigEndian: address.sin_port))
}
