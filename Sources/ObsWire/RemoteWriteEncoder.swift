// Remote write out: series of a batch as `WriteRequest` (1.0) or `io.prometheus.write.v2.Request` (2.0). The second names each text once and refers to it by number.
package import ObsCore

/// The message a remote write request is.
package enum RemoteWriteVersion: String, Sendable {
    case version1 = "prometheus.WriteRequest"
    case version2 = "io.prometheus.write.v2.Request"

    package var contentType: String { self == .version1 ? "application/x-protobuf" : "application/x-protobuf;proto=\(rawValue)" }
    /// What `X-Prometheus-Remote-Write-Version` says.
    package var number: String { self == .version1 ? "0.1.0" : "2.0.0" }
}

/// What a family is, for senders that repeat it.
package struct RemoteWriteFamily: Sendable, Equatable {
    package var type: MetricType
    package var help: [UInt8]
    package var unit: [UInt8]

    package init(type: MetricType, help: [UInt8], unit: [UInt8]) {
        self.type = type
        self.help = help
        self.unit = unit
    }
}

/// Makes one request of series of any number of batches.
package struct RemoteWriteEncoder {
    package let version: RemoteWriteVersion
    private var writer = ProtobufWriter()
    private var symbols = SymbolTable()

    package init(_ version: RemoteWriteVersion) { self.version = version }

    package var isEmpty: Bool { writer.bytes.isEmpty }

    /// Adds a series of a batch with its samples, histograms and exemplars.
    /// - Parameters:
    ///   - rows: of its histograms, see `MetricBatch.histogramRows`.
    ///   - exemplars: indices into the batch's.
    ///   - family: what is known of the series' family, by the series' name; only 2.0 asks.
    package mutating func add(
        _ batch: MetricBatch, series: Int, rows: [Int], exemplars: [Int], family: (_ name: [UInt8]) -> RemoteWriteFamily? = { _ in nil }
    ) {
        let part = Part(batch: batch, series: series, rows: rows, exemplars: exemplars)
        switch version {
        case .version1: writer.message(1) { part.writeVersion1(&$0) }
        case .version2: writer.message(5) { part.writeVersion2(&$0, &symbols, family) }
        }
    }

    package func message() -> [UInt8] {
        if version == .version1 { return writer.bytes }
        // Fields may come in any order, but readers of streams like symbols first.
        var head = ProtobufWriter()
        for symbol in symbols.texts { head.bytes(4, symbol) }
        return head.bytes + writer.bytes
    }

    /// A request of nothing but metadata, which 1.0 sends apart.
    package static func metadata(_ families: some Sequence<(name: [UInt8], family: RemoteWriteFamily)>) -> [UInt8] {
        var writer = ProtobufWriter()
        for (name, family) in families {
            writer.message(3) {
                $0.varint(1, UInt64(family.type.rawValue))
                $0.bytes(2, name)
                $0.bytes(4, family.help)
                $0.bytes(5, family.unit)
            }
        }
        return writer.bytes
    }
}

extension MetricBatch {
    /// Of each series the rows of its histograms; empty when there are none at all.
    package func histogramRows() -> [[Int]] {
        guard !histogramSeries.isEmpty else { return [] }
        var rows = [[Int]](repeating: [], count: series.count)
        for (row, series) in histogramSeries.enumerated() { rows[Int(series)].append(row) }
        return rows
    }

    /// Of each series the indices of its exemplars; empty when there are none at all.
    package func exemplarIndices() -> [[Int]] {
        guard !exemplars.isEmpty else { return [] }
        var indices = [[Int]](repeating: [], count: series.count)
        for (index, exemplar) in exemplars.enumerated() { indices[Int(exemplar.series)].append(index) }
        return indices
    }
}

/// Texts by number; the first is the empty one.
private struct SymbolTable {
    private(set) var texts: [[UInt8]] = [[]]
    private var numbers: [[UInt8]: UInt64] = [[]: 0]

    mutating func number(_ text: UnsafeRawBufferPointer) -> UInt64 { number([UInt8](text)) }

    mutating func number(_ text: [UInt8]) -> UInt64 {
        if let known = numbers[text] { return known }
        let number = UInt64(texts.count)
        texts.append(text)
        numbers[text] = number
        return number
    }
}

/// One series of a batch.
private struct Part {
    let batch: MetricBatch
    let series: Int
    let rows: [Int]
    let exemplars: [Int]

    private var entry: MetricBatch.Series { batch.series[series] }
    private var samples: Range<Int> { Int(entry.firstSample)..<Int(entry.firstSample) + Int(entry.sampleCount) }

    private func forEachLabel(_ range: ByteRange, _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void) {
        batch.bytes.withUnsafeBytes { ObsCore.forEachLabel(UnsafeRawBufferPointer(rebasing: $0[range.range]), body) }
    }

    // MARK: - 1.0

