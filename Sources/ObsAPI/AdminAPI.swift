internal import ObsCore
internal import ObsNet
internal import ObsStore
internal import ObsWire

/// Health, readiness, own metrics, reload, status.
struct AdminAPI: Sendable {
    let services: Services

    func healthy(_ request: HTTPRequest, _ responder: any HTTPResponder) { responder.send(.text(200, "obsd is healthy.\n")) }

    func ready(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        if let reason = services.lifecycle.notReady() {
            responder.send(HTTPResponse(ObsError(.unavailable, reason, retryAfterSeconds: 1), .text))
        } else {
            // Loki's and Tempo's clients compare with this word.
            responder.send(.text(200, request.path == "/-/ready" ? "obsd is ready.\n" : "ready\n"))
        }
    }

    func reload(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let accepted = services.operations.submit {
            if let error = services.lifecycle.reload() {
                responder.send(.text(500, "failed to reload config: \(error)\n"))
            } else {
                responder.send(.text(200, ""))
            }
        }
        if !accepted { responder.send(HTTPResponse(ObsError(.overloaded, "too many requests wait"), .text)) }
    }

    /// Before a copy of the data folder is made, and in tests: memory to segments now. Answers when it is done.
    func flush(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        services.operate(responder, .text) { () throws(ObsError) in
            try services.store.flush()
            return .text(200, "")
        }
    }

    /// OpenMetrics' older brother, text 0.0.4: what every scraper takes.
    func metrics(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        responder.send(
            HTTPResponse(status: 200, headers: [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")], body: exposition(SelfMetrics.snapshot())))
    }

    private func exposition(_ families: [SelfMetrics.Family]) -> [UInt8] {
        var writer = PrometheusTextWriter()
        for family in families {
            writer.family(family.name, help: family.help, type: family.kind == .counter ? .counter : .gauge)
            for series in family.series { writer.sample(family.name, series.labels.pairs.map { ($0.name, $0.value) }, series.value()) }
        }
        return writer.bytes
    }

    /// `/api/status`: what `obsq status` and the page show.
    func status(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let status = services.store.status()
        var writer = JSONWriter()
        writer.beginObject()
        writer.member("version", services.build.version)
        writer.member("ready", bool: services.lifecycle.notReady() == nil)
        writer.key("signals")
        writer.beginArray()
        for signal in status.signals {
            writer.beginObject()
            writer.member("signal", signal.signal.rawValue)
            writer.member("segments", int: signal.segments)
            writer.member("segmentBytes", int: signal.segmentBytes)
            writer.member("segmentRows", int: signal.segmentRows)
            writer.member("headRows", int: signal.headRows)
            writer.member("headBytes", int: signal.headBytes)
            writer.member("headSeries", int: signal.headSeries)
            writer.member("walBytes", int: signal.walBytes)
            writer.endObject()
        }
        writer.endArray()
        writer.member("quarantined", int: status.quarantined)
        writer.endObject()
        responder.send(.json(200, writer.bytes))
    }
}
