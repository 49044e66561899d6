internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsIngest
internal import ObsStore
internal import ObsTestSupport
import XCTest

/// Replay decides by the limits of the run that took a record.
final class EpochTests: EngineTestCase {
    private func limits(_ labelsMax: Int, lineBytesMax: Int = 8 << 20) -> Limits {
        var limits = Limits()
        limits.labelsMax = labelsMax
        limits.lineBytesMax = lineBytesMax
        return limits
    }

    private func open(_ root: String, _ disk: FaultyFileSystem, _ limits: Limits) throws -> StorageEngine {
        try open(root, disk, retentionMillis: nil) { $0.limits = limits }
    }

    private func epochs(_ disk: FaultyFileSystem, _ root: String) throws -> [String] {
        let text = String(decoding: try disk.readAll(root + "/wal/epochs"), as: UTF8.self)
        return text.split(separator: "\n").dropFirst().dropLast().map(String.init)
    }

    /// Series of 1...6 labels beside their name; how many are taken is the limits' to say.
    private func fill(_ engine: StorageEngine, _ name: String) throws -> AppendOutcome {
        var batch = MetricBatch()
        for count in 1...6 {
            let labels = [("__name__", "\(name)\(count)")] + (0..<count).map { ("l\($0)", "v") }
            batch.append(Labels(labels), timeMillis: 1, value: Double(count))
        }
        return try engine.appendAndWait(batch, origin: origin())
    }

    private func crash(_ root: String, _ disk: FaultyFileSystem, _ engine: StorageEngine) -> (root: String, disk: FaultyFileSystem) {
        var random = SplitMix(state: 1)
        let other = makeRoot()
        let left = disk.afterPowerCut(from: root, to: other, using: &random)
        engine.close()
        return (other, left)
    }

    /// A start enters its limits, fails before their file's name is durable, and is tried again; then the power goes.
    func testLimitsEnteredByAStartThatFailed() throws {
        for state in 1...8 as ClosedRange<UInt64> {
            let root = makeRoot()
            let disk = FaultyFileSystem()
            let engine = try open(root, disk, limits(4))
            _ = try fill(engine, "a")
            let first = crash(root, disk, engine)
            first.disk.watch { $0.operation == .syncDirectory && $0.path.hasSuffix("/wal") ? .inputOutput : nil }
            XCTAssertThrowsError(try open(first.root, first.disk, limits(2)))
            first.disk.watch(nil)
            let second = try open(first.root, first.disk, limits(2))
            XCTAssertEqual(try fill(second, "b").accepted, 1)
            let both = try read(second)
            var random = SplitMix(state: state)
            let other = makeRoot()
            let left = first.disk.afterPowerCut(from: first.root, to: other, using: &random)
            second.close()
            let third = try open(other, left, limits(100))
            XCTAssertEqual(try read(third), both, "\(state)")
            third.close()
        }
    }

    func testSameContentUnderOtherLimits() throws {
        for other in [limits(2), limits(100)] {
            let root = makeRoot()
            let disk = FaultyFileSystem()
            let engine = try open(root, disk, limits(4))
            XCTAssertEqual(try fill(engine, "a").rejected, 3)
            let before = try read(engine)
            XCTAssertEqual(before.keys.sorted(), ["a1", "a2", "a3"])
            // A second run with its own decisions, then a third with the first one's.
            let first = crash(root, disk, engine)
            let second = try open(first.root, first.disk, other)
            XCTAssertEqual(try read(second), before)
            XCTAssertEqual(try fill(second, "b").accepted, other.labelsMax == 2 ? 1 : 6)
            let both = try read(second)
            XCTAssertEqual(try epochs(first.disk, first.root).map { $0.prefix(3) }, ["1 4", "2 \(other.labelsMax)"].map { ($0 + " ").prefix(3) })
            let left = crash(first.root, first.disk, second)
            let third = try open(left.root, left.disk, limits(4))
            XCTAssertEqual(try read(third), both)
            XCTAssertEqual(try epochs(left.disk, left.root).count, 3)
            // A clean stop leaves no log, and no need to remember.
            third.close()
            let fourth = try open(left.root, left.disk, limits(5))
            XCTAssertEqual(try epochs(left.disk, left.root).count, 1)
            XCTAssertEqual(try read(fourth), both)
            fourth.close()
            let same = try open(left.root, left.disk, limits(5))
            XCTAssertEqual(try epochs(left.disk, left.root).count, 1)
            same.close()
        }
    }

    /// Requests are decoded again, and the decoder leaves rows out as well.
    func testDecodersDecideByTheEpochToo() throws {
        func open(_ root: String, _ disk: FaultyFileSystem, _ limits: Limits) throws -> StorageEngine {
            var configuration = EngineConfiguration(dataDirectory: root, retentionMillis: nil)
            configuration.limits = limits
            return try StorageEngine.open(configuration, fileSystem: disk, clock: clock, decoder: WireDecoder(limits: limits))
        }
        let body = [UInt8](#"{"streams":[{"stream":{"a":"b"},"values":[["1","short"],["2","a line that is longer"]]}]}"#.utf8)
        let request = RawRequest(format: .lokiJSON, compression: .none, body: body)
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk, limits(9, lineBytesMax: 10))
        guard
            case .logs(let batch) = try WireDecoder(limits: limits(9, lineBytesMax: 10)).decode(
                request, receivedAtNanos: 1, limits: limits(9, lineBytesMax: 10))
        else { return XCTFail("no logs") }
        XCTAssertEqual(batch.count, 1)
        _ = try engine.appendAndWait(batch, origin: origin("default", request))
        for lineBytesMax in [2, 1000] {
            var random = SplitMix(state: 1)
            let other = makeRoot()
            let again = try open(other, disk.afterPowerCut(from: root, to: other, using: &random), limits(9, lineBytesMax: lineBytesMax))
            XCTAssertEqual(try readLogs(again).lines, ["short"], "\(lineBytesMax)")
            again.close()
        }
        engine.close()
    }

    func testDamagedEpochsAreSetAside() throws {
        let root = makeRoot()
        let disk = FaultyFileSystem()
        let engine = try open(root, disk, limits(4))
        _ = try fill(engine, "a")
        let size = try disk.size(root + "/wal/epochs")
        DiagnosticLog.threshold = .error
        for offset in stride(from: 0, to: size, by: 7) {
            var random = SplitMix(state: 1)
            let other = makeRoot()
            let left = disk.afterPowerCut(from: root, to: other, using: &random)
            left.damage(other + "/wal/epochs") { $0[offset] ^= 2 }
            let again = try open(other, left, limits(4))
            XCTAssertEqual(again.status().quarantined, 1, "\(offset)")
            XCTAssertEqual(try read(again).count, 3)
            XCTAssertGreaterThan(Int(try epochs(left, other)[0].split(separator: " ")[0]) ?? 0, 1000, "no number is given twice")
            again.close()
        }
        engine.close()
    }
}
