// Evaluation of a group at one instant: rules in order, each seeing what the ones before it wrote. Contract prometheus.md §6.
package import ObsCore
internal import Synchronization

/// What all rules share.
package struct RuleSettings: Sendable {
    package var externalLabels = Labels.empty
    /// Where links lead, without a slash at the end.
    package var externalURL = ""
    /// Nil of a group means this.
    package var evaluationIntervalMillis: Int64 = 60_000
    package var queryOffsetMillis: Int64 = 0
    /// How often receivers are told that an alert still fires.
    package var resendMillis: Int64 = 60_000

    package init() {}
}

/// A rule at work.
package struct RuleStatus: Sendable {
    package enum Health: String, Sendable {
        case unknown, ok, err
    }

    package var definition: RuleDefinition
    package var health = Health.unknown
    package var lastError: String?
    package var evaluationSeconds = 0.0
    /// Nil before the first evaluation.
    package var lastEvaluationMillis: Int64?
    /// Of alerting rules.
    package var alerts = AlertState()
    /// Series the last evaluation wrote: those that the next does not write end.
    var written: Set<Labels> = []
}

/// A snapshot for `/api/v1/rules`.
package struct RuleGroupStatus: Sendable {
    package var definition: RuleGroupDefinition
    package var intervalMillis: Int64
    package var rules: [RuleStatus]
    package var evaluationSeconds = 0.0
    package var lastEvaluationMillis: Int64?
    package var missedIterations = 0
}

/// Alerts of one rule that receivers must hear about.
package struct DueAlerts: Sendable {
    package var alerts: [Alert]
    package var expression: String
}

