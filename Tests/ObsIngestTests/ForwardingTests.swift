import Foundation
import ObsCompress
import ObsCore
import ObsDisk
import ObsNet
import ObsQueue
import ObsStore
import ObsTestSupport
import ObsWire
import ObsYAML
import Synchronization
import XCTest

@testable import ObsIngest

/// A receiver that answers as it is told and remembers what it took.
private final class Receiver: Sendable {
    struct State {
        /// `name@time value`, in the order they were taken.
        var taken: [String] = []
        var metadata: [String] = []
        var histograms = 0
        var exemplars = 0
        var requests = 0
        var attempts: [String] = []
        var versions: [String] = []
        var headers: [String: String] = [:]
        /// Status and headers of the next answers; then 204.
        var answers: [(status: Int, headers: [(name: String, value: String)])] = []
        /// What 2.0 says it has written less than it was sent.
        var unwritten = 0
    }

    let state = Monitor(State())

    func handle(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let answer = state.update { state -> HTTPResponse in
            state.requests += 1
            for header in request.headers { state.headers[header.name] = header.value }
            state.attempts.append(request.header("retry-attempt") ?? "0")
            let version = request.header("x-prometheus-remote-write-version") ?? ""
            state.versions.append(version)
            if !state.answers.isEmpty {
                let next = state.answers.removeFirst()
                if next.status != 204 { return HTTPResponse(status: next.status, headers: next.headers, body: Array("no".utf8)) }
            }
            guard let body = try? decompress(request.body, .snappy, decodedBytesMax: 1 << 24),
                let batch = try? version == "2.0.0"
                    ? PrometheusRemoteWrite2.decode(body, limits: Limits()).batch : PrometheusRemoteWrite.decode(body, limits: Limits()).batch
            else { return .text(400, "malformed") }
            take(batch, &state)
            if version != "2.0.0" { return HTTPResponse(status: 204) }
            return HTTPResponse(
                status: 204,
                headers: [
                    ("X-Prometheus-Remote-Write-Samples-Written", String(batch.timesMillis.count - state.unwritten)),
                    ("X-Prometheus-Remote-Write-Histograms-Written", String(batch.histograms.count)),
                ])
        }
        responder.send(answer)
    }

    private func take(_ batch: MetricBatch, _ state: inout State) {
        for series in batch.series {
            let labels = batch.labels(of: series)
            for sample in Int(series.firstSample)..<Int(series.firstSample) + Int(series.sampleCount) {
                state.taken.append("\(labels)@\(batch.timesMillis[sample]) \(formatSampleValue(batch.values[sample]))")
            }
        }
        state.histograms += batch.histograms.count
        state.exemplars += batch.exemplars.count
        for entry in batch.metadata { state.metadata.append("\(batch.bytes.string(entry.family)) \(entry.type.word)") }
    }

    func wait(_ what: String = "", seconds: Int64 = 30, _ isWanted: @escaping (State) -> Bool) -> State? {
        state.wait(timeoutNanos: seconds * nanosPerSecond) { isWanted($0) ? $0 : nil }
    }
}

private struct Queues: BatchQueues {
    let disk: MemoryFileSystem
    var bytesMax = 1 << 20

    func open(_ receiver: String) throws(ObsError) -> any BatchQueue {
        try DiskBatchQueue(disk, folder: "rw/" + receiver, bytesMax: bytesMax, fileBytesMax: 4096)
    }

    func keep(only receivers: Set<String>) throws(ObsError) {
        for name in try disk.list("rw") where !receivers.contains(name) {
            for file in try disk.list("rw/" + name) { try disk.remove("rw/\(name)/\(file)") }
            try disk.removeDirectory("rw/" + name)
        }
    }
}

final class ForwardingTests: XCTestCase {
    private func entries(_ yaml: String, address: String) throws -> [RemoteWriteConfiguration] {
        let root = try YAMLMapping(YAMLNode.parse(yaml.replacingOccurrences(of: "URL", with: "http://\(address)/write")))
        let global = try PrometheusConfiguration(root, directory: ".").global
        let result = try RemoteWriteConfigurations(root.sequence("remote_write"), global: global, directory: ".")
        try root.finish()
        return result.entries
    }

