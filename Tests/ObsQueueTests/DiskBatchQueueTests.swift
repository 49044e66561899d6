import ObsCore
import ObsDisk
import ObsStore
import ObsTestSupport
import XCTest

@testable import ObsQueue

final class DiskBatchQueueTests: XCTestCase {
    private let folder = "q"

    private func batch(_ value: Int, samples: Int = 1) -> MetricBatch {
        var batch = MetricBatch()
        for index in 0..<samples { batch.append(Labels([("__name__", "m"), ("i", "\(index)")]), timeMillis: Int64(value), value: Double(value)) }
        return batch
    }

    private func open(_ disk: any FileSystem, bytesMax: Int = 1 << 20, fileBytesMax: Int = 1000) throws -> DiskBatchQueue {
        try DiskBatchQueue(disk, folder: folder, bytesMax: bytesMax, fileBytesMax: fileBytesMax)
    }

    private func values(_ queue: DiskBatchQueue, from first: UInt64 = 0, samplesMax: Int = .max) throws -> [Int] {
        try queue.read(from: first, samplesMax: samplesMax).batches.map { Int($0.batch.values[0]) }
    }

    func testInOrderAndByNumber() throws {
        let disk = MemoryFileSystem()
        let queue = try open(disk)
        XCTAssertNil(queue.status.oldestMillis)
        for value in 1...50 { try queue.append(batch(value, samples: 2), nowMillis: Int64(value) * 10) }
        XCTAssertGreaterThan(try disk.list(folder).count, 3)
        XCTAssertEqual(try values(queue), Array(1...50))
        XCTAssertEqual(try values(queue, from: 7, samplesMax: 5), [7, 8, 9])
        XCTAssertEqual(try queue.read(from: 7, samplesMax: 5).next, 10)
        XCTAssertEqual(try queue.read(from: 51, samplesMax: 5).next, 51)
        XCTAssertEqual(queue.status.samples, 100)
        XCTAssertEqual(queue.status.oldestMillis, 10)
        try queue.remove(through: 20)
        XCTAssertEqual(queue.status.samples, 60)
        XCTAssertEqual(queue.status.firstNumber, 21)
        XCTAssertEqual(queue.status.oldestMillis, 210)
        XCTAssertEqual(try values(queue, from: 3), Array(21...50))
        try queue.remove(through: 50)
        XCTAssertEqual(queue.status.samples, 0)
        XCTAssertEqual(queue.status.firstNumber, 51)
        XCTAssertEqual(queue.status.nextNumber, 51)
        try queue.append(batch(51), nowMillis: 1)
        XCTAssertEqual(try values(queue), [51])
    }

    func testAnotherProcessGoesOn() throws {
        let disk = MemoryFileSystem()
        var queue = try open(disk)
        for value in 1...30 { try queue.append(batch(value), nowMillis: Int64(value)) }
        try queue.remove(through: 12)
        try queue.sync()
        try queue.begin(through: 16)
        for value in 31...33 { try queue.append(batch(value), nowMillis: Int64(value)) }
        queue = try open(disk)
        XCTAssertEqual(try values(queue).last, 33)
        XCTAssertEqual(try XCTUnwrap(values(queue).first), 13)
        XCTAssertEqual(queue.status.sendingNumber, 16)
        XCTAssertEqual(queue.status.samples, try values(queue).count)
        try queue.append(batch(34), nowMillis: 34)
        XCTAssertEqual(try values(queue).suffix(2), [33, 34])
        try queue.remove(through: 34)
        try queue.sync()
        queue = try open(disk)
        XCTAssertEqual(try values(queue), [])
        // Numbers go on where they were, or what is new would be taken for done with.
        try queue.append(batch(35), nowMillis: 35)
        XCTAssertEqual(queue.status.firstNumber, 35)
        queue = try open(disk)
        XCTAssertEqual(try values(queue), [35])
    }

    func testEverythingOfABatchIsKept() throws {
        let disk = MemoryFileSystem()
        var given = batch(1, samples: 2)
        given.setStarts(77, from: 1)
        given.exemplars = [.init(series: 1, labels: given.bytes.intern(Labels([("t", "x")]).bytes), value: 0.5, timeMillis: 3)]
        let layout = given.histograms.intern(
            HistogramLayout(schema: 2, isFloat: false, zeroThreshold: 0, positive: [BucketSpan(offset: 1, length: 2)], negative: []))
        given.histograms.append(timeMillis: 5, startMillis: 4, layout: layout, count: 3, zeroCount: 0, sum: 9, buckets: [1, 2])
        given.histogramSeries = [UInt32(given.series.count)]
        given.series.append(.init(labels: given.bytes.intern(Labels([("__name__", "h")]).bytes), firstSample: 2, sampleCount: 0))
        try open(disk).append(given, nowMillis: 9)
        let read = try XCTUnwrap(open(disk).read(from: 0, samplesMax: 10).batches.first)
        XCTAssertEqual(read.timeMillis, 9)
        XCTAssertEqual(read.batch.startsMillis, given.startsMillis)
        XCTAssertEqual(read.batch.histograms, given.histograms)
        XCTAssertEqual(read.batch.exemplars.map(\.value), [0.5])
        XCTAssertEqual(read.batch.series.map { read.batch.labels(of: $0) }, given.series.map { given.labels(of: $0) })
    }

