/// The SDK: metrics, logs and traces of a service, sent to obsd or any other OTLP/HTTP receiver.
///
/// ```swift
/// let obs = try Obs.start()                                  // OTEL_* decide the rest
/// let orders = obs.counter("orders_total", unit: "1")
/// try await obs.span("place order", kind: .server, ["http.route": "/cart"]) { span in
///     obs.logger("checkout").info("order placed", ["amount": 12.5])
///     orders.add(1, ["method": "card"])
/// }
/// await obs.shutdown(within: .seconds(3))
/// ```
///
/// Nothing here blocks the caller or throws after start; what cannot be sent is counted (`losses`) and exported as `otel.sdk.exporter.dropped`.
public final class Obs: Sendable {
    /// The SDK's version, `telemetry.sdk.version` of what it sends.
    public static let version = "0.1.0"

    /// What it was started with.
    public let configuration: ObsConfiguration
    let exporter: Exporter

    private init(_ configuration: ObsConfiguration) {
        self.configuration = configuration
        exporter = Exporter(configuration)
    }

    /// Starts the exporter.
    /// - Throws: `ObsStartError` for an endpoint that is not `http://host[:port][/path]`.
    public static func start(_ configuration: ObsConfiguration = ObsConfiguration()) throws -> Obs {
        if !configuration.isDisabled {
            for url in [configuration.tracesURL, configuration.metricsURL, configuration.logsURL] where !Transport.isSupported(url) {
                throw ObsStartError.unsupportedEndpoint(url)
            }
        }
        return Obs(configuration)
    }

    /// Records lost so far: refused by a full queue, or by the receiver.
    public var losses: (queueFull: Int, refused: Int) { exporter.losses }

    /// Sends everything recorded so far. False when that was not done within the bound.
    @discardableResult
    public func flush(within bound: Duration = .seconds(10)) async -> Bool {
        await offPool { self.exporter.flush(withinNanos: bound.nanos) }
    }

    /// Flushes and stops, at most `bound` long whatever the network does. A second call does nothing. False when records may have been left.
    @discardableResult
    public func shutdown(within bound: Duration = .seconds(3)) async -> Bool {
        await offPool { self.exporter.stop(withinNanos: bound.nanos) }
    }

    /// Waiting must not occupy a thread of Swift's cooperative pool.
    private func offPool(_ body: @escaping @Sendable () -> Bool) async -> Bool {
        await withCheckedContinuation { continuation in
            detachThread { continuation.resume(returning: body()) }
        }
    }
}

/// Why the SDK did not start.
public enum ObsStartError: Error, Sendable {
    /// The SDK speaks plain HTTP; put a collector or proxy in front where TLS is needed.
    case unsupportedEndpoint(String)
}

extension Duration {
    var nanos: UInt64 {
        let parts = components
        guard parts.seconds >= 0 else { return 0 }
        return UInt64(parts.seconds) &* 1_000_000_000 &+ UInt64(max(0, parts.attoseconds / 1_000_000_000))
    }
}
