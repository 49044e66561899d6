// Loads rule files, runs their groups on schedule, hands alerts to receivers, keeps their state over restarts.
// One thread looks at the clock, a small pool evaluates; a group is evaluated by one thread at a time, and ticks it sleeps through are counted.
package import ObsCore
internal import ObsYAML
internal import Synchronization

/// Where the state of alerts lies; the daemon gives file access, tests a variable.
package struct AlertStateStore: Sendable {
    package var read: @Sendable () -> [UInt8]?
    package var write: @Sendable ([UInt8]) throws(ObsError) -> Void

    package init(read: @escaping @Sendable () -> [UInt8]?, write: @escaping @Sendable ([UInt8]) throws(ObsError) -> Void) {
        self.read = read
        self.write = write
    }
}

package final class RuleManager: Sendable {
    private struct Scheduled {
        var group: RuleGroup
        /// Of the next evaluation.
        var dueMillis: Int64
        var isRunning = false
    }

    private struct State {
        var groups: [Scheduled] = []
        /// Alerts read from the state file that no group has taken yet.
        var restored: AlertStateFile?
        var settings = RuleSettings()
        var receivers: [any AlertReceiver] = []
        var webhook: WebhookNotifier?
        var isStopping = false
        var isRunning = false
    }

    private let querier: any RuleQuerier
    private let sink: any RuleSampleSink
    private let store: AlertStateStore?
    private let clock: any Clock
    private let state = Monitor(State())
    /// One writer of the state file at a time.
    private let saving = Mutex<[UInt8]>([])
    private let evaluations = SelfMetrics.counter("obs_rule_evaluations_total", help: "Evaluations of rule groups.")
    private let missed = SelfMetrics.counter(
        "obs_rule_group_iterations_missed_total", help: "Evaluations of rule groups skipped because the one before was still running.")

    private static let threads = 2
    private static let groupsMax = 10_000

    package init(querier: any RuleQuerier, sink: any RuleSampleSink, store: AlertStateStore? = nil, clock: any Clock = SystemClock()) {
        self.querier = querier
        self.sink = sink
        self.store = store
        self.clock = clock
        guard let store, let bytes = store.read() else { return }
        do throws(ObsError) {
            let saved = try AlertStateFile(bytes, now: clock.nowMillis())
            state.update { $0.restored = saved }
        } catch {
            DiagnosticLog.warn("alert state cannot be read; alerts begin anew", [("error", error.message)])
        }
    }

    // MARK: - Configuration

    /// Reads rule files by globs. Touches nothing.
    /// - Throws: `.badInput` for the first file that is wrong.
    package func load(_ globs: [String]) throws(ObsError) -> [RuleFile] { try Self.load(globs, querier: querier) }

    /// The same without a manager, for `obsd check`.
    package static func load(_ globs: [String], querier: any RuleQuerier) throws(ObsError) -> [RuleFile] {
        var files: [RuleFile] = []
        for path in globs.flatMap({ ConfigurationFile.paths(matching: $0) }) {
            files.append(try RuleFile.load(path) { expression throws(ObsError) in try querier.check(expression) })
        }
        return files
    }

    /// Puts files in force, all at once: groups that stay keep their alerts, series of those that go end. Cannot fail, so that a reload can check everything first.
    package func apply(_ files: [RuleFile], settings: RuleSettings) {
        let now = clock.nowMillis()
        let gone = state.update { state -> [RuleGroup] in
            var old = Dictionary(state.groups.map { ($0.group.key, $0) }, uniquingKeysWith: { a, _ in a })
            var scheduled: [Scheduled] = []
            for definition in files.flatMap(\.groups).prefix(Self.groupsMax) {
                let group = RuleGroup(definition, settings: settings)
                if let before = old.removeValue(forKey: group.key) {
                    group.takeOver(before.group)
                } else if let saved = state.restored, let alerts = saved.groups[group.key] {
                    group.restore(alerts, savedAtMillis: saved.savedAtMillis, now: now)
                    state.restored?.groups[group.key] = nil
                }
                scheduled.append(Scheduled(group: group, dueMillis: Self.nextTick(group, after: now)))
            }
            state.groups = scheduled
            state.settings = settings
            return old.values.map(\.group)
        }
        for group in gone { group.end(at: now, sink: sink) }
    }

    /// Who hears of alerts from now on; the former receivers are stopped.
    package func deliver(webhook: WebhookNotifier?, alertmanager: AlertmanagerNotifier?) {
        attach(webhook, alertmanager)
        webhook?.start()
        alertmanager?.start()
    }

    /// The same without threads of their own, for tests.
    func attach(_ webhook: WebhookNotifier?, _ alertmanager: AlertmanagerNotifier? = nil) {
        // Stopped first: what a delivery on its way achieves must be among what is taken over.
        for receiver in state.read({ $0.receivers }) { receiver.stop() }
        let saved = state.update { state in
            let saved = state.webhook?.saved() ?? state.restored?.webhook ?? [:]
            state.receivers = (webhook.map { [$0] } ?? []) as [any AlertReceiver] + (alertmanager.map { [$0] } ?? [])
            state.webhook = webhook
            state.restored?.webhook = [:]
            return saved
        }
        webhook?.restore(saved)
        webhook?.whenChanged { [weak self] in self?.save() }
    }

    // MARK: - Schedule

    package func start() {
        let starts = state.update { state in
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if starts { startThread("rules") { [self] in run() } }
    }

    /// Ends after the evaluations at hand; the state is saved.
    package func stop() {
        let receivers = state.update { state in
            state.isStopping = true
            return state.receivers
        }
        _ = state.wait(timeoutNanos: 30 * nanosPerSecond) { $0.isRunning ? nil : () }
        for receiver in receivers { receiver.stop() }
        save()
    }

    private func run() {
        let pool = WorkerPool(name: "rule", threads: Self.threads, queueMax: Self.groupsMax)
        while !state.read({ $0.isStopping }) {
            let now = clock.nowMillis()
            for group in takeDue(at: now) {
                // The tick, not the moment a thread is free: samples of a rule lie evenly.
                let submitted = pool.submit { [self] in evaluate(group.group, at: group.tick) }
                if !submitted { finished(group.group) }
            }
            let next = state.read { $0.groups.map(\.dueMillis).min() } ?? now + 1000
            _ = state.wait(timeoutNanos: min(max(1, next - now), 1000) * nanosPerMilli) { $0.isStopping ? () : nil }
        }
        pool.stop()
        state.update { $0.isRunning = false }
    }

    /// Groups whose tick has come, marked as running; ones still running miss it.
    private func takeDue(at now: Int64) -> [(group: RuleGroup, tick: Int64)] {
        state.read { state in
            var due: [(group: RuleGroup, tick: Int64)] = []
            for index in state.groups.indices where state.groups[index].dueMillis <= now {
                let group = state.groups[index].group
                let interval = group.intervalMillis
                let late = (now - state.groups[index].dueMillis) / interval
                let tick = state.groups[index].dueMillis + late * interval
                state.groups[index].dueMillis = tick + interval
                let skipped = Int(late) + (state.groups[index].isRunning ? 1 : 0)
                if skipped > 0 {
                    group.missed(skipped)
                    missed.add(skipped)
                }
                if state.groups[index].isRunning { continue }
                state.groups[index].isRunning = true
                due.append((group, tick))
            }
            return due
        }
    }

    private func finished(_ group: RuleGroup) {
        state.update { state in
            if let index = state.groups.firstIndex(where: { $0.group === group }) { state.groups[index].isRunning = false }
        }
    }

    /// Ticks of a group are the same over restarts and spread over the interval.
    private static func nextTick(_ group: RuleGroup, after now: Int64) -> Int64 {
        let interval = group.intervalMillis
        let offset = Int64(labelsFingerprint(Labels([("group", group.key)])) % UInt64(interval))
        return floorDivide(now - offset, interval) * interval + offset + interval
    }

    /// Evaluates one group and tells receivers. Called by the schedule, and by tests and backtests with times of their own.
    package func evaluate(_ group: RuleGroup, at now: Int64) {
        let due = group.evaluate(at: now, querier: querier, sink: sink, clock: clock)
        evaluations.add()
        let alerts = due.flatMap { due in due.alerts.map { NotifiedAlert($0, expression: due.expression, settings: group.settings) } }
        let receivers = state.read { $0.receivers }
        if !alerts.isEmpty { for receiver in receivers { receiver.receive(alerts) } }
        finished(group)
        save()
    }

    /// Evaluates all groups at one instant, in order.
    package func evaluateAll(at now: Int64) { for group in state.read({ $0.groups.map(\.group) }) { evaluate(group, at: now) } }

    // MARK: - State

    /// Writes the state file when it differs from the one written last.
    private func save() {
        guard let store else { return }
        saving.withLock { last in
            var file = AlertStateFile()
            let (groups, restored, webhook) = state.read { ($0.groups.map(\.group), $0.restored, $0.webhook?.saved() ?? $0.restored?.webhook ?? [:]) }
            file.groups = restored?.groups ?? [:]
            for group in groups { for saved in group.savedAlerts() { file.groups[group.key, default: [:]][saved.rule] = saved.alerts } }
            file.webhook = webhook
            let comparable = file.bytes
            if comparable == last { return }
            file.savedAtMillis = clock.nowMillis()
            do throws(ObsError) {
                try store.write(file.bytes)
                last = comparable
            } catch { DiagnosticLog.warn("alert state was not saved", [("error", error.message)]) }
        }
    }

    // MARK: - Status

    /// In the order of files and groups, for `/api/v1/rules` and `/api/v1/alerts`.
    package func status() -> [RuleGroupStatus] { state.read { $0.groups.map(\.group) }.map(\.status) }
}