    private func batch(_ value: Int, _ names: [String] = ["m"]) -> MetricBatch {
        var batch = MetricBatch()
        for name in names { batch.append(Labels([("__name__", name)]), timeMillis: Int64(value), value: Double(value)) }
        return batch
    }

    private func eventually(_ isTrue: () -> Bool) -> Bool {
        let deadline = Date().addingTimeInterval(30)
        while !isTrue(), Date() < deadline { usleep(2000) }
        return isTrue()
    }

    private let fast = "queue_config: {batch_send_deadline: 10ms, min_backoff: 5ms, max_backoff: 20ms}"

    private func run(_ yaml: String, disk: MemoryFileSystem = MemoryFileSystem(), _ body: (Receiver, Forwarding, String) throws -> Void) throws {
        let receiver = Receiver()
        let server = try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0"), handle: { receiver.handle($0, $1) })
        let forwarding = Forwarding(queues: Queues(disk: disk))
        try forwarding.apply(entries(yaml, address: server.address))
        try body(receiver, forwarding, server.address)
        forwarding.stop()
        server.stop(drainMillis: 100)
    }

    func testEverythingArrivesInOrder() throws {
        try run("remote_write: [{url: 'URL', \(fast)}]") { receiver, forwarding, _ in
            for value in 1...100 { forwarding.take(batch(value)) }
            let state = try XCTUnwrap(receiver.wait { $0.taken.count >= 100 })
            XCTAssertEqual(state.taken, (1...100).map { "{__name__=\"m\"}@\($0) \($0)" })
            XCTAssertEqual(state.headers["content-encoding"], "snappy")
            XCTAssertEqual(state.headers["content-type"], "application/x-protobuf")
            XCTAssertEqual(state.headers["x-prometheus-remote-write-version"], "0.1.0")
            XCTAssertTrue(eventually { forwarding.receivers[0].queue.status.samples == 0 })
        }
    }

    func testRequestsKeepToTheirSizeAndSeriesToTheirShard() throws {
        try run("remote_write: [{url: 'URL', queue_config: {max_samples_per_send: 50, min_shards: 4, max_shards: 4, batch_send_deadline: 50ms}}]") {
            receiver, forwarding, _ in
            let names = (0..<40).map { "m\($0)" }
            for value in 1...50 { forwarding.take(batch(value, names)) }
            let state = try XCTUnwrap(receiver.wait { $0.taken.count >= 2000 })
            XCTAssertEqual(state.taken.count, 2000)
            XCTAssertGreaterThanOrEqual(state.requests, 40)
            for name in names {
                XCTAssertEqual(state.taken.filter { $0.hasPrefix("{__name__=\"\(name)\"}") }, (1...50).map { "{__name__=\"\(name)\"}@\($0) \($0)" })
            }
        }
    }

    func testWhatFailsIsTriedAgainAndWhatIsRefusedIsNot() throws {
        try run("remote_write: [{url: 'URL', \(fast), metadata_config: {send: false}}]") { receiver, forwarding, _ in
            receiver.state.update { $0.answers = [(503, []), (500, []), (503, [("Retry-After", "1")])] }
            let began = SystemClock().monotonicNanos()
            forwarding.take(batch(1))
            let first = try XCTUnwrap(receiver.wait { $0.taken.count == 1 })
            XCTAssertEqual(first.attempts, ["0", "1", "2", "3"])
            XCTAssertGreaterThanOrEqual(SystemClock().monotonicNanos() - began, nanosPerSecond)
            XCTAssertEqual(forwarding.receivers[0].counts.retriedSamples, 3)
            receiver.state.update { $0.answers = [(400, [])] }
            forwarding.take(batch(2))
            XCTAssertNotNil(receiver.wait { $0.answers.isEmpty })
            forwarding.take(batch(3))
            XCTAssertEqual(try XCTUnwrap(receiver.wait { $0.taken.count == 2 }).taken.last, "{__name__=\"m\"}@3 3")
            // Too many requests are retried only where configured.
            receiver.state.update { $0.answers = [(429, [])] }
            forwarding.take(batch(4))
            XCTAssertNotNil(receiver.wait { $0.answers.isEmpty })
            forwarding.take(batch(5))
            XCTAssertEqual(try XCTUnwrap(receiver.wait { $0.taken.count == 3 }).taken.last, "{__name__=\"m\"}@5 5")
            XCTAssertTrue(eventually { forwarding.receivers[0].counts.sentSamples == 3 })
            XCTAssertEqual(forwarding.receivers[0].counts.failedSamples, 2)
        }
    }

