internal import ObsCore
internal import ObsSegment
internal import ObsStore

/// Exemplars of several segments and heads, gathered by series.
struct ExemplarScan {
    /// Series looked at under the lock at once: writers never wait long.
    private static let seriesAtOnce = 4096
    let selectors: [[LabelMatcher]]
    let range: ClosedRange<Int64>
    let context: QueryContext
    private var found: [Labels: [Exemplar]] = [:]

    init(_ selectors: [[LabelMatcher]], range: ClosedRange<Int64>, context: QueryContext) {
        self.selectors = selectors
        self.range = range
        self.context = context
    }

    mutating func add(_ segment: MetricSegment, _ mask: DeletedRows) throws(ObsError) {
        guard segment.overlaps(widened(range)), selectors.isEmpty || selectors.contains(where: { segment.mayHold($0) }) else { return }
        try context.check()
        context.count(segments: 1)
        let reader = try segment.reader()
        let exemplars = try segment.reading { () throws(ObsError) in try reader.exemplars(selectors, range: range) }
        for (labels, exemplars) in exemplars { try add(exemplars, of: labels, mask) }
    }

    mutating func add(_ head: MetricHead, _ expiry: Expiry, locked: Locked) throws(ObsError) {
        let ids = head.table.select(any: selectors, locked: locked)
        var start = 0
        while start < ids.count {
            try context.check()
            let end = min(start + Self.seriesAtOnce, ids.count)
            var copied: [(id: Int, exemplars: [Exemplar])] = []
            locked {
                for id in ids[start..<end] where head.table[id].pointee.extras != nil {
                    let exemplars = head.exemplars(of: id, samples: .min ... .max)
                    if !exemplars.isEmpty { copied.append((id, exemplars)) }
                }
            }
            for (id, exemplars) in copied {
                try add(exemplars, of: Labels(canonical: [UInt8](head.table[id].pointee.labelBytes)), DeletedRows(expiry: expiry))
            }
            start = end
        }
    }

    private mutating func add(_ exemplars: [Exemplar], of labels: Labels, _ mask: DeletedRows) throws(ObsError) {
        let deleted = mask.deletedTimes(labels)
        let kept = exemplars.filter { exemplar in
            range.contains(exemplar.timeMillis) && !deleted.contains { $0.contains(exemplar.timeMillis) }
        }
        guard !kept.isEmpty else { return }
        try context.charge(bytes: kept.reduce(found[labels] == nil ? labels.bytes.count + 64 : 0) { $0 + $1.labels.bytes.count + 64 })
        found[labels, default: []] += kept
    }

    func series() -> [SeriesExemplars] { found.keys.sorted().map { SeriesExemplars(labels: $0, exemplars: Exemplar.merged(found[$0] ?? [])) } }

    private func widened(_ range: ClosedRange<Int64>) -> ClosedRange<Int64> {
        let reach = HeadExemplar.reachMillis
        return clampedSum(range.lowerBound, -reach)...clampedSum(range.upperBound, reach)
    }
}
