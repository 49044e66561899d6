// How long scans of a settled data folder take: `swift build -c release --product scans && .build/release/scans metrics|promql|logs|traces DATA_DIR`.
// A third word picks the scans with it in their name. The folder is opened as obsd does, so no obsd may have it; nothing is written to it, but by `promql` to an empty
// one.
import Glibc
import ObsCore
import ObsDisk
import ObsEngine
import ObsStore

/// The folder is settled: no request is left in its log.
private struct NoRequests: RequestDecoder {
    func decode(_ request: RawRequest, receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> DecodedBatch {
        throw ObsError(.badInput, "the folder is not settled: requests are in its log")
    }
}

private func millis(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) * 1e3 + Double(time.tv_nsec) / 1e6
}

/// Runs a scan a few times, cold first, and prints what it found: wall clock, and the processor's milliseconds, which hold still on a busy machine.
func time(_ name: String, rounds: Int = 7, _ body: () throws(ObsError) -> String) throws(ObsError) {
    if CommandLine.arguments.count > 3, !name.contains(CommandLine.arguments[3]) { return }
    var walls: [Double] = []
    var processor: [Double] = []
    var found = ""
    for _ in 0..<rounds {
        let (wall, cpu) = (millis(CLOCK_MONOTONIC), millis(CLOCK_PROCESS_CPUTIME_ID))
        found = try body()
        walls.append(millis(CLOCK_MONOTONIC) - wall)
        processor.append(millis(CLOCK_PROCESS_CPUTIME_ID) - cpu)
    }
    func text(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
    func median(_ values: [Double]) -> String { text(values.dropFirst().sorted()[(rounds - 1) / 2]) }
    print("\(name): first \(text(walls[0])) ms, then \(median(walls)) ms, processor \(median(processor)) ms; \(found)")
}

func run() throws(ObsError) {
    let arguments = CommandLine.arguments
    guard arguments.count >= 3 else {
        print("usage: scans metrics|promql|logs|traces DATA_DIR [WORD]")
        return
    }
    var configuration = EngineConfiguration(dataDirectory: arguments[2])
    configuration.maintainsItself = false
    configuration.retentionMillis = nil
    configuration.cacheBytesMax = 512 << 20
    configuration.scanThreads = 1
    let engine = try StorageEngine.open(configuration, decoder: NoRequests())
    defer { engine.close() }
    switch arguments[1] {
    case "metrics": try scanMetrics(engine)
    case "promql": try askPromQL(engine)
    case "logs": try scanLogs(engine)
    case "traces": try scanTraces(engine)
    default: print("no scans of \(arguments[1])")
    }
}

do throws(ObsError) { try run() } catch { print("\(error)") }