    func writeVersion1(_ writer: inout ProtobufWriter) {
        writeLabels(entry.labels, &writer)
        for sample in samples {
            writer.message(2) {
                $0.double(1, batch.values[sample])
                $0.int(2, batch.timesMillis[sample])
            }
        }
        for index in exemplars {
            let exemplar = batch.exemplars[index]
            writer.message(3) {
                writeLabels(exemplar.labels, &$0)
                $0.double(2, exemplar.value)
                $0.int(3, exemplar.timeMillis)
            }
        }
        for row in rows { writer.message(4) { writeHistogram(row, &$0) } }
    }

    private func writeLabels(_ range: ByteRange, _ writer: inout ProtobufWriter) {
        forEachLabel(range) { name, value in
            writer.message(1) {
                $0.bytes(1, name)
                $0.bytes(2, value)
            }
        }
    }

    // MARK: - 2.0

    func writeVersion2(_ writer: inout ProtobufWriter, _ symbols: inout SymbolTable, _ family: ([UInt8]) -> RemoteWriteFamily?) {
        var metricName: [UInt8] = []
        let references = references(entry.labels, &symbols, &metricName)
        writer.message(1) { for number in references { $0.packed(varint: number) } }
        for sample in samples {
            writer.message(2) {
                $0.double(1, batch.values[sample])
                $0.int(2, batch.timesMillis[sample])
                if !batch.startsMillis.isEmpty, batch.startsMillis[sample] != 0 { $0.int(3, batch.startsMillis[sample]) }
            }
        }
        for row in rows {
            writer.message(3) {
                writeHistogram(row, &$0)
                if batch.histograms.startsMillis[row] != 0 { $0.int(17, batch.histograms.startsMillis[row]) }
            }
        }
        for index in exemplars {
            let exemplar = batch.exemplars[index]
            var none: [UInt8] = []
            let references = self.references(exemplar.labels, &symbols, &none)
            writer.message(4) {
                $0.message(1) { for number in references { $0.packed(varint: number) } }
                $0.double(2, exemplar.value)
                $0.int(3, exemplar.timeMillis)
            }
        }
        guard let known = family(metricName) else { return }
        let help = symbols.number(known.help)
        let unit = symbols.number(known.unit)
        writer.message(5) {
            $0.varint(1, UInt64(known.type.rawValue))
            $0.varint(3, help)
            $0.varint(4, unit)
        }
    }

    private func references(_ range: ByteRange, _ symbols: inout SymbolTable, _ metricName: inout [UInt8]) -> [UInt64] {
        var references: [UInt64] = []
        forEachLabel(range) { name, value in
            references.append(symbols.number(name))
            references.append(symbols.number(value))
            if equals(name, "__name__") { metricName = [UInt8](value) }
        }
        return references
    }

    // MARK: - Histograms, which both have alike

    private func writeHistogram(_ row: Int, _ writer: inout ProtobufWriter) {
        let columns = batch.histograms
        let layout = columns.layout(ofRow: row)
        if layout.isFloat { writer.fixed64(2, columns.counts[row]) } else { writer.varint(1, columns.counts[row]) }
        writer.double(3, columns.sums[row])
        writer.zigzag(4, Int64(layout.schema))
        writer.double(5, layout.zeroThreshold)
        if layout.isFloat { writer.fixed64(7, columns.zeroCounts[row]) } else { writer.varint(6, columns.zeroCounts[row]) }
        let buckets = columns.buckets[columns.bucketRange(row)]
        writeSide(layout.negative, buckets.suffix(layout.negativeCount), isFloat: layout.isFloat, spans: 8, deltas: 9, counts: 10, &writer)
        writeSide(layout.positive, buckets.prefix(layout.positiveCount), isFloat: layout.isFloat, spans: 11, deltas: 12, counts: 13, &writer)
        if columns.resets[row] != .unknown { writer.varint(14, UInt64(columns.resets[row].rawValue)) }
        writer.int(15, columns.timesMillis[row])
        if !layout.customBoundsBits.isEmpty { writer.message(16) { for bits in layout.customBoundsBits { $0.packed(fixed64: bits) } } }
    }

    private func writeSide(
        _ layout: [BucketSpan], _ buckets: ArraySlice<UInt64>, isFloat: Bool, spans: UInt32, deltas: UInt32, counts: UInt32, _ writer: inout ProtobufWriter
    ) {
        for span in layout {
            writer.message(spans) {
                $0.zigzag(1, Int64(span.offset))
                $0.varint(2, UInt64(span.length))
            }
        }
        guard !buckets.isEmpty else { return }
        if isFloat {
            writer.message(counts) { for bits in buckets { $0.packed(fixed64: bits) } }
        } else {
            writer.message(deltas) {
                var last: Int64 = 0
                for count in buckets {
                    let value = Int64(bitPattern: count)
                    let delta = value &- last
                    $0.packed(varint: UInt64(bitPattern: delta &<< 1 ^ delta >> 63))
                    last = value
                }
            }
        }
    }
}
