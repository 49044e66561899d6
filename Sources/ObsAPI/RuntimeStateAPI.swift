internal import ObsCore
internal import ObsIngest
internal import ObsNet
internal import ObsPromQL
internal import ObsRules
internal import ObsStore
internal import ObsWire

/// What the daemon is doing: targets, rules, alerts, in Prometheus' shapes (contract prometheus.md §3).
struct RuntimeStateAPI: Sendable {
    let services: Services

    func targets(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        let status = services.scrapes.status()
        let pool = parameters["scrapePool"] ?? ""
        let state = (parameters["state"] ?? "").lowercased()
        func isShown(_ kind: String) -> Bool { state.isEmpty || state == "any" || state == kind }
        func shown(_ kind: String, _ name: String) -> Bool { isShown(kind) && (pool.isEmpty || pool == name) }
        responder.send(
            .success { writer in
                writer.beginObject()
                writer.key("activeTargets")
                writer.beginArray()
                for target in status.active where shown("active", target.pool) { write(target, &writer) }
                writer.endArray()
                writer.key("droppedTargets")
                writer.beginArray()
                for target in status.dropped where shown("dropped", target.pool) {
                    writer.beginObject()
                    writer.key("discoveredLabels")
                    writer.labels(target.discoveredLabels)
                    writer.member("scrapePool", target.pool)
                    writer.endObject()
                }
                writer.endArray()
                writer.key("droppedTargetCounts")
                if isShown("dropped") {
                    writer.beginObject()
                    for pool in status.droppedCounts { writer.member(pool.pool, int: pool.count) }
                    writer.endObject()
                } else {
                    writer.null()
                }
                writer.endObject()
            })
    }

    func scrapePools(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let pools = services.scrapes.status().pools
        responder.send(
            .success { writer in
                writer.beginObject()
                writer.key("scrapePools")
                writer.strings(pools)
                writer.endObject()
            })
    }

    /// What relabeling makes of given labels, rule by rule.
    func relabelSteps(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        do throws(ObsError) {
            let pool = parameters["scrapePool"] ?? ""
            if pool.isEmpty { throw ObsError(.badInput, "no scrapePool parameter provided") }
            guard let text = parameters["labels"], !text.isEmpty else { throw ObsError(.badInput, "no labels parameter provided") }
            guard let steps = services.scrapes.relabelSteps(pool, try labels(text)) else {
                throw ObsError(.badInput, "error retrieving scrape config: scrape pool \(quoted(pool)) not found")
            }
            responder.send(
                .success { writer in
                    writer.beginObject()
                    writer.key("steps")
                    writer.beginArray()
                    for step in steps { write(step, &writer) }
                    writer.endArray()
                    writer.endObject()
                })
        } catch {
            responder.send(HTTPResponse(error, .prometheus))
        }
    }

    private func labels(_ json: String) throws(ObsError) -> Labels {
        let document: JSONDocument
        do throws(ObsError) { document = try JSONDocument.parse(Array(json.utf8)) } catch { throw ObsError(.badInput, "error parsing labels: \(error)") }
        guard document.root.kind == .object else { throw ObsError(.badInput, "error parsing labels: not an object") }
        var builder = LabelsBuilder()
        document.root.forEachMember { name, value in builder.set(String(decoding: name, as: UTF8.self), value.string ?? "") }
        return builder.labels()
    }

    private func write(_ step: RelabelStep, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("rule")
        writer.beginObject()
        for (name, value) in step.rule {
            writer.key(name)
            switch value {
            case .text(let text): writer.string(text)
            case .texts(let texts): writer.strings(texts)
            case .number(let number): writer.int(number)
            }
        }
        writer.endObject()
        writer.key("output")
        writer.labels(step.output)
        writer.member("keep", bool: step.isKept)
        writer.endObject()
    }

