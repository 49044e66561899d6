internal import Synchronization

/// The daemon's own metrics, shown at `/metrics`. A counter is made once, kept by its owner, and costs one atomic add.
package enum SelfMetrics {
    package final class Counter: Sendable {
        private let count = Atomic<Int>(0)
        package func add(_ amount: Int = 1) { count.wrappingAdd(amount, ordering: .relaxed) }
        package var value: Int { count.load(ordering: .relaxed) }
    }

    package enum Kind: String, Sendable { case counter, gauge }

    package struct Family: Sendable {
        package let name: String
        package let help: String
        package let kind: Kind
        /// Each series: labels and what reads its present value.
        package var series: [(labels: Labels, value: @Sendable () -> Double)]
    }

    private static let families = Monitor<[String: Family]>([:])

    /// Makes (or finds the name and adds a series to it) a counter. Names end in `_total`.
    package static func counter(_ name: String, help: String, labels: Labels = .empty) -> Counter {
        let counter = Counter()
        register(name, help: help, kind: .counter, labels: labels) { Double(counter.value) }
        return counter
    }

    /// A counter kept elsewhere and read when scraped.
    package static func counter(_ name: String, help: String, labels: Labels = .empty, read: @escaping @Sendable () -> Double) {
        register(name, help: help, kind: .counter, labels: labels, read)
    }

    /// A gauge read when scraped.
    package static func gauge(_ name: String, help: String, labels: Labels = .empty, read: @escaping @Sendable () -> Double) {
        register(name, help: help, kind: .gauge, labels: labels, read)
    }

    private static func register(_ name: String, help: String, kind: Kind, labels: Labels, _ read: @escaping @Sendable () -> Double) {
        families.update { all in
            var family = all[name] ?? Family(name: name, help: help, kind: kind, series: [])
            family.series.removeAll { $0.labels == labels }
            family.series.append((labels, read))
            all[name] = family
        }
    }

    /// All families in name order, for the exposition.
    package static func snapshot() -> [Family] { families.read { Array($0.values) }.sorted { $0.name < $1.name } }
}
