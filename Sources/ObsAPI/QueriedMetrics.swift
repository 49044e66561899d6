internal import ObsCore
internal import ObsPromQL
internal import ObsStore

/// When each metric was last asked for, since the start. Bounded: of more names than that none is forgotten, further ones are not noted.
final class QueriedMetrics: Sendable {
    private static let namesMax = 50_000
    private let times = Monitor<[TenantID: [String: Int64]]>([:])

    /// Notes the metrics a query names; a selector without a name is nobody's.
    func note(_ expression: Expression, _ tenant: TenantID, atMillis now: Int64) {
        note(expression.selectors.map(\.matchers), tenant, atMillis: now)
    }

    func note(_ selectors: [[LabelMatcher]], _ tenant: TenantID, atMillis now: Int64) {
        let names = selectors.flatMap { $0 }.filter { $0.name == "__name__" && $0.operation == .equal }.map(\.value)
        guard !names.isEmpty else { return }
        times.read { times in
            for name in names where times[tenant]?[name] != nil || times[tenant]?.count ?? 0 < Self.namesMax { times[tenant, default: [:]][name] = now }
        }
    }

    func lastMillis(_ name: String, _ tenant: TenantID) -> Int64? { times.read { $0[tenant]?[name] } }
}