    func testRateLimitsAreRetriedWhereConfigured() throws {
        try run("remote_write: [{url: 'URL', queue_config: {batch_send_deadline: 5ms, retry_on_http_429: true}, metadata_config: {send: false}}]") {
            receiver, forwarding, _ in
            receiver.state.update { $0.answers = [(429, []), (429, [])] }
            forwarding.take(batch(1))
            XCTAssertEqual(try XCTUnwrap(receiver.wait { !$0.taken.isEmpty }).attempts, ["0", "1", "2"])
        }
    }

    func testARestartSendsWhatWasQueued() throws {
        let disk = MemoryFileSystem()
        let yaml = "remote_write: [{url: 'URL', name: r, \(fast)}]"
        // Nobody listens at first.
        let away = Forwarding(queues: Queues(disk: disk))
        try away.apply(entries(yaml, address: "127.0.0.1:1"))
        for value in 1...20 { away.take(batch(value)) }
        away.stop()
        try run(yaml, disk: disk) { receiver, forwarding, _ in
            forwarding.take(batch(21))
            let state = try XCTUnwrap(receiver.wait { $0.taken.count >= 21 })
            XCTAssertEqual(state.taken, (1...21).map { "{__name__=\"m\"}@\($0) \($0)" })
        }
    }

    func testAChangedEntryKeepsItsQueueAndAGoneOneLosesIt() throws {
        let disk = MemoryFileSystem()
        try run("remote_write: [{url: 'http://127.0.0.1:1/', name: a, \(fast)}]", disk: disk) { receiver, forwarding, address in
            for value in 1...5 { forwarding.take(batch(value)) }
            try forwarding.apply(
                entries("remote_write: [{url: 'URL', name: a, send_exemplars: true, \(fast)}, {url: 'http://127.0.0.1:1/'}]", address: address))
            XCTAssertEqual(try XCTUnwrap(receiver.wait { $0.taken.count >= 5 }).taken, (1...5).map { "{__name__=\"m\"}@\($0) \($0)" })
            XCTAssertEqual(try disk.list("rw").count, 2)
            try forwarding.apply([])
            XCTAssertEqual(try disk.list("rw").count, 0)
            XCTAssertFalse(forwarding.isActive)
        }
    }

