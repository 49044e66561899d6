package import ObsCore

/// What senders say of metric families: type, unit, help. Of each family what was said last.
package struct MetricFamilies: Sendable, Equatable {
    package struct Entry: Sendable, Equatable {
        package var type: MetricType
        package var unit: [UInt8]
        package var help: [UInt8]

        package init(type: MetricType, unit: [UInt8], help: [UInt8]) {
            self.type = type
            self.unit = unit
            self.help = help
        }
    }

    /// Past this many new families are passed over: names are few unless something is wrong with who sends them.
    package static let countMax = 100_000
    /// Bytes of a help text that are kept.
    package static let helpBytesMax = 4096

    private var entries: [[UInt8]: Entry] = [:]
    /// About what it takes in memory.
    package private(set) var byteSize = 0

    package init() {}

    package var isEmpty: Bool { entries.isEmpty }
    package var count: Int { entries.count }
    package subscript(name: [UInt8]) -> Entry? { entries[name] }
    /// By name, bytewise.
    package var sorted: [(name: [UInt8], entry: Entry)] {
        entries.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { ($0.key, $0.value) }
    }

    package mutating func set(_ name: [UInt8], _ entry: Entry) {
        let known = entries[name]
        guard known != entry, known != nil || entries.count < Self.countMax else { return }
        entries[name] = entry
        byteSize += entry.unit.count + entry.help.count - (known.map { $0.unit.count + $0.help.count } ?? -name.count - 160)
    }

    package mutating func add(_ batch: MetricBatch) {
        for one in batch.metadata {
            let help = batch.bytes[one.help.range].prefix(Self.helpBytesMax)
            set(Array(batch.bytes[one.family.range]), Entry(type: one.type, unit: Array(batch.bytes[one.unit.range]), help: Array(help)))
        }
    }

    /// Adds what was said later.
    package mutating func add(_ later: MetricFamilies) {
        for (name, entry) in later.entries { set(name, entry) }
    }
}
