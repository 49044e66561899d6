// How long scans of a settled data folder take: `swift build -c release --product scans && .build/release/scans metrics DATA_DIR`.
// The folder is opened as obsd does, so no obsd may have it; nothing is written to it.
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

func now() -> Double { Double(SystemClock().monotonicNanos()) / 1e9 }

/// Runs a scan a few times, cold first, and prints what it found.
func time(_ name: String, rounds: Int = 5, _ body: () throws(ObsError) -> String) throws(ObsError) {
    var millis: [Double] = []
    var found = ""
    for _ in 0..<rounds {
        let start = now()
        found = try body()
        millis.append((now() - start) * 1000)
    }
    func text(_ value: Double) -> String { "\((value * 10).rounded() / 10)" }
    print("\(name): cold \(text(millis[0])) ms, warm \(text(millis.dropFirst().sorted()[(rounds - 1) / 2])) ms; \(found)")
}

func run() throws(ObsError) {
    let arguments = CommandLine.arguments
    guard arguments.count == 3 else {
        print("usage: scans metrics DATA_DIR")
        return
    }
    var configuration = EngineConfiguration(dataDirectory: arguments[2])
    configuration.maintainsItself = false
    let engine = try StorageEngine.open(configuration, decoder: NoRequests())
    defer { engine.close() }
    switch arguments[1] {
    case "metrics": try scanMetrics(engine)
    default: print("no scans of \(arguments[1])")
    }
}

do throws(ObsError) { try run() } catch { print("\(error)") }
