internal import Synchronization

/// Sums of one instrument, a series for each set of attributes.
final class Aggregation: Sendable {
    enum Kind: Sendable {
        case counter, upDownCounter, gauge
        /// Upper bounds of the buckets, ascending.
        case histogram([Double])
    }

    struct Point: Sendable {
        var attributes: ObsAttributes
        var value = 0.0
        var count: UInt64 = 0
        var buckets: [UInt64] = []
        var least = Double.infinity
        var most = -Double.infinity
    }

    let name: String
    let unit: String
    let help: String
    let kind: Kind
    let startNanos = wallNanos()
    private let seriesMax: Int
    private let points = Mutex<[Key: Point]>([:])

    struct Key: Hashable, Sendable {
        let pairs: [String]
        init(_ attributes: ObsAttributes) { pairs = attributes.isEmpty ? [] : attributes.sorted { $0.key < $1.key }.flatMap { [$0.key, "\($0.value)"] } }
    }

    init(name: String, unit: String, help: String, kind: Kind, seriesMax: Int) {
        self.name = name
        self.unit = unit
        self.help = help
        self.kind = kind
        self.seriesMax = seriesMax
    }

    func record(_ value: Double, _ attributes: ObsAttributes) {
        let key = Key(attributes)
        points.withLock { points in
            if points[key] == nil, points.count >= seriesMax {
                Self.apply(value, kind, &points[Key(Self.overflow), default: Point(attributes: Self.overflow)])
            } else {
                Self.apply(value, kind, &points[key, default: Point(attributes: attributes)])
            }
        }
    }

    private static let overflow: ObsAttributes = ["otel.metric.overflow": true]

    private static func apply(_ value: Double, _ kind: Kind, _ point: inout Point) {
        switch kind {
        case .counter: if value >= 0 { point.value += value }
        case .upDownCounter: point.value += value
        case .gauge: point.value = value
        case .histogram(let bounds):
            if point.buckets.isEmpty { point.buckets = [UInt64](repeating: 0, count: bounds.count + 1) }
            point.buckets[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
            point.value += value
            point.count += 1
            point.least = min(point.least, value)
            point.most = max(point.most, value)
        }
    }

    func collect() -> [Point] { points.withLock { Array($0.values) } }
}

/// A sum that only grows.
public struct ObsCounter: Sendable {
    let aggregation: Aggregation
    /// Adds; a negative amount is ignored.
    public func add(_ amount: Double = 1, _ attributes: ObsAttributes = [:]) { aggregation.record(amount, attributes) }
}

/// A sum that grows and shrinks: open connections, queue length.
public struct ObsUpDownCounter: Sendable {
    let aggregation: Aggregation
    /// Adds; a negative amount takes away.
    public func add(_ amount: Double, _ attributes: ObsAttributes = [:]) { aggregation.record(amount, attributes) }
}

/// A value as it is now.
public struct ObsGauge: Sendable {
    let aggregation: Aggregation
    /// Sets the value; the last one set is exported until the next.
    public func record(_ value: Double, _ attributes: ObsAttributes = [:]) { aggregation.record(value, attributes) }
}

/// A distribution over explicit buckets.
public struct ObsHistogram: Sendable {
    let aggregation: Aggregation
    /// Counts the value into its bucket.
    public func record(_ value: Double, _ attributes: ObsAttributes = [:]) { aggregation.record(value, attributes) }

    /// Counts a duration, in seconds: of use where the attributes are known only afterwards.
    public func record(_ duration: Duration, _ attributes: ObsAttributes = [:]) {
        record(Double(duration.components.seconds) + Double(duration.components.attoseconds) / 1e18, attributes)
    }

    /// Records how long `body` took, in seconds.
    public func time<Result>(_ attributes: ObsAttributes = [:], _ body: () throws -> Result) rethrows -> Result {
        let start = monotonicNanos()
        defer { record(Double(monotonicNanos() - start) / 1e9, attributes) }
        return try body()
    }
}

extension Obs {
    /// Bounds for durations in seconds, OpenTelemetry's advice for HTTP.
    public static let durationBuckets = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]

    /// A sum that only grows; made once and kept.
    /// - Parameter unit: UCUM unit: `1`, `s`, `By`. Receivers that speak Prometheus append it to the name.
    public func counter(_ name: String, unit: String = "", help: String = "") -> ObsCounter {
        ObsCounter(aggregation: instrument(name, unit, help, .counter))
    }

    /// A sum that grows and shrinks.
    public func upDownCounter(_ name: String, unit: String = "", help: String = "") -> ObsUpDownCounter {
        ObsUpDownCounter(aggregation: instrument(name, unit, help, .upDownCounter))
    }

    /// A value as it is now.
    public func gauge(_ name: String, unit: String = "", help: String = "") -> ObsGauge {
        ObsGauge(aggregation: instrument(name, unit, help, .gauge))
    }

    /// A distribution.
    /// - Parameter buckets: upper bounds, inclusive; a last bucket takes what is above them all.
    public func histogram(_ name: String, unit: String = "s", buckets: [Double] = Obs.durationBuckets, help: String = "") -> ObsHistogram {
        ObsHistogram(aggregation: instrument(name, unit, help, .histogram(buckets.sorted())))
    }

    /// The same name gives the same instrument.
    private func instrument(_ name: String, _ unit: String, _ help: String, _ kind: Aggregation.Kind) -> Aggregation {
        exporter.instruments.withLock { instruments in
            if let known = instruments[name] { return known }
            let made = Aggregation(name: name, unit: unit, help: help, kind: kind, seriesMax: configuration.seriesMax)
            instruments[name] = made
            return made
        }
    }
}
