internal import ObsCore
internal import ObsStore
import XCTest

/// One request of the schedule, as decoded: what its sender wanted stored.
struct Request {
    var tenant: TenantID
    var origin: WriteOrigin
    var batch: DecodedBatch
}

/// Nanoseconds; the beginning of time for what is no time.
private func nanos(_ millis: Int64) -> Int64 {
    let (nanos, isOver) = millis.multipliedReportingOverflow(by: nanosPerMilli)
    return isOver ? .min : nanos
}

/// What was kept of an event: stream and line of a log record, all that tells spans apart.
struct EventKey: Hashable {
    var time: Int64
    var bytes: [UInt8]
}

extension EventKey {
    static func log(_ batch: LogBatch, _ row: Int) -> EventKey {
        var bytes = batch.labels(ofStream: batch.stream[row]).bytes
        bytes += [0] + batch.bytes[batch.line[row].range] + [0] + batch.bytes[batch.attributes[row].range]
        return EventKey(time: batch.timeNanos[row], bytes: bytes)
    }

    static func span(_ batch: SpanBatch, _ row: Int) -> EventKey {
        var bytes = Array("\(batch.traceID[row]) \(batch.spanID[row]) \(batch.parentID[row]) \(batch.durationNanos[row]) \(batch.kind[row]) ".utf8)
        bytes += batch.bytes[batch.name[row].range] + [0] + batch.bytes[batch.attributes[row].range] + [0]
        bytes += batch.bytes[batch.resources[Int(batch.resource[row])].range]
        return EventKey(time: batch.startNanos[row], bytes: bytes)
    }
}

/// The store as its laws say it must be, kept as plain lists: every record that was asked for, by whom, and whether it was acknowledged.
///
/// A request that was not acknowledged may be there or not, whole or not at all; and what came after it and met it is either way right too.
struct Model {
    struct Sample {
        var request: Int
        var bits: UInt64
    }

    struct Event {
        var requests: [Int] = []
        /// Whether its protocol says that equal ones are one.
        var isIdentified: Bool
    }

    private struct Outcome {
        var isAcknowledged: Bool
        /// Nothing of it was refused: all its records must be found.
        var isWhole: Bool
        var tenant: TenantID
        var samples: [(labels: Labels, time: Int64)] = []
        var events: [(signal: Signal, key: EventKey)] = []
    }

    private var requests: [Outcome] = []
    private(set) var samples: [TenantID: [Labels: [Int64: [Sample]]]] = [:]
    private(set) var events: [TenantID: [Signal: [EventKey: Event]]] = [:]

    // MARK: Writing

    /// Enters a request.
    /// - Parameters:
    ///   - outcome: nil when it was not acknowledged.
    ///   - floorMillis: records before it are refused.
    mutating func enter(_ request: Request, _ outcome: AppendOutcome?, floorMillis: Int64) {
        let id = requests.count
        var entry = Outcome(isAcknowledged: outcome != nil, isWhole: outcome?.rejected == 0, tenant: request.tenant)
        switch request.batch {
        case .metrics(let batch):
            for series in batch.series {
                let labels = batch.labels(of: series)
                for index in Int(series.firstSample)..<Int(series.firstSample + series.sampleCount) where batch.timesMillis[index] >= floorMillis {
                    let time = batch.timesMillis[index]
                    samples[request.tenant, default: [:]][labels, default: [:]][time, default: []].append(
                        Sample(request: id, bits: batch.values[index].bitPattern))
                    entry.samples.append((labels, time))
                }
            }
        case .logs(let batch):
            for row in 0..<batch.count where batch.timeNanos[row] >= nanos(floorMillis) {
                enter(.logs, EventKey.log(batch, row), isIdentified: batch.flags[row].contains(.identified), id, &entry)
            }
        case .spans(let batch):
            for row in 0..<batch.count where batch.startNanos[row] >= nanos(floorMillis) {
                enter(.traces, EventKey.span(batch, row), isIdentified: true, id, &entry)
            }
        }
        requests.append(entry)
    }

    private mutating func enter(_ signal: Signal, _ key: EventKey, isIdentified: Bool, _ id: Int, _ entry: inout Outcome) {
        events[entry.tenant, default: [:]][signal, default: [:]][key, default: Event(isIdentified: isIdentified)].requests.append(id)
        entry.events.append((signal, key))
    }

    // MARK: Comparing

    /// What is wrong with an answer, at most a few lines; empty when it is right.
    /// - Parameters:
    ///   - horizonMillis: records before it may have been dropped by the retention.
    ///   - mayMiss: whether records may be missing (damage was found and said).
    func faults(of answer: Answer, _ tenant: TenantID, horizonMillis: Int64, mayMiss: Bool = false) -> [String] {
        var faults = answer.faults
        let mine = samples[tenant] ?? [:]
        for (labels, found) in answer.samples {
            for (time, bits) in found where mine[labels]?[time]?.contains(where: { $0.bits == bits }) != true {
                faults.append("\(labels) at \(time) has a value nobody wrote: \(Double(bitPattern: bits))")
            }
        }
        for (labels, times) in mine {
            for (time, wanted) in times where time >= horizonMillis {
                check(wanted, answer.samples[labels]?[time], "\(labels) at \(time)", mayMiss, &faults)
            }
        }
        for signal in [Signal.logs, .traces] {
            let mine = events[tenant]?[signal] ?? [:]
            let found = answer.events[signal] ?? [:]
            for key in found.keys where mine[key] == nil { faults.append("\(signal): an event nobody wrote: \(text(key))") }
            for (key, event) in mine where key.time >= nanos(horizonMillis) || found[key] != nil {
                check(event, found[key] ?? 0, "\(signal): \(text(key))", mayMiss || key.time < nanos(horizonMillis), &faults)
            }
        }
        if !mayMiss { checkHalves(answer, tenant, horizonMillis, &faults) }
        return Array(faults.prefix(6))
    }

