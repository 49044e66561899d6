import Foundation
import ObsCore
import ObsNet
import ObsYAML
import Synchronization
import XCTest

@testable import ObsIngest

/// What 2,000 targets answer, by the number in their path: one of twenty never, one too much, one nonsense, one now and then, one more samples than it may.
private final class Crowd: Sendable {
    enum Kind: Int, CaseIterable {
        case silent = 0, huge, malformed, flapping, greedy

        /// Nil for those that behave.
        static func of(_ number: Int) -> Kind? { Kind(rawValue: number % 20) }
    }

    private let held = Mutex<[any HTTPResponder]>([])
    private let rounds = Mutex<[Int: Int]>([:])
    private let huge = Array("# ".utf8) + [UInt8](repeating: UInt8(ascii: "x"), count: 2 << 20) + Array("\nm 1\n".utf8)

    func handle(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let number = Int(request.path.dropFirst(3)) ?? 5
        func send(_ body: [UInt8], status: Int = 200) {
            responder.send(HTTPResponse(status: status, headers: [("Content-Type", "text/plain; version=0.0.4")], body: body))
        }
        switch Kind.of(number) {
        case .silent: held.withLock { $0.append(responder) }
        case .huge: send(huge)
        case .malformed: send(Array("m 1\nm{ 2\n".utf8))
        case .greedy: send((0..<50).flatMap { Array("m\($0) 1\n".utf8) })
        case .flapping:
            let round = rounds.withLock { rounds in
                rounds[number, default: 0] += 1
                return rounds[number] ?? 0
            }
            send(Array("m 1\n".utf8), status: round % 2 == 0 ? 503 : 200)
        case nil: send(Array("# TYPE m gauge\nm{x=\"1\"} 1\nm{x=\"2\"} 2\n".utf8))
        }
    }

    func release() {
        for responder in held.withLock({ $0 }) { responder.send(.text(200, "")) }
    }
}

/// Counts what comes of each target, and forgets the rest.
private final class Tally: ScrapeSink {
    struct Target {
        var good = 0
        var failed = 0
        var times: [Int64] = []
        var series = 0
    }

    let targets = Monitor<[Int: Target]>([:])

    func write(_ batch: MetricBatch, completion: @escaping @Sendable (ObsError?) -> Void) {
        targets.update { targets in
            for series in batch.series where series.sampleCount > 0 {
                let labels = batch.labels(of: series)
                guard let number = labels["n"].flatMap({ Int($0) }) else { continue }
                let value = batch.values[Int(series.firstSample)]
                if labels["__name__"] == "up" {
                    if value == 1 { targets[number, default: Target()].good += 1 } else { targets[number, default: Target()].failed += 1 }
                    targets[number]?.times.append(batch.timesMillis[Int(series.firstSample)])
                } else if labels["__name__"] == "m", !SpecialValue.isStale(value) {
                    targets[number, default: Target()].series += 1
                }
            }
        }
        completion(nil)
    }
}

final class ManyTargetsTests: XCTestCase {
    /// Nothing here depends on how fast the machine is: who behaves must have been scraped as often as the time that passed allows, in order, whatever others do.
    func testTwoThousandTargetsOfWhichAQuarterMisbehave() throws {
        let count = 2000
        let intervalMillis: Int64 = 4000
        let crowd = Crowd()
        var settings = HTTPServerConfiguration(name: "crowd", address: "127.0.0.1:0")
        settings.connectionsMax = 4000
        let server = try HTTPServer(settings) { crowd.handle($0, $1) }
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        for (name, isWanted) in [("good", { Crowd.Kind.of($0) == nil }), ("bad", { Crowd.Kind.of($0) != nil })] as [(String, (Int) -> Bool)] {
            let list = (0..<count).filter(isWanted).map {
                #"{"targets":["\#(server.address)"],"labels":{"n":"\#($0)","__metrics_path__":"/t/\#($0)"}}"#
            }
            try "[\(list.joined(separator: ","))]".write(to: folder.appendingPathComponent("\(name).json"), atomically: true, encoding: .utf8)
        }
        let yaml = """
            scrape_configs:
            - job_name: good
              scrape_interval: \(intervalMillis)ms
              file_sd_configs: [{files: ['\(folder.path)/good.json']}]
            - job_name: bad
              scrape_interval: \(intervalMillis)ms
              scrape_timeout: 2s
              sample_limit: 20
              body_size_limit: 1MB
              file_sd_configs: [{files: ['\(folder.path)/bad.json']}]
            """
        let memory = MemoryBudget(MemoryShares(ceilingBytes: 256 << 20)).ingest
        let tally = Tally()
        let manager = ScrapeManager(sink: tally, memory: memory)
        manager.apply(try PrometheusConfiguration(YAMLMapping(YAMLNode.parse(yaml)), directory: ".").scrapes)
        XCTAssertEqual(manager.status().active.count, count)
        manager.start()
        let wellBehaved = (0..<count).filter { Crowd.Kind.of($0) == nil }
        // Every one of them three times; the others cannot hold them up.
        let seen = tally.targets.wait(timeoutNanos: 240 * nanosPerSecond) { targets in
            wellBehaved.allSatisfy { (targets[$0]?.times.count ?? 0) >= 3 } ? targets : nil
        }
        let usedAtMost = memory.usedBytes
        manager.stop()
        crowd.release()
        server.stop(drainMillis: 1000)
        let targets = try XCTUnwrap(seen, "well-behaved targets were not scraped three times")
        XCTAssertLessThanOrEqual(usedAtMost, memory.bytesMax)
        XCTAssertEqual(memory.usedBytes, 0)

        let rounds = wellBehaved.map { targets[$0]?.times.count ?? 0 }
        XCTAssertLessThanOrEqual((rounds.max() ?? 0) - (rounds.min() ?? 0), 2, "some were scraped far more often than others")
        for number in wellBehaved {
            guard let target = targets[number] else { return XCTFail("\(number) was never scraped") }
            XCTAssertEqual(target.times, target.times.sorted(), "\(number)")
            XCTAssertEqual(Set(target.times).count, target.times.count, "\(number)")
            XCTAssertGreaterThanOrEqual(target.series, 2 * (target.good - 1), "\(number)")
        }
        // A machine under load may let a scrape time out.
        XCTAssertLessThan(wellBehaved.reduce(0) { $0 + (targets[$1]?.failed ?? 0) }, rounds.reduce(0, +) / 10)
        for (number, target) in targets {
            switch Crowd.Kind.of(number) {
            case .silent, .huge, .malformed, .greedy: XCTAssertEqual(target.good, 0, "\(number)")
            case .flapping: XCTAssertGreaterThanOrEqual(target.good, target.failed, "\(number)")
            case nil: break
            }
        }
        XCTAssertEqual(targets.count, count)
    }
}