    func testTheOldestGoWhenThereAreTooMany() throws {
        let disk = MemoryFileSystem()
        let queue = try open(disk, bytesMax: 4000, fileBytesMax: 1000)
        for value in 1...200 { try queue.append(batch(value), nowMillis: Int64(value)) }
        let status = queue.status
        XCTAssertLessThanOrEqual(status.bytes, 4000)
        XCTAssertEqual(status.samples + status.droppedSamples, 200)
        XCTAssertGreaterThan(status.droppedSamples, 0)
        let left = try values(queue)
        XCTAssertEqual(left, Array(left[0]...200))
        XCTAssertEqual(left.count, status.samples)
        // What follows a number that is gone is read.
        XCTAssertEqual(try queue.read(from: 1, samplesMax: 1).next, status.firstNumber + 1)
    }

    func testATornEndIsCutOff() throws {
        let whole = MemoryFileSystem()
        let queue = try open(whole, fileBytesMax: 100_000)
        for value in 1...3 { try queue.append(batch(value), nowMillis: 1) }
        let name = try XCTUnwrap(whole.list(folder).first)
        let bytes = try whole.readAll("\(folder)/\(name)")
        for length in 0..<bytes.count {
            let disk = MemoryFileSystem()
            try disk.makeDirectories(folder)
            try disk.create("\(folder)/\(name)").append(Array(bytes.prefix(length)))
            let queue = try open(disk)
            let left = try values(queue)
            XCTAssertEqual(left, Array(1...3).prefix(left.count).map { $0 }, "\(length)")
            XCTAssertLessThan(left.count, 3)
            try queue.append(batch(9), nowMillis: 1)
            XCTAssertEqual(try values(queue), left + [9], "\(length)")
            XCTAssertEqual(try values(open(disk)), left + [9], "\(length)")
        }
    }

    func testADamagedBatchIsPassedOver() throws {
        let whole = MemoryFileSystem()
        let queue = try open(whole, fileBytesMax: 100_000)
        for value in 1...3 { try queue.append(batch(value), nowMillis: 1) }
        let name = try XCTUnwrap(whole.list(folder).first)
        let bytes = try whole.readAll("\(folder)/\(name)")
        for at in bytes.indices {
            var copy = bytes
            copy[at] ^= 0x10
            let disk = MemoryFileSystem()
            try disk.makeDirectories(folder)
            try disk.create("\(folder)/\(name)").append(copy)
            let queue = try open(disk)
            let left = try values(queue)
            XCTAssertTrue(left.allSatisfy { (1...3).contains($0) } && left == left.sorted(), "\(at): \(left)")
            XCTAssertLessThan(left.count, 3, "\(at)")
        }
    }

    func testAFullDiskIsAnAnswer() throws {
        let disk = MemoryFileSystem()
        let queue = try open(disk)
        try queue.append(batch(1), nowMillis: 1)
        disk.setRoom(20)
        XCTAssertThrowsError(try queue.append(batch(2), nowMillis: 2))
        disk.setRoom(nil)
        try queue.append(batch(3), nowMillis: 3)
        XCTAssertEqual(try values(queue), [1, 3])
        XCTAssertEqual(try values(open(disk)), [1, 3])
    }

    func testPowerCuts() throws {
        for seed in 0..<200 {
            let disk = FaultyFileSystem()
            var queue = try open(disk)
            var random = SplitMix(state: UInt64(seed))
            var next = 1
            var synced = 0
            var removed = 0
            for _ in 0..<40 {
                switch Int(random.next() % 8) {
                case 0:
                    try queue.sync()
                    synced = next - 1
                case 1:
                    removed = max(removed, min(next - 1, removed + 3))
                    try queue.remove(through: UInt64(removed))
                default:
                    try queue.append(batch(next), nowMillis: 1)
                    next += 1
                }
            }
            queue = try open(disk.afterPowerCut(from: folder, to: folder, using: &random))
            let left = try values(queue)
            // In order, without holes, and nothing synced is missing that was not done with.
            XCTAssertEqual(left, left.first.map { Array($0..<$0 + left.count) } ?? [], "seed \(seed)")
            if let first = left.first { XCTAssertLessThanOrEqual(first, removed + 1, "seed \(seed)") }
            if synced > removed { XCTAssertGreaterThanOrEqual(left.last ?? 0, synced, "seed \(seed)") }
        }
    }

    func testWaiting() throws {
        let queue = try open(MemoryFileSystem())
        let began = SystemClock().monotonicNanos()
        queue.wait(for: 1, timeoutMillis: 20)
        XCTAssertGreaterThanOrEqual(SystemClock().monotonicNanos() - began, 20 * nanosPerMilli)
        try queue.append(batch(1), nowMillis: 1)
        queue.wait(for: 1, timeoutMillis: 600_000)
        startThread("test") { queue.interrupt() }
        let one = batch(2)
        startThread("test-2") { for _ in 2..<100 { try? queue.append(one, nowMillis: 1) } }
        queue.wait(for: 50, timeoutMillis: 600_000)
    }
}