    /// Metadata as each target last gave it.
    func targetMetadata(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        do throws(ObsError) {
            let limit = try number("limit", in: parameters)
            var matchers: [LabelMatcher] = []
            if let selector = parameters["match_target"], !selector.isEmpty {
                do throws(ObsError) { matchers = try parseSelector(selector) } catch { throw parameters.invalid("match_target", error.description) }
            }
            let metric = parameters["metric"] ?? ""
            let found = services.scrapes.metadata().filter { (metric.isEmpty || $0.family == metric) && matchers.match($0.target) }
            responder.send(
                .success { writer in
                    writer.beginArray()
                    for one in limit < 0 ? found[...] : found.prefix(limit) {
                        writer.beginObject()
                        writer.key("target")
                        writer.labels(one.target)
                        if metric.isEmpty { writer.member("metric", one.family) }
                        writer.member("type", one.type.word)
                        writer.member("help", one.help)
                        writer.member("unit", one.unit)
                        writer.endObject()
                    }
                    writer.endArray()
                })
        } catch {
            responder.send(HTTPResponse(error, .prometheus))
        }
    }

    /// Prometheus' word for a bad one.
    private func number(_ name: String, in parameters: Parameters) throws(ObsError) -> Int {
        guard let text = parameters[name], !text.isEmpty else { return -1 }
        guard let value = Int(text) else { throw ObsError(.badInput, "\(name) must be a number") }
        return value
    }

    func alertmanagers(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let urls = services.lifecycle.alertmanagers()
        responder.send(
            .success { writer in
                writer.beginObject()
                writer.key("activeAlertmanagers")
                writer.beginArray()
                for url in urls {
                    writer.beginObject()
                    writer.member("url", url)
                    writer.endObject()
                }
                writer.endArray()
                writer.key("droppedAlertmanagers")
                writer.beginArray()
                writer.endArray()
                writer.endObject()
            })
    }

    /// Metadata of families as targets and other senders last gave it: `{"family":[{"type","help","unit"}]}`.
    func metadata(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        let wanted = parameters["metric"] ?? ""
        services.query(request, responder, .prometheus, timeoutMillis: nil) { context throws(ObsError) in
            let limit = try number("limit", in: parameters)
            let limitPerFamily = try number("limit_per_metric", in: parameters)
            var families: [String: [FamilyText]] = [:]
            func add(_ family: String, _ text: FamilyText) {
                guard wanted.isEmpty || wanted == family, !families[family, default: []].contains(text) else { return }
                families[family, default: []].append(text)
            }
            for one in services.scrapes.metadata() { add(one.family, FamilyText(type: one.type, help: one.help, unit: one.unit)) }
            for (name, entry) in try services.reader.metricFamilies(context: context).sorted {
                let text = FamilyText(type: entry.type, help: String(decoding: entry.help, as: UTF8.self), unit: String(decoding: entry.unit, as: UTF8.self))
                add(String(decoding: name, as: UTF8.self), text)
            }
            return .success { writer in
                writer.beginObject()
                for (place, name) in families.keys.sorted().enumerated() where limit < 0 || place < limit {
                    writer.key(name)
                    writer.beginArray()
                    for (number, one) in (families[name] ?? []).enumerated() where limitPerFamily <= 0 || number < limitPerFamily {
                        writer.beginObject()
                        writer.member("type", one.type.word)
                        writer.member("help", one.help)
                        writer.member("unit", one.unit)
                        writer.endObject()
                    }
                    writer.endArray()
                }
                writer.endObject()
            }
        }
    }

    func rules(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let parameters = request.parameters
        do throws(ObsError) {
            let question = try RuleQuestion(parameters)
            let (groups, nextToken) = try question.page(of: services.rules.status())
            responder.send(
                .success { writer in
                    writer.beginObject()
                    writer.key("groups")
                    writer.beginArray()
                    for group in groups { write(group, withAlerts: !question.excludesAlerts, &writer) }
                    writer.endArray()
                    if let nextToken { writer.member("groupNextToken", nextToken) }
                    writer.endObject()
                })
        } catch {
            responder.send(HTTPResponse(error, .prometheus))
        }
    }

    func alerts(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let alerts = services.rules.status().flatMap { $0.rules.flatMap(\.alerts.active) }
        responder.send(
            .success { writer in
                writer.beginObject()
                writer.key("alerts")
                writer.beginArray()
                for alert in alerts { write(alert, &writer) }
                writer.endArray()
                writer.endObject()
            })
    }

    // MARK: Parts

