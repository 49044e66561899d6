// What the log formats share on the way from a request to a `LogBatch`: streams made once per label set, rows, the ids of a trace as columns.

internal import ObsCore

struct LogRowWriter: ~Copyable {
    var batch = LogBatch()
    var arena: ByteArena
    /// Labels of the stream to come.
    var labels = LabelSetBuilder()
    private var streams = LabelSetTable()
    /// Severity the labels of each stream tell; parallel to `streams`.
    private var streamSeverity: [UInt8] = []

    init(bytes: Int) { arena = ByteArena(capacity: bytes + bytes / 8) }

    /// Enters the label set in `labels`, with its `service_name`. Nil when a name is repeated.
    mutating func enterStream() -> UInt32? {
        let start = arena.count
        labels.removeEmpty()
        guard labels.write(to: &arena) else { return nil }
        let isNamed = ServiceName.label.withUnsafeBytes { ObsCore.find($0, in: arena.slice(start..<arena.count)) } != nil
        if !isNamed {
            let service = ServiceName.find(in: arena.slice(start..<arena.count))
            arena.truncate(to: start)
            labels.add(ServiceName.label, service)
            guard labels.write(to: &arena) else { return nil }
        }
        let index = streams.intern(from: start, in: &arena)
        if Int(index) == streamSeverity.count { streamSeverity.append(LevelDetection.severity(labels: arena.slice(streams.ranges[Int(index)]))) }
        return index
    }

    func severity(ofStream index: UInt32) -> UInt8 { streamSeverity[Int(index)] }

    consuming func finish() throws(ObsError) -> LogBatch {
        guard arena.fitsRanges else { throw ObsError(.tooLarge, "the records of one request take more than 4 GiB") }
        batch.streams = streams.ranges
        batch.bytes = arena.array()
        return batch
    }
}

/// A trace id of 32 hexadecimal digits; nil for anything else and for all zeros.
func traceID(hex digits: UnsafeRawBufferPointer) -> TraceID? {
    guard digits.count == 32, let high = hexNumber(.init(rebasing: digits[..<16])), let low = hexNumber(.init(rebasing: digits[16...])) else { return nil }
    let id = TraceID(high: high, low: low)
    return id.isNone ? nil : id
}

/// A span id of 16 hexadecimal digits; nil for anything else and for all zeros.
func spanID(hex digits: UnsafeRawBufferPointer) -> SpanID? {
    guard digits.count == 16, let id = hexNumber(digits), id != 0 else { return nil }
    return id
}

private func hexNumber(_ digits: UnsafeRawBufferPointer) -> UInt64? {
    var value: UInt64 = 0
    for digit in digits {
        guard let half = hexValue(digit) else { return nil }
        value = value << 4 | UInt64(half)
    }
    return value
}