package final class RuleGroup: Sendable {
    package let definition: RuleGroupDefinition
    package let settings: RuleSettings
    private let state: Mutex<State>

    private struct State {
        var rules: [RuleStatus]
        /// Series of rules that a reload took away: they end at the next evaluation.
        var orphans: Set<Labels> = []
        var evaluationSeconds = 0.0
        var lastEvaluationMillis: Int64?
        var missedIterations = 0
    }

    package init(_ definition: RuleGroupDefinition, settings: RuleSettings) {
        self.definition = definition
        self.settings = settings
        state = Mutex(State(rules: definition.rules.map { RuleStatus(definition: $0) }))
    }

    package var intervalMillis: Int64 { definition.intervalMillis ?? settings.evaluationIntervalMillis }
    /// Unique among all groups.
    package var key: String { "\(definition.file);\(definition.name)" }

    package var status: RuleGroupStatus {
        state.withLock { state in
            RuleGroupStatus(
                definition: definition, intervalMillis: intervalMillis, rules: state.rules, evaluationSeconds: state.evaluationSeconds,
                lastEvaluationMillis: state.lastEvaluationMillis, missedIterations: state.missedIterations)
        }
    }

    func missed(_ count: Int) { state.withLock { $0.missedIterations += count } }

    // MARK: - Evaluation

    /// Evaluates every rule at `now` and gives back what receivers must hear about. An error of a rule is its status; the others go on.
    package func evaluate(at now: Int64, querier: any RuleQuerier, sink: any RuleSampleSink, clock: any Clock) -> [DueAlerts] {
        let start = clock.monotonicNanos()
        endOrphans(at: now, sink)
        var due: [DueAlerts] = []
        for index in definition.rules.indices {
            let ruleStart = clock.monotonicNanos()
            var rule = state.withLock { $0.rules[index] }
            do throws(ObsError) {
                try evaluate(&rule, at: now, querier, sink)
                rule.health = .ok
                rule.lastError = nil
            } catch {
                rule.health = .err
                rule.lastError = error.message
                DiagnosticLog.warn("rule evaluation failed", [("group", definition.name), ("rule", rule.definition.name), ("error", error.message)])
            }
            rule.lastEvaluationMillis = now
            rule.evaluationSeconds = Double(clock.monotonicNanos() - ruleStart) / 1e9
            let alerts = rule.alerts.takeDue(at: now, resendMillis: settings.resendMillis, intervalMillis: intervalMillis)
            if !alerts.isEmpty { due.append(DueAlerts(alerts: alerts, expression: rule.definition.expression)) }
            state.withLock { [rule] in $0.rules[index] = rule }
        }
        state.withLock {
            $0.lastEvaluationMillis = now
            $0.evaluationSeconds = Double(clock.monotonicNanos() - start) / 1e9
        }
        return due
    }

    private func evaluate(_ rule: inout RuleStatus, at now: Int64, _ querier: any RuleQuerier, _ sink: any RuleSampleSink) throws(ObsError) {
        let at = now - (definition.queryOffsetMillis ?? settings.queryOffsetMillis)
        let results = try querier.vector(rule.definition.expression, atMillis: at)
        let outputs: [RuleSample]
        switch rule.definition.kind {
        case .recording: outputs = try recorded(rule.definition, results)
        case .alerting(let hold, let keepFiring):
            let alerts = results.map { alert(rule.definition, $0, at: now, querier) }
            try rule.alerts.update(alerts, at: now, holdMillis: hold, keepFiringMillis: keepFiring, limit: definition.limit)
            outputs = Self.alertSeries(rule.alerts)
        }
        try write(outputs, &rule, at: at, sink)
    }

    private func write(_ outputs: [RuleSample], _ rule: inout RuleStatus, at time: Int64, _ sink: any RuleSampleSink) throws(ObsError) {
        var batch = MetricBatch()
        var written: Set<Labels> = []
        for output in outputs {
            if let histogram = output.histogram {
                batch.append(output.labels, histogram, row: 0)
            } else {
                batch.append(output.labels, timeMillis: time, value: output.value)
            }
            written.insert(output.labels)
        }
        for ended in rule.written.subtracting(written).sorted() { batch.append(ended, timeMillis: time, value: SpecialValue.stale) }
        if !batch.isEmpty { try sink.write(batch) }
        rule.written = written
    }

    private func recorded(_ rule: RuleDefinition, _ results: [RuleSample]) throws(ObsError) -> [RuleSample] {
        var outputs: [RuleSample] = []
        var seen: Set<Labels> = []
        for result in results {
            var builder = LabelsBuilder(result.labels)
            builder.set("__name__", rule.name)
            for label in rule.labels { builder.set(label.name, label.value) }
            let labels = builder.labels()
            guard seen.insert(labels).inserted else {
                throw ObsError(.unprocessable, "vector contains metrics with the same labelset after applying rule labels")
            }
            outputs.append(RuleSample(labels: labels, value: result.value, histogram: result.histogram))
        }
        if definition.limit > 0, outputs.count > definition.limit {
            throw ObsError(.unprocessable, "exceeded limit of \(definition.limit) with \(outputs.count) series")
        }
        return outputs
    }

    private func alert(_ rule: RuleDefinition, _ result: RuleSample, at now: Int64, _ querier: any RuleQuerier) -> Alert {
        var plain = LabelsBuilder(result.labels)
        plain.remove("__name__")
        let context = TemplateContext(
            labels: plain.labels(), value: result.value, externalLabels: settings.externalLabels, externalURL: settings.externalURL, nowMillis: now
        ) { expression throws(ObsError) in try querier.vector(expression, atMillis: now) }
        for label in rule.labels { plain.set(label.name, Self.expand(label.value, context)) }
        plain.set("alertname", rule.name)
        let annotations = rule.annotations.map { RuleDefinition.Pair(name: $0.name, value: Self.expand($0.value, context)) }
        return Alert(labels: plain.labels(), annotations: annotations, value: result.value, activeAtMillis: now)
    }

    private static func expand(_ text: String, _ context: TemplateContext) -> String {
        guard text.contains("{{") else { return text }
        do throws(ObsError) { return try AlertTemplate(text).expand(context) } catch { return "<error expanding template: \(error.message)>" }
    }

    private static func alertSeries(_ alerts: AlertState) -> [RuleSample] {
        var outputs: [RuleSample] = []
        for alert in alerts.active {
            var builder = LabelsBuilder(alert.labels)
            builder.set("__name__", "ALERTS")
            builder.set("alertstate", alert.state.rawValue)
            outputs.append(RuleSample(labels: builder.labels(), value: 1))
            builder.remove("alertstate")
            builder.set("__name__", "ALERTS_FOR_STATE")
            outputs.append(RuleSample(labels: builder.labels(), value: (Double(alert.activeAtMillis) / 1000).rounded(.down)))
        }
        return outputs
    }

    // MARK: - Reload and restart

    /// Goes on where a group of the same file and name was before a reload: rules are the same when kind, name and labels are (their expression may have changed).
    package func takeOver(_ old: RuleGroup) {
        var before = old.state.withLock { $0 }
        state.withLock { state in
            for index in state.rules.indices {
                let rule = state.rules[index].definition
                let found = before.rules.firstIndex {
                    $0.definition.isAlerting == rule.isAlerting && $0.definition.name == rule.name && $0.definition.labels == rule.labels
                }
                guard let found else { continue }
                let known = before.rules.remove(at: found)
                state.rules[index] = known
                state.rules[index].definition = rule
            }
            state.orphans = before.orphans.union(before.rules.flatMap(\.written))
            state.lastEvaluationMillis = before.lastEvaluationMillis
            state.evaluationSeconds = before.evaluationSeconds
            state.missedIterations = before.missedIterations
        }
    }

    /// Every series this group wrote, for a group that goes away without a successor.
    package func end(at now: Int64, sink: any RuleSampleSink) {
        state.withLock { state in
            state.orphans.formUnion(state.rules.flatMap(\.written))
            for index in state.rules.indices { state.rules[index].written = [] }
        }
        endOrphans(at: now, sink)
    }

    private func endOrphans(at now: Int64, _ sink: any RuleSampleSink) {
        let orphans = state.withLock { $0.orphans }
        guard !orphans.isEmpty else { return }
        var batch = MetricBatch()
        for labels in orphans.sorted() { batch.append(labels, timeMillis: now, value: SpecialValue.stale) }
        do throws(ObsError) {
            try sink.write(batch)
            state.withLock { $0.orphans = [] }
        } catch {
            DiagnosticLog.warn("stale markers of removed rules were not written", [("group", definition.name), ("error", error.message)])
        }
    }

    /// Alerts to keep over a restart: (rule's identity, alerts).
    func savedAlerts() -> [(rule: String, alerts: [Alert])] {
        let identities = definition.identities
        return state.withLock { state in
            zip(identities, state.rules).filter { $1.definition.isAlerting }.map { identity, rule in
                (identity, rule.alerts.alerts.values.sorted { $0.labels < $1.labels })
            }
        }
    }

    func restore(_ saved: [String: [Alert]], savedAtMillis: Int64, now: Int64) {
        let identities = definition.identities
        state.withLock { state in
            for index in state.rules.indices {
                guard let alerts = saved[identities[index]] else { continue }
                state.rules[index].alerts.restore(alerts, savedAtMillis: savedAtMillis, now: now, intervalMillis: intervalMillis)
                // What was written before the restart ends if it is not written again.
                state.rules[index].written = Set(Self.alertSeries(state.rules[index].alerts).map(\.labels))
            }
        }
    }
}

extension RuleGroupDefinition {
    /// What makes each rule the same after a restart: name and labels (its expression may be corrected), and which of several alike it is.
    fileprivate var identities: [String] {
        var counts: [String: Int] = [:]
        return rules.map { rule in
            let labels = rule.labels.map { "\($0.name)=\"\(escapedForQuotes($0.value))\"" }.joined(separator: ",")
            let identity = "\(rule.name){\(labels)}"
            let count = counts[identity, default: 0]
            counts[identity] = count + 1
            return count == 0 ? identity : "\(identity)#\(count)"
        }
    }
}
