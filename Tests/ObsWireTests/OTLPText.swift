import ObsCore
import ObsWire

// Batches as lines of text, for tests to compare.

let receivedAt: Int64 = 1_700_000_000_000_000_000

func attributeText(_ bytes: some Collection<UInt8>) -> String {
    attributeList(bytes).map { "\($0.key)=\(typed($0.value))" }.joined(separator: " ")
}

func typed(_ value: AttributeValue) -> String {
    switch value {
    case .string(let text): "\"\(text)\""
    case .bool(let flag): "\(flag)"
    case .int(let number): "\(number)"
    case .double(let number): "\(number.bitPattern == 0 ? 0.0 : number)d"
    case .bytes(let bytes): "b\(base64(bytes))"
    case .list(let text), .map(let text): text
    }
}

/// Every field of a span but those that are empty.
func spanTexts(_ batch: SpanBatch) -> [String] {
    (0..<batch.count).map { row in
        var parts = [
            batch.traceID[row].description, hexString(batch.spanID[row]), "parent=\(hexString(batch.parentID[row]))",
            "name=\(batch.bytes.string(batch.name[row]))",
            "kind=\(SpanKind.word(batch.kind[row]))", "start=\(batch.startNanos[row])", "duration=\(batch.durationNanos[row])",
            "status=\(SpanStatus.word(batch.status[row]))",
            "message=\(batch.bytes.string(batch.statusMessage[row]))", "state=\(batch.bytes.string(batch.traceState[row]))", "flags=\(batch.flags[row])",
            "dropped=\(batch.droppedCounts(ofRow: row))", "attributes=[\(attributeText(batch.bytes[batch.attributes[row].range]))]",
        ]
        for event in batch.events(ofRow: row) {
            parts.append(
                "event(\(event.timeNanos) \(event.name) [\(event.attributes.map { "\($0.key)=\(typed($0.value))" }.joined(separator: " "))] \(event.droppedAttributes))"
            )
        }
        for link in batch.links(ofRow: row) {
            let list = link.attributes.map { "\($0.key)=\(typed($0.value))" }.joined(separator: " ")
            parts.append("link(\(link.traceID) \(hexString(link.spanID)) \(link.traceState) [\(list)] \(link.droppedAttributes) \(link.flags))")
        }
        parts.append("service=\(batch.bytes.string(batch.services[Int(batch.resource[row])]))")
        parts.append("resource=[\(attributeText(batch.bytes[batch.resources[Int(batch.resource[row])].range]))]")
        parts.append("scope=[\(attributeText(batch.bytes[batch.scopes[Int(batch.scope[row])].range]))]")
        return parts.joined(separator: " ")
    }
}

func logTexts(_ batch: LogBatch) -> [String] {
    (0..<batch.count).map { row in
        [
            batch.labels(ofStream: batch.stream[row]).description, "\(batch.timeNanos[row])", "severity=\(batch.severity[row])",
            "line=\(batch.bytes.string(batch.line[row]))",
            "attributes=[\(attributeText(batch.bytes[batch.attributes[row].range]))]", "trace=\(batch.traceID[row])", "span=\(hexString(batch.spanID[row]))",
            "resource=[\(attributeText(batch.bytes[batch.resources[Int(batch.resource[row])].range]))]",
            "scope=[\(attributeText(batch.bytes[batch.scopes[Int(batch.scope[row])].range]))]",
        ].joined(separator: " ")
    }
}

/// `name{labels} value @millis` of every sample, as the exposition format has it.
func sampleTexts(_ batch: MetricBatch) -> [String] {
    batch.series.flatMap { series in
        (Int(series.firstSample)..<Int(series.firstSample + series.sampleCount)).map {
            let value = SpecialValue.isStale(batch.values[$0]) ? "stale" : formatSampleValue(batch.values[$0])
            return "\(seriesText(batch.labels(of: series))) \(value) @\(batch.timesMillis[$0])"
        }
    }
}

func deltaTexts(_ deltas: DeltaPoints) -> [String] {
    (0..<deltas.count).map {
        "\(seriesText(deltas.labels(ofPoint: $0))) +\(formatSampleValue(deltas.increments[$0])) \(deltas.startsMillis[$0])..\(deltas.timesMillis[$0])"
    }
}

func exemplarTexts(_ batch: MetricBatch) -> [String] {
    batch.exemplars.map {
        let labels = Labels(canonical: Array(batch.bytes[$0.labels.range]))
        return "\(seriesText(batch.labels(of: batch.series[Int($0.series)]))) # \(labels) \(formatSampleValue($0.value)) @\($0.timeMillis)"
    }
}

func metadataTexts(_ batch: MetricBatch) -> [String] {
    batch.metadata.map { "\(batch.bytes.string($0.family)) \($0.type.word) [\(batch.bytes.string($0.unit))] \(batch.bytes.string($0.help))" }
}

private func seriesText(_ labels: Labels) -> String {
    let rest = labels.pairs.filter { $0.name != "__name__" }.map { "\($0.name)=\"\($0.value)\"" }.joined(separator: ",")
    return "\(labels["__name__"] ?? ""){\(rest)}"
}
