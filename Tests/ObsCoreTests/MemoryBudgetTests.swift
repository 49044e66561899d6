import ObsCore
import XCTest

final class MemoryBudgetTests: XCTestCase {
    private let mebi = 1 << 20

    func testSharesStayWithinTheCeiling() {
        for mebibytes in [64, 100, 256, 1000, 1024, 4096, 65536] {
            let shares = MemoryShares(ceilingBytes: mebibytes * mebi)
            let firm = shares.headBytesMax + shares.ingestBytesMax + shares.queriesBytesMax + shares.segmentsBytesMax
            XCTAssertLessThanOrEqual(firm, shares.accountedBytesMax, "\(mebibytes)")
            XCTAssertLessThanOrEqual(shares.accountedBytesMax, shares.ceilingBytes * 7 / 8, "\(mebibytes)")
            // The biggest request fits an idle account while it is decoded.
            XCTAssertLessThanOrEqual(shares.requestBytesMax + MemoryShares.decodingFactor * shares.decodedBytesMax, shares.ingestBytesMax, "\(mebibytes)")
            XCTAssertGreaterThanOrEqual(shares.walQueueBytesMax, min(64 * mebi, shares.requestBytesMax), "\(mebibytes)")
            for bytes in [shares.requestBytesMax, shares.decodedBytesMax, shares.queryBytesMax, shares.cacheBytesMax] { XCTAssertGreaterThan(bytes, mebi / 2) }
        }
        let shares = MemoryShares(ceilingBytes: 256 * mebi)
        XCTAssertEqual(shares.accountedBytesMax, 200 * mebi)
        XCTAssertEqual(
            [shares.headBytesMax, shares.ingestBytesMax, shares.queriesBytesMax, shares.cacheBytesMax, shares.segmentsBytesMax].map { $0 / mebi },
            [50, 50, 75, 25, 25])
    }

    func testLimitsFollowTheCeilingButStayWhereTheyWereSetLower() {
        var limits = Limits()
        MemoryShares(ceilingBytes: 256 * mebi).apply(to: &limits)
        XCTAssertEqual(limits.requestBytesMax, 50 * mebi / 8)
        XCTAssertEqual(limits.queryBytesMax, 75 * mebi / 2)
        XCTAssertEqual(limits.memory.ceilingBytes, 256 * mebi)
        limits = Limits()
        limits.decodedBytesMax = 1000
        MemoryShares(ceilingBytes: 256 * mebi).apply(to: &limits)
        XCTAssertEqual(limits.decodedBytesMax, 1000)
        // The default of a big machine leaves the bounds as they were documented.
        limits = Limits()
        MemoryShares(ceilingBytes: 4096 * mebi).apply(to: &limits)
        XCTAssertEqual([limits.requestBytesMax, limits.decodedBytesMax], [Limits().requestBytesMax, Limits().decodedBytesMax])
    }

    func testAnAccountGivesNoMoreThanItHas() {
        let budget = MemoryBudget(MemoryShares(ceilingBytes: 256 * mebi))
        XCTAssertTrue(budget.ingest.reserve(30 * mebi))
        XCTAssertFalse(budget.ingest.hasRoom(for: 21 * mebi))
        XCTAssertFalse(budget.ingest.reserve(21 * mebi))
        XCTAssertFalse(budget.ingest.reserve(.max))
        XCTAssertEqual(budget.ingest.usedBytes, 30 * mebi)
        XCTAssertEqual(budget.ingest.refusals, 2)
        XCTAssertTrue(budget.ingest.reserve(20 * mebi))
        XCTAssertEqual(
            budget.ingest.refusalReason(100),
            "100 bytes more are over the memory for ingest: 52428800 of 52428800 bytes are in use (a share of memory, 268435456 bytes)")
        budget.ingest.release(50 * mebi)
        XCTAssertEqual(budget.usedBytes, 0)
    }

    func testCachesAreEmptiedBeforeAnythingIsRefused() {
        let budget = MemoryBudget(MemoryShares(ceilingBytes: 256 * mebi))
        budget.onPressure { [unowned budget] in budget.cache.release(budget.cache.usedBytes) }
        budget.cache.hold(25 * mebi)
        budget.head.hold(50 * mebi)
        XCTAssertTrue(budget.ingest.reserve(50 * mebi))
        XCTAssertTrue(budget.queries.reserve(75 * mebi))
        XCTAssertEqual(budget.cache.usedBytes, 25 * mebi)
        XCTAssertTrue(budget.segments.reserve(25 * mebi))
        XCTAssertEqual(budget.cache.usedBytes, 0)
        // What is held without asking counts too: now the whole is full although the account is not.
        budget.ingest.release(10 * mebi)
        budget.head.hold(10 * mebi)
        XCTAssertFalse(budget.ingest.reserve(mebi))
        XCTAssertEqual(budget.ingest.usedBytes, 40 * mebi)
        XCTAssertEqual(budget.usedBytes, 200 * mebi)
    }

    func testReservationsEndOnce() throws {
        let budget = MemoryBudget(MemoryShares(ceilingBytes: 256 * mebi))
        do {
            let reservation = MemoryReservation(budget.ingest)
            try reservation.grow(1000)
            XCTAssertThrowsError(try reservation.grow(60 * mebi)) {
                XCTAssertEqual(($0 as? ObsError)?.code, .throttled)
                XCTAssertEqual(($0 as? ObsError)?.retryAfterSeconds, 1)
            }
            XCTAssertEqual(reservation.heldBytes, 1000)
            reservation.end()
            reservation.end()
            XCTAssertEqual(budget.usedBytes, 0)
            try reservation.grow(5)
        }
        XCTAssertEqual(budget.usedBytes, 0)
    }

    func testAccountsHoldUnderManyThreads() {
        let budget = MemoryBudget(MemoryShares(ceilingBytes: 64 * mebi))
        let running = Monitor(8)
        for _ in 0..<8 {
            startThread("reserve") {
                for _ in 0..<2000 where budget.queries.reserve(3 << 20) {
                    XCTAssertLessThanOrEqual(budget.usedBytes, 32 << 20 + 8 * (3 << 20))
                    budget.queries.release(3 << 20)
                }
                running.update { $0 -= 1 }
            }
        }
        XCTAssertNotNil(running.wait(timeoutNanos: 60 * nanosPerSecond) { $0 == 0 ? () : nil })
        XCTAssertEqual(budget.usedBytes, 0)
    }

    func testSizesForPeople() {
        for (bytes, text) in [(0, "0 B"), (64 * mebi, "64 MiB"), (1536 * mebi, "1.5 GiB"), (1023, "1023 B"), (1 << 50, "1 PiB")] {
            XCTAssertEqual(formatByteSize(bytes), text)
        }
    }
}
