internal import ObsCore
internal import ObsStore

/// A head generation of one signal: all tenants' heads, the log records they came from, one unit of flush.
final class Generation<Head: SignalHead> {
    /// Sequence numbers of log records: the generation's are `firstSequence..<endSequence`.
    let firstSequence: UInt64
    private(set) var endSequence: UInt64
    let createdNanos: Int64
    private(set) var heads: [TenantID: Head] = [:]
    /// Memory of all heads, each as it was after its last batch: a label index that a query made is counted then.
    private(set) var usedBytes = 0
    private var usedBytesOfHead: [TenantID: Int] = [:]
    /// Bytes of log records.
    var walBytes = 0

    init(firstSequence: UInt64, createdNanos: Int64) {
        self.firstSequence = firstSequence
        endSequence = firstSequence
        self.createdNanos = createdNanos
    }

    /// Applies a batch; the record's sequence number is at or past `endSequence`.
    func apply(_ batch: Head.Batch, prepared: Head.Prepared, tenant: TenantID, sequence: UInt64, floor: Int64, limits: Limits) -> AppendOutcome {
        let head: Head
        if let known = heads[tenant] {
            head = known
        } else {
            head = Head()
            heads[tenant] = head
        }
        let outcome = head.append(batch, prepared: prepared, sequence: sequence, floor: floor, limits: limits)
        let now = head.usedBytes
        usedBytes += now - (usedBytesOfHead.updateValue(now, forKey: tenant) ?? 0)
        endSequence = sequence + 1
        return outcome
    }

    /// Counts records in that are not applied: what a later start must not number again.
    func skip(to sequence: UInt64) { endSequence = max(endSequence, sequence) }

    func contains(_ sequence: UInt64) -> Bool { sequence >= firstSequence && sequence < endSequence }

    var rowCount: Int { heads.values.reduce(0) { $0 + $1.rowCount } }
    var seriesCount: Int { heads.values.reduce(0) { $0 + $1.seriesCount } }
    var isEmpty: Bool { firstSequence == endSequence }
}
