import Glibc
import ObsCore
import ObsIngest
import ObsNet
import ObsYAML
import Synchronization

/// Targets in this process, by the number in their path: of twenty one never answers, one answers 8 MB, one nonsense, one is down every other time, one
/// has more samples than it may, and fifteen have 200 series each.
private final class Targets: Sendable {
    private let arrivals: Mutex<[[Int64]]>
    private let held = Mutex<[any HTTPResponder]>([])
    private let good: [UInt8]
    private let huge = Array("# ".utf8) + [UInt8](repeating: UInt8(ascii: "x"), count: 8 << 20) + Array("\nm 1\n".utf8)
    private let greedy = (0..<5000).flatMap { Array("m\($0) 1\n".utf8) }

    init(_ count: Int) {
        arrivals = Mutex([[Int64]](repeating: [], count: count))
        good =
            Array("# TYPE http_requests_total counter\n".utf8)
            + (0..<200).flatMap { Array("http_requests_total{route=\"/api/v1/things/\($0)\",code=\"200\"} \($0 * 17)\n".utf8) }
    }

    static func isGood(_ number: Int) -> Bool { number % 20 >= 5 }

    func handle(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let now = SystemClock().monotonicNanos()
        let number = Int(request.path.dropFirst(3)) ?? 5
        let round = arrivals.withLock { arrivals in
            arrivals[number].append(now)
            return arrivals[number].count
        }
        func send(_ body: [UInt8], _ status: Int = 200) {
            responder.send(HTTPResponse(status: status, headers: [("Content-Type", "text/plain; version=0.0.4")], body: body))
        }
        switch number % 20 {
        case 0: held.withLock { $0.append(responder) }
        case 1: send(huge)
        case 2: send(Array("m 1\nm{ 2\n".utf8))
        case 3: send(good, round % 2 == 0 ? 503 : 200)
        case 4: send(greedy)
        default: send(good)
        }
    }

    /// Milliseconds that requests of well-behaved targets came after the earliest they could have, going by each target's own best round.
    func lateMillis(intervalNanos: Int64) -> [Double] {
        arrivals.withLock { arrivals in
            var late: [Double] = []
            for number in arrivals.indices where Self.isGood(number) {
                let offsets = arrivals[number].enumerated().map { $1 - Int64($0) * intervalNanos }
                guard offsets.count > 1, let best = offsets.min() else { continue }
                late += offsets.map { Double($0 - best) / 1e6 }
            }
            return late.sorted()
        }
    }

    func rounds() -> (fewest: Int, most: Int) {
        arrivals.withLock { arrivals in
            let counts = arrivals.indices.filter { Self.isGood($0) }.map { arrivals[$0].count }
            return (counts.min() ?? 0, counts.max() ?? 0)
        }
    }

    func release() {
        for responder in held.withLock({ $0 }) { responder.send(.text(200, "")) }
    }
}

private final class Counter: ScrapeSink {
    let samples = Atomic<Int>(0)
    func write(_ batch: MetricBatch, completion: @escaping @Sendable (ObsError?) -> Void) {
        samples.wrappingAdd(batch.sampleCount, ordering: .relaxed)
        completion(nil)
    }
}

func benchmarkScrapes(targets count: Int, intervalSeconds: Int, rounds: Int) {
    do throws(ObsError) {
        let targets = Targets(count)
        var settings = HTTPServerConfiguration(name: "targets", address: "127.0.0.1:0")
        settings.connectionsMax = count * 2
        let server = try HTTPServer(settings) { targets.handle($0, $1) }
        let groups = (0..<count).map { "{targets: ['\(server.address)'], labels: {n: '\($0)', __metrics_path__: '/t/\($0)'}}" }
        let yaml = """
            scrape_configs:
            - job_name: crowd
              scrape_interval: \(intervalSeconds)s
              scrape_timeout: \(max(1, intervalSeconds * 2 / 3))s
              sample_limit: 1000
              body_size_limit: 1MB
              static_configs: [\(groups.joined(separator: ", "))]
            """
        let sink = Counter()
        let manager = ScrapeManager(sink: sink, memory: MemoryBudget(MemoryShares(ceilingBytes: 512 << 20)).ingest)
        manager.apply(try PrometheusConfiguration(YAMLMapping(YAMLNode.parse(yaml)), directory: ".").scrapes)
        let began = processorSeconds()
        manager.start()
        sleep(UInt32(intervalSeconds * rounds + intervalSeconds / 2))
        let processor = processorSeconds() - began
        let seen = targets.rounds()
        let late = targets.lateMillis(intervalNanos: Int64(intervalSeconds) * nanosPerSecond)
        manager.stop()
        targets.release()
        server.stop(drainMillis: 1000)
        func quantile(_ share: Double) -> Double { late.isEmpty ? 0 : late[min(late.count - 1, Int(Double(late.count) * share))] }
        print(
            "\(count) targets every \(intervalSeconds) s, a quarter of them misbehaving; \(late.count) scrapes of the others, \(seen.fewest) to \(seen.most) each"
        )
        print(
            "late by p50 \(shown(quantile(0.5))) ms, p99 \(shown(quantile(0.99))) ms, p99.9 \(shown(quantile(0.999))) ms, at most \(shown(late.last ?? 0)) ms")
        let most = SelfMetrics.snapshot().first { $0.name == "obs_scrape_lateness_seconds_max" }?.series.first?.value() ?? 0
        print("begun late by at most \(shown(most * 1000)) ms, by its own clock")
        print(
            "\(sink.samples.load(ordering: .relaxed)) samples; \(shown(processor)) s of processor with the targets in the same process; \(peakMegabytes()) MB at the peak"
        )
    } catch {
        print("failed: \(error.description)")
        exit(1)
    }
}

private func shown(_ value: Double) -> String { "\((value * 100).rounded() / 100)" }

private func processorSeconds() -> Double {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
}

private func peakMegabytes() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss / 1024
}
