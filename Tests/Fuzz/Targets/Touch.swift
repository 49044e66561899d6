// A decoded batch is only right when all that later stations will follow lies within it: here everything is followed once.
import ObsCore
import ObsWire

func touch(_ batch: MetricBatch) {
    precondition(batch.timesMillis.count == batch.values.count)
    for series in batch.series {
        touchLabels(batch.bytes, series.labels)
        precondition(Int(series.firstSample) + Int(series.sampleCount) <= batch.timesMillis.count)
    }
    precondition(batch.startsMillis.isEmpty || batch.startsMillis.count == batch.timesMillis.count)
    precondition(batch.histogramSeries.count == batch.histograms.count && batch.histogramSeries.allSatisfy { Int($0) < batch.series.count })
    for exemplar in batch.exemplars {
        precondition(Int(exemplar.series) < batch.series.count)
        touchLabels(batch.bytes, exemplar.labels)
    }
    for metadata in batch.metadata { for range in [metadata.family, metadata.help, metadata.unit] { _ = batch.bytes.string(range) } }
}

func touch(_ batch: LogBatch) {
    let rows = batch.count
    precondition([batch.stream.count, batch.line.count, batch.attributes.count, batch.traceID.count, batch.flags.count].allSatisfy { $0 == rows })
    for stream in batch.streams { touchLabels(batch.bytes, stream) }
    for row in 0..<rows {
        _ = batch.labels(ofStream: batch.stream[row])
        _ = batch.bytes.string(batch.line[row])
        for list in [batch.attributes[row], batch.resources[Int(batch.resource[row])], batch.scopes[Int(batch.scope[row])]] {
            touchAttributes(batch.bytes, list)
        }
        _ = Severity.word(batch.severity[row])
    }
}

func touch(_ batch: SpanBatch) {
    precondition(batch.services.count == batch.resources.count)
    for row in 0..<batch.count {
        for text in [batch.name[row], batch.statusMessage[row], batch.traceState[row], batch.services[Int(batch.resource[row])]] {
            _ = batch.bytes.string(text)
        }
        for list in [batch.attributes[row], batch.resources[Int(batch.resource[row])], batch.scopes[Int(batch.scope[row])]] {
            touchAttributes(batch.bytes, list)
        }
        _ = batch.events(ofRow: row)
        _ = batch.links(ofRow: row)
        _ = batch.droppedCounts(ofRow: row)
    }
    guard batch.count > 0 else { return }
    let rows = Array(0..<min(batch.count, 64))
    _ = TempoEncoding.traceJSON(batch, rows: rows)
    _ = TempoEncoding.traceProtobuf(batch, rows: rows)
    var json = JSONWriter()
    JaegerEncoding.writeTrace(batch, rows: rows, to: &json)
}

private func touchLabels(_ bytes: [UInt8], _ range: ByteRange) { _ = Labels(canonical: Array(bytes[range.range])).pairs }

private func touchAttributes(_ bytes: [UInt8], _ range: ByteRange) { _ = attributeList(bytes[range.range]) }