    private func check(_ wanted: [Sample], _ found: UInt64?, _ what: String, _ mayMiss: Bool, _ faults: inout [String]) {
        // First write wins; an unacknowledged one before the first acknowledged may have won.
        let first = wanted.firstIndex { requests[$0.request].isAcknowledged }
        guard let found else {
            let mustBe = first == 0 || wanted.contains { requests[$0.request].isWhole }
            if mustBe, !mayMiss { faults.append("\(what) is missing") }
            return
        }
        // One acknowledged in part may itself have been refused for a value that then vanished: from there on any may have won.
        let last = first.map { first in first == 0 ? 0 : wanted.firstIndex { requests[$0.request].isWhole } ?? wanted.count - 1 } ?? wanted.count - 1
        if !mayMiss, !wanted[...last].contains(where: { $0.bits == found }) {
            faults.append("\(what) is \(Double(bitPattern: found)), not what was written first")
        }
    }

    private func check(_ event: Event, _ found: Int, _ what: String, _ mayMiss: Bool, _ faults: inout [String]) {
        let certain = event.requests.count { requests[$0].isAcknowledged }
        let least = mayMiss ? 0 : event.isIdentified ? min(1, certain) : certain
        let most = event.isIdentified ? 1 : event.requests.count
        if found < least { faults.append("\(what) is missing: \(found) of \(least)") }
        if found > most { faults.append("\(what) is there \(found) times, not \(most)") }
    }

    /// Unacknowledged requests are there whole or not at all: their records that nobody else wrote.
    private func checkHalves(_ answer: Answer, _ tenant: TenantID, _ horizonMillis: Int64, _ faults: inout [String]) {
        for (id, request) in requests.enumerated() where !request.isAcknowledged && request.tenant == tenant {
            var there = 0
            var missing = 0
            for (labels, time) in request.samples where time >= horizonMillis && samples[tenant]?[labels]?[time]?.allSatisfy({ $0.request == id }) == true {
                if answer.samples[labels]?[time] != nil { there += 1 } else { missing += 1 }
            }
            for (signal, key) in request.events
            where key.time >= nanos(horizonMillis) && events[tenant]?[signal]?[key]?.requests.allSatisfy({ $0 == id }) == true {
                if answer.events[signal]?[key] != nil { there += 1 } else { missing += 1 }
            }
            if there > 0, missing > 0 { faults.append("request \(id), not acknowledged, is there by half: \(there) records, \(missing) missing") }
        }
    }

    private func text(_ key: EventKey) -> String { "\(key.time) " + String(decoding: key.bytes.map { $0 < 32 || $0 > 126 ? 46 : $0 }, as: UTF8.self) }
}

/// All that a tenant has, as the engine tells it.
struct Answer {
    var samples: [Labels: [Int64: UInt64]] = [:]
    var events: [Signal: [EventKey: Int]] = [:]
    /// What no answer may be: out of order, a sample twice.
    var faults: [String] = []

    init(_ reader: any Reader, _ tenant: TenantID, _ signals: [Signal] = Signal.allCases) throws(ObsError) {
        for signal in signals {
            let context = QueryContext(tenant: tenant)
            switch signal {
            case .metrics: try readSamples(reader.series([], range: .min ... .max, context: context))
            case .logs:
                let sink = Events()
                try reader.scanLogs(LogSelection(matchers: [], startNanos: .min, endNanos: .max), context: context, into: sink)
                events[.logs] = sink.found
            case .traces:
                let sink = Events()
                try reader.scanSpans(SpanSelection(), context: context, into: sink)
                events[.traces] = sink.found
            }
        }
    }

    private mutating func readSamples(_ set: any SeriesSet) throws(ObsError) {
        var last: Labels?
        while let series = try set.next() {
            if let last, Labels.compare(last, series.labels) >= 0 { faults.append("series out of order: \(series.labels) after \(last)") }
            last = series.labels
            for (time, next) in zip(series.timesMillis, series.timesMillis.dropFirst()) where time >= next {
                faults.append("\(series.labels): samples out of order at \(next)")
            }
            samples[series.labels] = Dictionary(zip(series.timesMillis, series.values.map(\.bitPattern)), uniquingKeysWith: { first, _ in first })
        }
    }

    private final class Events: LogSink, SpanSink {
        var wantedNanos: Range<Int64> { .min ..< .max }
        var found: [EventKey: Int] = [:]
        func consume(_ batch: LogBatch, rows: [Int]) throws(ObsError) { for row in rows { found[.log(batch, row), default: 0] += 1 } }
        func consume(_ batch: SpanBatch, rows: [Int]) throws(ObsError) { for row in rows { found[.span(batch, row), default: 0] += 1 } }
    }
}