    private func write(_ target: TargetStatus, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("discoveredLabels")
        writer.labels(target.discoveredLabels)
        writer.key("labels")
        writer.labels(target.labels)
        writer.member("scrapePool", target.pool)
        writer.member("scrapeUrl", target.url)
        writer.member("globalUrl", target.url)
        writer.member("lastError", target.lastError)
        writer.member("lastScrape", time(nanos: target.lastScrapeNanos))
        writer.key("lastScrapeDuration")
        writer.double(target.lastScrapeSeconds)
        writer.member("health", target.health.rawValue)
        writer.member("scrapeInterval", formatDuration(millis: target.intervalMillis))
        writer.member("scrapeTimeout", formatDuration(millis: target.timeoutMillis))
        writer.endObject()
    }

    private func write(_ group: RuleGroupStatus, withAlerts: Bool, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.member("name", group.definition.name)
        writer.member("file", group.definition.file)
        writer.key("interval")
        writer.double(Double(group.intervalMillis) / 1000)
        writer.member("limit", int: group.definition.limit)
        writer.key("evaluationTime")
        writer.double(group.evaluationSeconds)
        writer.member("lastEvaluation", time(millis: group.lastEvaluationMillis))
        writer.key("rules")
        writer.beginArray()
        for rule in group.rules { write(rule, withAlerts: withAlerts, &writer) }
        writer.endArray()
        writer.endObject()
    }

    private func write(_ rule: RuleStatus, withAlerts: Bool, _ writer: inout JSONWriter) {
        writer.beginObject()
        if case .alerting(let holdMillis, let keepFiringMillis) = rule.definition.kind {
            writer.member("state", rule.alerts.state.rawValue)
            writer.key("duration")
            writer.double(Double(holdMillis) / 1000)
            writer.key("keepFiringFor")
            writer.double(Double(keepFiringMillis) / 1000)
            writer.key("annotations")
            write(rule.definition.annotations, &writer)
            writer.key("alerts")
            if withAlerts {
                writer.beginArray()
                for alert in rule.alerts.active { write(alert, &writer) }
                writer.endArray()
            } else {
                writer.null()
            }
        }
        writer.member("name", rule.definition.name)
        writer.member("query", (try? parsePromQL(rule.definition.expression).description) ?? rule.definition.expression)
        writer.key("labels")
        write(rule.definition.labels, &writer)
        writer.member("health", rule.health.rawValue)
        if let error = rule.lastError { writer.member("lastError", error) }
        writer.key("evaluationTime")
        writer.double(rule.evaluationSeconds)
        writer.member("lastEvaluation", time(millis: rule.lastEvaluationMillis))
        writer.member("type", rule.definition.isAlerting ? "alerting" : "recording")
        writer.endObject()
    }

    private func write(_ alert: Alert, _ writer: inout JSONWriter) {
        writer.beginObject()
        writer.key("labels")
        writer.labels(alert.labels)
        writer.key("annotations")
        write(alert.annotations, &writer)
        writer.member("state", alert.state.rawValue)
        writer.member("activeAt", time(millis: alert.activeAtMillis))
        if let since = alert.keepFiringSinceMillis { writer.member("keepFiringSince", time(millis: since)) }
        writer.member("value", exponentText(alert.value))
        writer.endObject()
    }

    private func write(_ pairs: [RuleDefinition.Pair], _ writer: inout JSONWriter) {
        writer.beginObject()
        for pair in pairs { writer.member(pair.name, pair.value) }
        writer.endObject()
    }

    /// Go's zero time stands for "never".
    private func time(nanos: Int64?) -> String { nanos.map { rfc3339(nanos: $0) } ?? "0001-01-01T00:00:00Z" }
    private func time(millis: Int64?) -> String { time(nanos: millis.map { $0 * nanosPerMilli }) }

    /// Go's `%e` with the shortest digits: `1e+00`.
    private func exponentText(_ value: Double) -> String {
        guard value.isFinite, value != 0 else { return value == 0 ? "0e+00" : formatSampleValue(value) }
        let (digits, exponent) = decimalDigits(abs(value))
        let power = exponent - 1
        let fraction = digits.count > 1 ? "." + digits.dropFirst() : ""
        return "\(value < 0 ? "-" : "")\(digits.prefix(1))\(fraction)e\(power < 0 ? "-" : "+")\(padded(abs(power), 2))"
    }
}

/// What one sender says of a metric family.
private struct FamilyText: Equatable {
    var type: MetricType
    var help: String
    var unit: String
}
