package import ObsCore
package import ObsPromQL
internal import ObsStore
internal import Synchronization

/// PromQL for rules: expressions are parsed once and kept.
package final class PromQLQuerier: RuleQuerier {
    private let engine: PromQLEngine
    private let tenant: TenantID
    private let limits: Limits
    private let clock: any Clock
    private let parsed = Mutex<[String: Expression]>([:])
    private static let parsedMax = 10_000

    package init(engine: PromQLEngine, tenant: TenantID = .default, limits: Limits = Limits(), clock: any Clock = SystemClock()) {
        self.engine = engine
        self.tenant = tenant
        self.limits = limits
        self.clock = clock
    }

    package func check(_ expression: String) throws(ObsError) { _ = try parse(expression) }

    private func parse(_ text: String) throws(ObsError) -> Expression {
        if let known = parsed.withLock({ $0[text] }) { return known }
        let expression = try engine.parse(text)
        parsed.withLock {
            if $0.count >= Self.parsedMax { $0 = [:] }
            $0[text] = expression
        }
        return expression
    }

    private static func sample(_ sample: VectorSample) -> RuleSample {
        guard let histogram = sample.histogram else { return RuleSample(labels: sample.labels, value: sample.value) }
        var columns = HistogramColumns()
        columns.append(histogram, timeMillis: sample.timeMillis)
        return RuleSample(labels: sample.labels, value: .nan, histogram: columns)
    }

    package func vector(_ expression: String, atMillis: Int64) throws(ObsError) -> [RuleSample] {
        let context = QueryContext(tenant: tenant, limits: limits, clock: clock)
        switch try engine.instant(parse(expression), atMillis: atMillis, context: context).value {
        case .vector(let samples): return samples.map(Self.sample)
        case .scalar(_, let value): return [RuleSample(labels: .empty, value: value)]
        case .string, .matrix: throw ObsError(.unprocessable, "rule result is not a vector or scalar")
        }
    }
}
