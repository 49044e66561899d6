// The store as its laws say it must be, kept as plain lists: every record that was asked for, by whom, and whether it was acknowledged.
//
// A request that was not acknowledged may be there or not, whole or not at all; and what came after it and met it is either way right too.
// Nothing ever leaves the lists. A deletion that was answered raises `goneBefore` of each record it concerns: what requests before that number wrote must not be
// seen, what later ones write must be. What may go and need not (past the retention, in a segment that was dropped by the rule, named by a deletion that a
// crash interrupted) raises `maybeBefore`: before that number all is as if nobody had acknowledged it.

internal import ObsCore
internal import ObsStore

/// Nanoseconds; the beginning of time for what is no time.
func nanos(_ millis: Int64) -> Int64 {
    let (nanos, isOver) = millis.multipliedReportingOverflow(by: nanosPerMilli)
    return isOver ? (millis < 0 ? .min : .max) : nanos
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

/// A deletion, in the model's own words.
struct Deletion {
    struct Match {
        var name: String
        var isNegated = false
        /// Any of these.
        var values: [String]

        func holds(_ labels: Labels) -> Bool { values.contains(labels[name] ?? "") != isNegated }

        func matcher() throws -> LabelMatcher {
            if values.count == 1 { return try LabelMatcher(name, isNegated ? .notEqual : .equal, values[0]) }
            return try LabelMatcher(name, isNegated ? .matchesNot : .matches, values.joined(separator: "|"))
        }
    }

    var tenant: TenantID
    var signal: Signal
    var selectors: [[Match]]
    var millis: ClosedRange<Int64>

    /// In the signal's unit, as the engine takes it.
    var range: ClosedRange<Int64> { signal == .metrics ? millis : nanos(millis.lowerBound)...nanos(millis.upperBound) }

    func concerns(_ labels: Labels, _ time: Int64) -> Bool { range.contains(time) && selectors.contains { $0.allSatisfy { $0.holds(labels) } } }
}

/// Rows that are kept for a shorter time than the rest.
struct Rule {
    var signal: Signal
    var matches: [Deletion.Match]
    var keepMillis: Int64

    func hides(_ signal: Signal, _ labels: Labels, _ time: Int64, nowMillis: Int64) -> Bool {
        guard signal == self.signal, matches.allSatisfy({ $0.holds(labels) }) else { return false }
        return time < (signal == .metrics ? nowMillis - keepMillis : nanos(nowMillis - keepMillis))
    }
}

struct Model {
    struct Sample {
        var request: Int
        var bits: UInt64
    }

    /// Requests by number that no longer count.
    struct Fate {
        var goneBefore = 0
        var maybeBefore = 0
    }

    struct Instant {
        var samples: [Sample] = []
        var fate = Fate()
    }

    struct Event {
        var requests: [Int] = []
        /// Whether its protocol says that equal ones are one.
        var isIdentified: Bool
        /// What deletions look at: labels of the stream; service, name and trace of a span.
        var labels: Labels
        var fate = Fate()
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
    private(set) var samples: [TenantID: [Labels: [Int64: Instant]]] = [:]
    private(set) var events: [TenantID: [Signal: [EventKey: Event]]] = [:]

    var requestCount: Int { requests.count }

    // MARK: Writing

    /// Enters a request.
    /// - Parameters:
    ///   - outcome: nil when it was not acknowledged.
    ///   - floorMillis: records before it are refused.
    /// - Returns: what is wrong with the outcome; nil when it may be so.
    @discardableResult
    mutating func enter(_ request: Request, _ outcome: AppendOutcome?, floorMillis: Int64) -> String? {
        let id = requests.count
        var entry = Outcome(isAcknowledged: outcome != nil, isWhole: false, tenant: request.tenant)
        var count = 0
        switch request.batch {
        case .metrics(let batch):
            count = batch.timesMillis.count
            for series in batch.series {
                let labels = batch.labels(of: series)
                for index in Int(series.firstSample)..<Int(series.firstSample + series.sampleCount) where batch.timesMillis[index] >= floorMillis {
                    let time = batch.timesMillis[index]
                    samples[request.tenant, default: [:]][labels, default: [:]][time, default: Instant()].samples.append(
                        Sample(request: id, bits: batch.values[index].bitPattern))
                    entry.samples.append((labels, time))
                }
            }
        case .logs(let batch):
            count = batch.count
            for row in 0..<batch.count where batch.timeNanos[row] >= nanos(floorMillis) {
                let event = Event(isIdentified: batch.flags[row].contains(.identified), labels: batch.labels(ofStream: batch.stream[row]))
                enter(.logs, EventKey.log(batch, row), event, id, &entry)
            }
        case .spans(let batch):
            count = batch.count
            for row in 0..<batch.count where batch.startNanos[row] >= nanos(floorMillis) {
                func text(_ range: ByteRange) -> String { String(decoding: batch.bytes[range.range], as: UTF8.self) }
                let service = text(batch.services[Int(batch.resource[row])])
                let labels = Labels([("service", service), ("name", text(batch.name[row])), ("trace_id", batch.traceID[row].description)])
                enter(.traces, EventKey.span(batch, row), Event(isIdentified: true, labels: labels), id, &entry)
            }
        }
        let tooOld = count - entry.samples.count - entry.events.count
        entry.isWhole = outcome?.rejected == tooOld
        requests.append(entry)
        guard let outcome else { return nil }
        if outcome.accepted + outcome.duplicates + outcome.rejected != count { return "an outcome of \(outcome) for \(count) records" }
        // A sample is refused for another value at its instant, too.
        let isRight = entry.events.isEmpty ? outcome.rejected >= tooOld : outcome.rejected == tooOld
        return isRight ? nil : "\(outcome.rejected) records refused, \(tooOld) are too old"
    }

    private mutating func enter(_ signal: Signal, _ key: EventKey, _ event: Event, _ id: Int, _ entry: inout Outcome) {
        events[entry.tenant, default: [:]][signal, default: [:]][key, default: event].requests.append(id)
        entry.events.append((signal, key))
    }

    // MARK: Leaving

    /// - Parameter isCertain: false when it was not answered.
    mutating func delete(_ deletion: Deletion, isCertain: Bool) {
        let now = requests.count
        change { tenant, signal, labels, time, fate in
            guard tenant == deletion.tenant, signal == deletion.signal, deletion.concerns(labels, time) else { return }
            if isCertain { fate.goneBefore = now } else { fate.maybeBefore = now }
        }
    }

    /// The retention by age may have dropped what is older.
    mutating func expire(beforeMillis cutoff: Int64) {
        let now = requests.count
        change { _, signal, _, time, fate in
            if time < (signal == .metrics ? cutoff : nanos(cutoff)) { fate.maybeBefore = now }
        }
    }

    /// What a rule hides may leave the disk: it need not come back when the rule is lifted.
    /// - Returns: instants and events it hides.
    @discardableResult
    mutating func hide(_ rule: Rule, nowMillis: Int64) -> Int {
        let now = requests.count
        var count = 0
        change { _, signal, labels, time, fate in
            guard rule.hides(signal, labels, time, nowMillis: nowMillis) else { return }
            fate.maybeBefore = now
            count += 1
        }
        return count
    }

    /// Segments with these records were dropped, as the rule has it.
    mutating func drop(_ dropped: Answer, _ tenant: TenantID) {
        let now = requests.count
        change { owner, signal, labels, time, fate in
            if owner == tenant, signal == .metrics, dropped.samples[labels]?[time] != nil { fate.maybeBefore = now }
        }
        for (signal, keys) in dropped.events {
            for key in keys.keys { events[tenant]?[signal]?[key]?.fate.maybeBefore = now }
        }
    }

    private mutating func change(_ body: (TenantID, Signal, Labels, Int64, inout Fate) -> Void) {
        for tenant in samples.keys {
            for labels in samples[tenant, default: [:]].keys {
                for time in samples[tenant, default: [:]][labels, default: [:]].keys {
                    guard var fate = samples[tenant]?[labels]?[time]?.fate else { continue }
                    body(tenant, .metrics, labels, time, &fate)
                    samples[tenant]?[labels]?[time]?.fate = fate
                }
            }
        }
        for (tenant, signals) in events {
            for (signal, keys) in signals {
                for (key, event) in keys {
                    var fate = event.fate
                    body(tenant, signal, event.labels, key.time, &fate)
                    if fate.goneBefore != event.fate.goneBefore || fate.maybeBefore != event.fate.maybeBefore { events[tenant]?[signal]?[key]?.fate = fate }
                }
            }
        }
    }

    // MARK: Comparing

    /// What is wrong with an answer, at most a few lines; empty when it is right.
    /// - Parameters:
    ///   - rule: what is hidden by age, now.
    ///   - mayMiss: whether records may be missing (damage was found and said).
    func faults(of answer: Answer, _ tenant: TenantID, _ rule: Rule? = nil, nowMillis: Int64 = 0, mayMiss: Bool = false) -> [String] {
        if let rule {
            var hiding = self
            hiding.change { _, signal, labels, time, fate in
                if rule.hides(signal, labels, time, nowMillis: nowMillis) { fate.goneBefore = .max }
            }
            return hiding.faults(of: answer, tenant, mayMiss: mayMiss)
        }
        var faults = answer.faults
        let mine = samples[tenant] ?? [:]
        for (labels, found) in answer.samples {
            for (time, bits) in found {
                let instant = mine[labels]?[time] ?? Instant()
                let mayBe = instant.samples.filter { $0.request >= instant.fate.goneBefore }
                if mayBe.contains(where: { $0.bits == bits }) { continue }
                let isDeleted = instant.samples.contains { $0.bits == bits }
                faults.append("\(labels) at \(time) has a value \(isDeleted ? "that was deleted" : "nobody wrote"): \(Double(bitPattern: bits))")
            }
        }
        for (labels, times) in mine {
            for (time, instant) in times { check(instant, answer.samples[labels]?[time], "\(labels) at \(time)", mayMiss, &faults) }
        }
        for signal in [Signal.logs, .traces] {
            let mine = events[tenant]?[signal] ?? [:]
            let found = answer.events[signal] ?? [:]
            for key in found.keys where mine[key] == nil { faults.append("\(signal): an event nobody wrote: \(text(key))") }
            for (key, event) in mine { check(event, found[key] ?? 0, "\(signal): \(text(key))", mayMiss, &faults) }
        }
        if !mayMiss { checkHalves(answer, tenant, &faults) }
        return Array(faults.prefix(6))
    }

    private func isCertain(_ request: Int, _ fate: Fate) -> Bool { requests[request].isAcknowledged && request >= fate.maybeBefore }

    private func check(_ instant: Instant, _ found: UInt64?, _ what: String, _ mayMiss: Bool, _ faults: inout [String]) {
        let wanted = instant.samples.filter { $0.request >= instant.fate.goneBefore }
        // First write wins; one that is not certain before the first certain one may have won.
        let first = wanted.firstIndex { isCertain($0.request, instant.fate) }
        guard let found else {
            let mustBe = first == 0 || wanted.contains { requests[$0.request].isWhole && isCertain($0.request, instant.fate) }
            if mustBe, !mayMiss { faults.append("\(what) is missing") }
            return
        }
        // One acknowledged in part may itself have been refused for a value that then vanished: from there on any may have won.
        var last = wanted.count - 1
        if first == 0 {
            last = 0
        } else if first != nil {
            last = wanted.firstIndex { requests[$0.request].isWhole && isCertain($0.request, instant.fate) } ?? last
        }
        if !mayMiss, !wanted.isEmpty, !wanted[...last].contains(where: { $0.bits == found }) {
            faults.append("\(what) is \(Double(bitPattern: found)), not what was written first")
        }
    }

    private func check(_ event: Event, _ found: Int, _ what: String, _ mayMiss: Bool, _ faults: inout [String]) {
        let wanted = event.requests.filter { $0 >= event.fate.goneBefore }
        let certain = wanted.count { isCertain($0, event.fate) }
        let least = mayMiss ? 0 : event.isIdentified ? min(1, certain) : certain
        let most = event.isIdentified ? min(1, wanted.count) : wanted.count
        if found < least { faults.append("\(what) is missing: \(found) of \(least)") }
        if found > most { faults.append("\(what) is there \(found) times, not \(most)" + (most == 0 ? ": it was deleted" : "")) }
    }

    /// Unacknowledged requests are there whole or not at all: their records that nobody else wrote and that nothing concerned since.
    private func checkHalves(_ answer: Answer, _ tenant: TenantID, _ faults: inout [String]) {
        for (id, request) in requests.enumerated() where !request.isAcknowledged && request.tenant == tenant {
            func isUntouched(_ fate: Fate) -> Bool { fate.goneBefore <= id && fate.maybeBefore <= id }
            var there = 0
            var missing = 0
            for (labels, time) in request.samples {
                guard let instant = samples[tenant]?[labels]?[time], isUntouched(instant.fate), instant.samples.allSatisfy({ $0.request == id }) else {
                    continue
                }
                if answer.samples[labels]?[time] != nil { there += 1 } else { missing += 1 }
            }
            for (signal, key) in request.events {
                guard let event = events[tenant]?[signal]?[key], isUntouched(event.fate), event.requests.allSatisfy({ $0 == id }) else { continue }
                if answer.events[signal]?[key] != nil { there += 1 } else { missing += 1 }
            }
            if there > 0, missing > 0 { faults.append("request \(id), not acknowledged, is there by half: \(there) records, \(missing) missing") }
        }
    }

    private func text(_ key: EventKey) -> String { "\(key.time) " + String(decoding: key.bytes.map { $0 < 32 || $0 > 126 ? 46 : $0 }, as: UTF8.self) }
}
