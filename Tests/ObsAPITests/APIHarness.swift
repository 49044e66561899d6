import ObsCompress
import ObsCore
import ObsHash
import ObsIngest
import ObsLogQL
import ObsNet
import ObsPromQL
import ObsRules
import ObsStore
import ObsTestSupport
import ObsTraceQL
import ObsWire
import XCTest

@testable import ObsAPI

/// Keeps what is answered.
final class CollectingResponder: HTTPResponder {
    private let answer = Monitor<HTTPResponse?>(nil)

    func send(_ response: HTTPResponse) { answer.update { if $0 == nil { $0 = response } } }
    func stream(status: Int, headers: [(name: String, value: String)]) -> any HTTPStream {
        CollectingStream(self, HTTPResponse(status: status, headers: headers + [("Transfer-Encoding", "chunked")]))
    }
    func upgradeToWebSocket(opened: @escaping @Sendable (any WebSocket) -> Void) { send(HTTPResponse(status: 101)) }

    func wait() -> HTTPResponse { answer.wait(timeoutNanos: 60 * nanosPerSecond, until: { $0 }) ?? HTTPResponse(status: 0) }
}

/// Puts the pieces together; an answer that is not finished is cut.
private final class CollectingStream: HTTPStream {
    private let responder: CollectingResponder
    private let response: Monitor<HTTPResponse>

    init(_ responder: CollectingResponder, _ response: HTTPResponse) {
        self.responder = responder
        self.response = Monitor(response)
    }

    deinit { responder.send(HTTPResponse(status: 0)) }

    func write(_ bytes: [UInt8]) -> Bool {
        response.update { $0.body += bytes }
        return true
    }

    func finish() { responder.send(response.read { $0 }) }
}

/// Keeps what was asked of it.
final class NoStore: StoreAdministration {
    private let asked = Monitor<[String]>([])
    func forget() { asked.read { $0 = [] } }
    var deletions: [String] { asked.read { $0 } }