    func testRelabelingExternalLabelsAndParts() throws {
        var given = batch(1, ["keep", "drop"])
        given.exemplars = [.init(series: 0, labels: given.bytes.intern(Labels([("t", "1")]).bytes), value: 1, timeMillis: 1)]
        let layout = given.histograms.intern(
            HistogramLayout(schema: 0, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: 0, length: 1)], negative: []))
        given.histograms.append(timeMillis: 1, layout: layout, count: 1, zeroCount: 0, sum: 1, buckets: [1])
        given.histogramSeries = [2]
        given.series.append(.init(labels: given.bytes.intern(Labels([("__name__", "h")]).bytes), firstSample: 2, sampleCount: 0))
        let yaml = """
            global: {external_labels: {region: eu, replica: a}}
            remote_write:
            - url: 'URL'
              \(fast)
              write_relabel_configs: [{source_labels: [__name__], regex: drop, action: drop}, {regex: replica, action: labeldrop}]
            """
        try run(yaml) { receiver, forwarding, _ in
            forwarding.take(given)
            let state = try XCTUnwrap(receiver.wait { !$0.taken.isEmpty })
            XCTAssertEqual(state.taken, ["{__name__=\"keep\", region=\"eu\"}@1 1"])
            XCTAssertEqual([state.exemplars, state.histograms], [0, 0])
        }
        try run(yaml + "\n  send_exemplars: true\n  send_native_histograms: true\n  protobuf_message: io.prometheus.write.v2.Request\n") {
            receiver, forwarding, _ in
            forwarding.take(given)
            let state = try XCTUnwrap(receiver.wait { !$0.taken.isEmpty })
            XCTAssertEqual([state.exemplars, state.histograms], [1, 1])
            XCTAssertEqual(state.versions, ["2.0.0"])
            XCTAssertEqual(state.headers["content-type"], "application/x-protobuf;proto=io.prometheus.write.v2.Request")
        }
    }

    func testVersion2SaysWhatIsWritten() throws {
        try run("remote_write: [{url: 'URL', protobuf_message: io.prometheus.write.v2.Request, \(fast)}]") { receiver, forwarding, _ in
            receiver.state.update { $0.unwritten = 1 }
            forwarding.take(batch(1, ["a", "b", "c"]))
            XCTAssertNotNil(receiver.wait { $0.taken.count == 3 })
            XCTAssertTrue(eventually { forwarding.receivers[0].counts.failedSamples == 1 })
            XCTAssertEqual(forwarding.receivers[0].counts.sentSamples, 2)
        }
    }

    func testAReceiverThatDoesNotKnowVersion2GetsVersion1() throws {
        try run("remote_write: [{url: 'URL', protobuf_message: io.prometheus.write.v2.Request, \(fast), metadata_config: {send: false}}]") {
            receiver, forwarding, _ in
            receiver.state.update { $0.answers = [(415, [])] }
            for value in 1...3 { forwarding.take(batch(value)) }
            let state = try XCTUnwrap(receiver.wait { $0.taken.count >= 3 })
            XCTAssertEqual(Set(state.taken), Set((1...3).map { "{__name__=\"m\"}@\($0) \($0)" }))
            XCTAssertEqual(state.versions.first, "2.0.0")
            XCTAssertEqual(state.versions.last, "0.1.0")
            XCTAssertEqual(forwarding.receivers[0].counts.failedSamples, 0)
        }
    }

    func testMetadata() throws {
        var given = batch(1)
        given.metadata = [.init(family: given.bytes.intern(Array("m".utf8)), type: .gauge, help: .empty, unit: .empty)]
        try run("remote_write: [{url: 'URL', \(fast), metadata_config: {send_interval: 20ms}}]") { receiver, forwarding, _ in
            forwarding.take(given)
            let state = try XCTUnwrap(receiver.wait { $0.metadata.count >= 3 })
            XCTAssertEqual(Set(state.metadata), ["m gauge"])
        }
    }

    func testAgesAndBounds() throws {
        let clock = ManualClock(nowMillis: 1_000_000)
        let queue = try DiskBatchQueue(MemoryFileSystem(), folder: "q", bytesMax: 1 << 20)
        var requests = RemoteWriteRequests(.version1, shards: 1, samplesMax: 10, oldestMillis: 500, family: { _ in nil })
        requests.add(batch(499))
        requests.add(batch(500))
        XCTAssertEqual(requests.tooOld, 1)
        XCTAssertEqual(requests.take().flatMap { $0 }.map(\.samples), [1])
        let receiver = Receiver()
        let server = try HTTPServer(HTTPServerConfiguration(name: "test", address: "127.0.0.1:0"), handle: { receiver.handle($0, $1) })
        try queue.append(batch(1), nowMillis: 1000)
        try queue.append(batch(2), nowMillis: 999_000)
        let loop = HTTPClientLoop(name: "test-loop")
        let sender = RemoteWriteSender(
            try entries("remote_write: [{url: 'URL', \(fast)}]", address: server.address)[0], queue: queue, queueAgeMillis: 60_000,
            families: ForwardedFamilies(),
            loop: loop, clock: clock, userAgent: "test")
        XCTAssertEqual(receiver.wait { !$0.taken.isEmpty }?.taken, ["{__name__=\"m\"}@2 2"])
        sender.interrupt()
        sender.join()
        XCTAssertEqual(sender.counts.droppedSamples, 1)
        loop.stop()
        server.stop(drainMillis: 100)
    }

    func testErrorsNameTheirPlace() {
        func fails(_ yaml: String, _ expected: String, line: UInt = #line) {
            XCTAssertThrowsError(try entries(yaml, address: "x"), line: line) { XCTAssertEqual(($0 as? ObsError)?.message, expected, line: line) }
        }
        fails("remote_write:\n- url: 'ftp://x'", "remote_write[0].url (line 2): must begin with http:// or https://")
        fails("remote_write:\n- url: 'http://x'\n  queue_config: {max_shard: 1}", "remote_write[0].queue_config.max_shard (line 3): unknown key \"max_shard\"")
        fails(
            "remote_write:\n- url: 'http://x'\n- url: 'http://x'",
            "remote_write[1] (line 3): \"http://x\" is written to by another entry; give each a name of its own")
        fails("remote_write: [{url: 'http://x', headers: {Content-Type: x}}]", "remote_write[0].headers (line 1): header \"Content-Type\" cannot be set here")
        fails(
            "remote_write: [{url: 'http://x', protobuf_message: y}]",
            "remote_write[0].protobuf_message (line 1): unknown message \"y\"; known are prometheus.WriteRequest and io.prometheus.write.v2.Request")
        fails(
            "remote_write: [{url: 'http://x', queue_config: {min_shards: 9, max_shards: 3}}]",
            "remote_write[0].queue_config.max_shards (line 1): max_shards is less than min_shards")
    }

    // MARK: - Where batches leave the pipeline

    func testRequestsAreQueuedBeforeTheirAnswer() throws {
        let disk = MemoryFileSystem()
        let forwarding = Forwarding(queues: Queues(disk: disk))
        try forwarding.apply(entries("remote_write: [{url: 'http://127.0.0.1:1/', \(fast)}]", address: ""))
        let pipeline = IngestPipeline(appender: InMemoryStore(), tails: TailHub(), limits: Limits(), clock: ManualClock(), forwarding: forwarding)
        var encoder = RemoteWriteEncoder(.version2)
        encoder.add(batch(5), series: 0, rows: [], exemplars: [])
        let request = RawRequest(format: .remoteWrite2, compression: .snappy, body: snappyCompress(encoder.message()))
        @Sendable func samples() -> Int { forwarding.receivers[0].queue.status.samples }
        for (tenant, expected) in [(TenantID.default, 1), (try TenantID("other"), 1)] {
            let seen = Monitor<Int?>(nil)
            pipeline.ingest(request, tenant: tenant) { result in
                XCTAssertEqual((try? result.get())?.rejected, 0)
                seen.update { $0 = samples() }
            }
            XCTAssertEqual(seen.wait(timeoutNanos: 20 * nanosPerSecond) { $0 }, expected, tenant.name)
        }
        // What nobody sends again is queued even when the store refuses it.
        struct Refusing: Appender {
            func append(_ batch: MetricBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {
                completion(.failure(ObsError(.overloaded, "full")))
            }
            func append(_ batch: LogBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {}
            func append(_ batch: SpanBatch, origin: WriteOrigin, completion: @escaping @Sendable (Result<AppendOutcome, ObsError>) -> Void) {}
        }
        let refused = IngestPipeline(appender: Refusing(), tails: TailHub(), limits: Limits(), clock: ManualClock(), forwarding: forwarding)
        XCTAssertThrowsError(try refused.ingest(batch(6), tenant: .default))
        XCTAssertEqual(samples(), 2)
        // A request that is refused is sent again by its sender.
        let answered = Monitor(false)
        refused.ingest(request, tenant: .default) { _ in answered.update { $0 = true } }
        XCTAssertNotNil(answered.wait(timeoutNanos: 20 * nanosPerSecond) { $0 ? () : nil })
        XCTAssertEqual(samples(), 2)
        forwarding.stop()
    }
}
