internal import ObsCore
internal import ObsEncoding
internal import ObsSegment
internal import ObsStore

/// Counts of log records by the value of a field, collected from several threads. A record without the field, or whose value has no text, is not counted.
final class FieldCount: Sendable {
    private let source: FieldSource
    private let paths: [FieldPath]
    private let isByStream: Bool
    private let context: QueryContext
    private let counts: Monitor<[Key: Int]>

    private struct Key: Hashable {
        var value: [UInt8]
        var labels: Labels?
    }

    init(_ source: FieldSource, _ paths: [FieldPath], isByStream: Bool, context: QueryContext) {
        self.source = source
        self.paths = paths
        self.isByStream = isByStream
        self.context = context
        counts = Monitor([:])
    }

    /// By value, then stream.
    var result: [FieldValueCount] {
        counts.read { counts in
            counts.map { FieldValueCount(value: $0.key.value, labels: $0.key.labels, count: $0.value) }.sorted { a, b in
                if a.value != b.value { return a.value.lexicographicallyPrecedes(b.value) }
                return a.labels.flatMap { labels in b.labels.map { labels < $0 } } ?? false
            }
        }
    }

    private func add(_ local: [Key: Int]) throws(ObsError) {
        let added = counts.read { counts in
            var bytes = 0
            for (key, rows) in local {
                if counts[key] == nil { bytes += key.value.count + (key.labels?.bytes.count ?? 0) + 80 }
                counts[key, default: 0] += rows
            }
            return bytes
        }
        if added > 0 { try context.charge(bytes: added) }
    }

    /// Adds a block all of whose rows count, without reading it. False where it must be read.
    func add(_ block: LogBlockView, _ filters: [FieldFilter]) throws(ObsError) -> Bool {
        guard !isByStream || block.streams.count == 1 else { return false }
        let known = try block.fields()
        for filter in filters {
            guard let answer = filter.answer(known, rows: block.rows) else { return false }
            if !answer { return true }
        }
        let labels = isByStream ? block.streams.first : nil
        var local: [Key: Int] = [:]
        for path in paths {
            // A row may have both of two paths: then only the first counts.
            guard let values = known.values(of: path, source) else { continue }
            guard case .counts(let values) = values, local.isEmpty || values.isEmpty else { return false }
            for value in values { local[Key(value: value.text, labels: labels)] = value.rows }
        }
        try add(local)
        return true
    }

    func add(_ block: LogBlockView, _ rows: RowSet) throws(ObsError) {
        let texts = source == .line ? try block.lines() : try block.attributes()
        let streams = isByStream && block.streams.count > 1 ? try block.streamNumbers() : []
        let labels = Array(block.streams)
        var local: [Key: Int] = [:]
        var rest = rows
        for (index, path) in paths.enumerated() where !rest.isEmpty {
            let values = try texts.values(of: path, source, among: rest)
            var counts = [Int](repeating: 0, count: values.texts.count * max(1, streams.isEmpty ? 1 : labels.count))
            rest.forEach { row in
                let number = Int(values.ofRow[row])
                if number > 0 { counts[(number - 1) + (streams.isEmpty ? 0 : Int(streams[row]) * values.texts.count)] += 1 }
            }
            for (place, rows) in counts.enumerated() where rows > 0 {
                let stream = isByStream ? labels[place / values.texts.count] : nil
                local[Key(value: values.texts[place % values.texts.count], labels: stream), default: 0] += rows
            }
            if index + 1 < paths.count { rest.subtract(try texts.rows(where: path, of: source, pass: .exists, among: rest)) }
        }
        try add(local)
    }

    func add(_ batch: LogBatch, _ rows: [Int], _ labels: [Labels]) throws(ObsError) {
        var local: [Key: Int] = [:]
        batch.bytes.withUnsafeBytes { bytes in
            for row in rows {
                let text = UnsafeRawBufferPointer(rebasing: bytes[(source == .line ? batch.line[row] : batch.attributes[row]).range])
                guard let value = value(in: text) else { continue }
                local[Key(value: value, labels: isByStream ? labels[Int(batch.stream[row])] : nil), default: 0] += 1
            }
        }
        try add(local)
    }

    private func value(in text: UnsafeRawBufferPointer) -> [UInt8]? {
        for path in paths {
            if let value = path.withValue(in: text, source, { $0.text($1) }) { return value }
            if FieldTest.exists.passes(path, in: text, source) { return nil }
        }
        return nil
    }
}