    func status() -> StoreStatus { StoreStatus() }
    func flush() throws(ObsError) {}
    func delete(_ tenant: TenantID, _ signal: Signal, _ selectors: [[LabelMatcher]], range: ClosedRange<Int64>) throws(ObsError) {
        let names = selectors.map { $0.map { "\($0.name) \($0.value)" }.joined(separator: ",") }.joined(separator: ";")
        asked.read { $0.append("\(tenant) \(signal.rawValue) \(names) \(range)") }
    }
    func deletions(_ tenant: TenantID, _ signal: Signal) -> [DeletionRequest] {
        [
            DeletionRequest(
                id: "0000000000000001", createdNanos: 1_700_000_000_500_000_000, range: 1_600_000_000_000_000_000...1_600_000_001_250_000_000,
                queries: [signal == .logs ? #"{app="a"} |~ "x""# : #"{name="n"}"#], isCompleted: false),
            DeletionRequest(id: "0000000000000002", createdNanos: 1, range: 0...1, queries: ["{a=\"b\"}", "{c=\"d\"}"], isCompleted: true),
        ]
    }
    func cancelDeletion(_ tenant: TenantID, _ signal: Signal, id: String, force: Bool) throws(ObsError) {
        if id == "9" { throw ObsError(.notFound, "could not find delete request with given id") }
        asked.read { $0.append("cancel \(tenant) \(signal.rawValue) \(id) \(force)") }
    }
    func snapshot() throws(ObsError) -> String { "20231114T221320Z-0123456789abcdef" }
    func cleanTombstones() throws(ObsError) { asked.read { $0.append("clean") } }
}

/// The whole surface over a store in memory, without sockets. The clock stands at 1 700 000 000 s.
final class API {
    let store = InMemoryStore()
    let clock = ManualClock()
    let services: Services
    let routes: Routes
    private let router: Router

    init(tokens: String? = nil, tenancy: Authenticator.Tenancy = .single, limits: Limits = Limits(), notReady: String? = nil, externalLabels: Labels = .empty)
        throws
    {
        var runtime = RuntimeInfo()
        runtime.startedMillis = 1_699_999_990_000
        runtime.configuredMillis = 1_699_999_991_000
        runtime.retention = "30d"
        runtime.retentionMillis = 30 * 86_400_000
        runtime.memoryBytesMax = 1024
        runtime.flags = [("data", "/d"), ("retention", "30d")]
        let tails = TailHub(limits)
        let pipeline = IngestPipeline(appender: store, tails: tails, limits: limits, clock: clock)
        let promQL = PromQLEngine(reader: store, options: PromQLOptions())
        let sink = Sink(pipeline: pipeline)
        services = Services(
            clock: clock, limits: limits, authenticator: Authenticator(tokens: try tokens.map { try TokenFile(parsing: $0, path: "tokens") }, tenancy: tenancy),
            pipeline: pipeline, tails: tails, reader: store, store: NoStore(), promQL: promQL, logQL: LogQLEngine(reader: store),
            traceQL: TraceQLEngine(reader: store),
            rules: RuleManager(querier: PromQLQuerier(engine: promQL, limits: limits, clock: clock), sink: sink, clock: clock),
            scrapes: ScrapeManager(sink: sink, clock: clock), queries: WorkerPool(name: "query", threads: 2, queueMax: 16),
            operations: WorkerPool(name: "operation", threads: 1, queueMax: 16),
            lifecycle: Lifecycle(
                notReady: { notReady }, reload: { ObsError(.badInput, "bad file", place: "obsd.yml:3") }, configuration: { "global: {}\n" },
                runtime: { [runtime] in runtime }, externalLabels: { externalLabels }, alertmanagers: { ["http://am:9093/api/v2/alerts"] }),
            build: BuildInfo(version: "1.2.3", revision: "abc"))
        routes = Routes(services)
        router = routes.main()
    }

    deinit { services.queries.stop() }

    private struct Sink: ScrapeSink, RuleSampleSink {
        let pipeline: IngestPipeline
        func write(_ batch: MetricBatch) throws(ObsError) { _ = try pipeline.ingest(batch, tenant: .default) }
        func write(_ batch: MetricBatch, completion: @escaping @Sendable (ObsError?) -> Void) {
            pipeline.ingest(batch, tenant: .default) { result in
                if case .failure(let error) = result { completion(error) } else { completion(nil) }
            }
        }
    }

    func request(_ method: String, _ target: String, _ headers: [(String, String)] = [], body: [UInt8] = []) -> HTTPRequest {
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let path = String(parts[0])
        return HTTPRequest(
            method: method, path: percentDecode(path.utf8), rawPath: path, rawQuery: parts.count > 1 ? String(parts[1]) : "",
            headers: headers.map { (name: $0.0.lowercased(), value: $0.1) }, body: body)
    }

    /// Asks admission first, as the server does.
    @discardableResult
    func send(_ method: String, _ target: String, _ headers: [(String, String)] = [], body: [UInt8] = []) -> HTTPResponse {
        let request = request(method, target, headers, body: body)
        if let refusal = routes.admit(request) { return refusal }
        let responder = CollectingResponder()
        router.dispatch(request, responder)
        return responder.wait()
    }

    func get(_ target: String, _ headers: [(String, String)] = []) -> HTTPResponse { send("GET", target, headers) }

    func post(_ target: String, _ type: String, _ body: String, _ headers: [(String, String)] = []) -> HTTPResponse {
        send("POST", target, headers + [("Content-Type", type)], body: Array(body.utf8))
    }

    // MARK: Contents

    func push(_ streams: String) { XCTAssertEqual(post("/loki/api/v1/push", "application/json", #"{"streams":[\#(streams)]}"#).status, 204) }

    func write(_ samples: [(labels: [(String, String)], seconds: Double, value: Double)]) {
        XCTAssertEqual(send("POST", "/api/v1/write", [("Content-Type", "application/x-protobuf")], body: remoteWrite(samples)).status, 204)
    }
}

/// A snappy `WriteRequest`, a series a sample.
func remoteWrite(_ samples: [(labels: [(String, String)], seconds: Double, value: Double)]) -> [UInt8] {
    var writer = ProtobufWriter()
    for sample in samples {
        writer.message(1) { series in
            for (name, value) in sample.labels.sorted(by: { $0.0 < $1.0 }) {
                series.message(1) {
                    $0.string(1, name)
                    $0.string(2, value)
                }
            }
            series.message(2) {
                $0.double(1, sample.value)
                $0.int(2, Int64(sample.seconds * 1000))
            }
        }
    }
    return snappyCompress(writer.bytes)
}

extension HTTPResponse {
    var text: String { String(decoding: body, as: UTF8.self) }
    func header(_ name: String) -> String? { headers.first { $0.name.lowercased() == name }?.value }
    var type: String? { header("content-type") }
}

/// Percent-encodes a parameter.
func encoded(_ text: String) -> String { percentEncode(text) }

func assertAnswer(_ response: HTTPResponse, _ status: Int, _ text: String, file: StaticString = #filePath, line: UInt = #line) {
    XCTAssertEqual(response.status, status, response.text, file: file, line: line)
    XCTAssertEqual(response.text, text, file: file, line: line)
}
