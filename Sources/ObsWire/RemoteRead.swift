package import ObsCore

/// A request of Prometheus' remote read (`prompb/remote.proto`).
package struct RemoteReadRequest: Sendable {
    package struct Matcher: Sendable {
        /// `=`, `!=`, `=~`, `!~` as 0…3.
        package var type: UInt64 = 0
        package var name = ""
        package var value = ""
    }

    package struct Query: Sendable {
        /// Both ends count.
        package var startMillis: Int64 = 0
        package var endMillis: Int64 = 0
        package var matchers: [Matcher] = []
    }

    /// How answers may come, best first.
    package enum ResponseType: UInt64, Sendable {
        /// One snappy block with all samples.
        case samples = 0
        /// A frame a series, samples in chunks.
        case streamedChunks = 1
    }

    package var queries: [Query] = []
    package var accepted: [UInt64] = []

    /// So many queries a request may have; Prometheus sends one a selector.
    package static let queriesMax = 1000

    /// - Throws: `.badInput`.
    package init(_ bytes: UnsafeRawBufferPointer) throws(ObsError) {
        var reader = ProtobufReader(bytes)
        while reader.next() {
            switch reader.tag {
            case .field(1, .length):
                guard queries.count < Self.queriesMax else { throw ObsError(.badInput, "more than \(Self.queriesMax) queries in a read request") }
                queries.append(Self.query(&reader))
            case .field(2, .varint): accepted.append(reader.varint())
            case .field(2, .length):
                var packed = reader.message()
                while !packed.isAtEnd, accepted.count < 64 { accepted.append(packed.varint()) }
                reader.check(packed)
            default: reader.skip()
            }
        }
        if reader.failed { throw ObsError(.badInput, "malformed read request") }
    }

    /// The first of the accepted types that there is; samples when none is named.
    /// - Throws: `.badInput`.
    package func responseType() throws(ObsError) -> ResponseType {
        if accepted.isEmpty { return .samples }
        guard let type = accepted.lazy.compactMap({ ResponseType(rawValue: $0) }).first else {
            throw ObsError(.badInput, "server does not support any of the requested response types: \(accepted); supported: SAMPLES, STREAMED_XOR_CHUNKS")
        }
        return type
    }

    private static func query(_ parent: inout ProtobufReader) -> Query {
        var query = Query()
        var reader = parent.message()
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): query.startMillis = Int64(bitPattern: reader.varint())
            case .field(2, .varint): query.endMillis = Int64(bitPattern: reader.varint())
            case .field(3, .length): query.matchers.append(matcher(&reader))
            default: reader.skip()
            }
        }
        parent.check(reader)
        return query
    }

    private static func matcher(_ parent: inout ProtobufReader) -> Matcher {
        var matcher = Matcher()
        var reader = parent.message()
        while reader.next() {
            switch reader.tag {
            case .field(1, .varint): matcher.type = reader.varint()
            case .field(2, .length): matcher.name = String(decoding: reader.bytes(), as: UTF8.self)
            case .field(3, .length): matcher.value = String(decoding: reader.bytes(), as: UTF8.self)
            default: reader.skip()
            }
        }
        parent.check(reader)
        return matcher
    }
}

extension ProtobufWriter {
    /// `TimeSeries` of remote write and remote read, as field `field`.
    package mutating func timeSeries(_ field: UInt32, _ labels: Labels, times: [Int64], values: [Double], histograms: HistogramColumns? = nil) {
        message(field) { (series: inout ProtobufWriter) in
            series.labels(1, labels)
            for (time, value) in zip(times, values) {
                series.message(2) { (sample: inout ProtobufWriter) in
                    if value.bitPattern != 0 { sample.double(1, value) }
                    if time != 0 { sample.int(2, time) }
                }
            }
            guard let histograms else { return }
            for row in 0..<histograms.count { series.histogram(4, histograms, row) }
        }
    }

    /// `Label`s, each as field `field`.
    package mutating func labels(_ field: UInt32, _ labels: Labels) {
        labels.forEach { name, value in
            message(field) { (label: inout ProtobufWriter) in
                label.bytes(1, name)
                label.bytes(2, value)
            }
        }
    }

    /// A row as a `Histogram` message.
    package mutating func histogram(_ field: UInt32, _ histograms: HistogramColumns, _ row: Int) {
        let layout = histograms.layout(ofRow: row)
        let buckets = histograms.buckets[histograms.bucketRange(row)]
        message(field) { (message: inout ProtobufWriter) in
            if layout.isFloat { message.fixed64(2, histograms.counts[row]) } else { message.varint(1, histograms.counts[row]) }
            message.double(3, histograms.sums[row])
            message.zigzag(4, Int64(layout.schema))
            message.double(5, layout.zeroThreshold)
            if layout.isFloat { message.fixed64(7, histograms.zeroCounts[row]) } else { message.varint(6, histograms.zeroCounts[row]) }
            message.spans(8, layout.negative)
            message.counts(deltas: 9, floats: 10, buckets.dropFirst(layout.positiveCount), layout.isFloat)
            message.spans(11, layout.positive)
            message.counts(deltas: 12, floats: 13, buckets.prefix(layout.positiveCount), layout.isFloat)
            message.varint(14, UInt64(histograms.resets[row].rawValue))
            message.int(15, histograms.timesMillis[row])
            if !layout.customBoundsBits.isEmpty {
                message.message(16) { (bounds: inout ProtobufWriter) in for bits in layout.customBoundsBits { bounds.packed(fixed64: bits) } }
            }
        }
    }

    private mutating func spans(_ field: UInt32, _ spans: [BucketSpan]) {
        for span in spans {
            message(field) { (message: inout ProtobufWriter) in
                message.zigzag(1, Int64(span.offset))
                message.varint(2, UInt64(span.length))
            }
        }
    }

    private mutating func counts(deltas: UInt32, floats: UInt32, _ counts: ArraySlice<UInt64>, _ isFloat: Bool) {
        guard !counts.isEmpty else { return }
        if isFloat {
            message(floats) { (packed: inout ProtobufWriter) in for bits in counts { packed.packed(fixed64: bits) } }
        } else {
            message(deltas) { (packed: inout ProtobufWriter) in
                var last: Int64 = 0
                for count in counts {
                    let delta = Int64(bitPattern: count) &- last
                    packed.packed(varint: UInt64(bitPattern: delta &<< 1 ^ delta >> 63))
                    last = Int64(bitPattern: count)
                }
            }
        }
    }
}
