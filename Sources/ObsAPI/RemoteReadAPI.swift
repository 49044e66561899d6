internal import ObsCompress
internal import ObsCore
internal import ObsHash
internal import ObsIngest
internal import ObsNet
internal import ObsStore
internal import ObsWire

/// `/api/v1/read`: raw series for another Prometheus (contract prometheus.md §5), as one block of samples or as a stream of chunks, a frame a series.
struct RemoteReadAPI: Sendable {
    /// A frame is cut when its chunks have grown past this (Prometheus' `--storage.remote.read-max-bytes-in-frame`).
    private static let frameBytesMax = 1 << 20
    /// About what a sample takes in the answer, uncompressed.
    private static let sampleBytes = 20
    let services: Services

    func read(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let asked: RemoteReadRequest
        let type: RemoteReadRequest.ResponseType
        do throws(ObsError) {
            let body = try decompress(request.body, .snappy, decodedBytesMax: services.limits.decodedBytesMax)
            asked = try decoded(body)
            type = try asked.responseType()
        } catch {
            return responder.send(HTTPResponse(error, .text))
        }
        switch type {
        case .samples:
            services.query(request, responder, .text) { context throws(ObsError) in try samples(asked, context) }
        case .streamedChunks:
            let type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
            services.stream(request, responder, .text, type: type, compresses: false) { context, answer throws(ObsError) in
                for (index, query) in asked.queries.enumerated() { try stream(query, index, context, answer) }
                try answer.finish()
            }
        }
    }

    private func decoded(_ body: [UInt8]) throws(ObsError) -> RemoteReadRequest {
        let result: Result<RemoteReadRequest, ObsError> = body.withUnsafeBytes { bytes in
            do throws(ObsError) { return .success(try RemoteReadRequest(bytes)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    // MARK: Samples

    private func samples(_ asked: RemoteReadRequest, _ context: QueryContext) throws(ObsError) -> HTTPResponse {
        let external = services.lifecycle.externalLabels()
        var writer = ProtobufWriter()
        for query in asked.queries {
            guard let set = try select(query, external, context) else {
                writer.message(1) { _ in }
                continue
            }
            try writer.message(1) { (result: inout ProtobufWriter) throws(ObsError) in
                while let series = try set.next() {
                    try context.charge(bytes: series.labels.bytes.count * 2 + series.values.count * Self.sampleBytes + (series.histograms?.byteSize ?? 0))
                    result.timeSeries(
                        1, labels(series.labels, external), times: series.timesMillis, values: series.values, histograms: series.histograms)
                }
            }
        }
        let headers = [(name: "Content-Type", value: "application/x-protobuf"), (name: "Content-Encoding", value: "snappy")]
        return HTTPResponse(status: 200, headers: headers, body: snappyCompress(writer.bytes))
    }

    // MARK: Chunks

    private func stream(_ query: RemoteReadRequest.Query, _ index: Int, _ context: QueryContext, _ answer: AnswerStream) throws(ObsError) {
        let external = services.lifecycle.externalLabels()
        guard let set = try select(query, external, context) else { return }
        while let series = try set.next() {
            let labels = labels(series.labels, external)
            var frame = ProtobufWriter()
            var chunks = ChunkCutter(times: series.timesMillis, values: series.values, histograms: series.histograms)
            while let chunk = chunks.next() {
                frame.chunk(2, chunk)
                if frame.bytes.count >= Self.frameBytesMax {
                    try send(frame, labels, index, answer)
                    frame = ProtobufWriter()
                }
            }
            if !frame.bytes.isEmpty { try send(frame, labels, index, answer) }
        }
    }

    /// Length, checksum, message.
    private func send(_ chunks: ProtobufWriter, _ labels: Labels, _ index: Int, _ answer: AnswerStream) throws(ObsError) {
        var message = ProtobufWriter()
        message.message(1) { (series: inout ProtobufWriter) in
            series.labels(1, labels)
            series.append(chunks)
        }
        if index > 0 { message.int(2, Int64(index)) }
        var frame: [UInt8] = []
        frame.appendVarint(UInt64(message.bytes.count))
        frame.appendLittleEndian(crc32c(message.bytes).byteSwapped)
        frame += message.bytes
        try answer.send(frame)
    }

    // MARK: Parts

    /// Nil for a query of no time.
    private func select(_ query: RemoteReadRequest.Query, _ external: Labels, _ context: QueryContext) throws(ObsError) -> (any SeriesSet)? {
        guard query.startMillis <= query.endMillis else { return nil }
        let matchers = try matchers(query, external)
        services.queried.note([matchers], context.tenant, atMillis: services.clock.nowMillis())
        return try services.reader.series(matchers, range: query.startMillis...query.endMillis, context: context)
    }

    /// What asks for an external label asks for series that have none of their own.
    private func matchers(_ query: RemoteReadRequest.Query, _ external: Labels) throws(ObsError) -> [LabelMatcher] {
        var matchers: [LabelMatcher] = []
        for matcher in query.matchers {
            switch matcher.type {
            case 0:
                let isExternal = external[matcher.name] == matcher.value
                matchers.append(LabelMatcher(equal: matcher.name, isExternal ? "" : matcher.value))
            case 1: matchers.append(try LabelMatcher(matcher.name, .notEqual, matcher.value))
            case 2: matchers.append(try LabelMatcher(matcher.name, .matches, matcher.value))
            case 3: matchers.append(try LabelMatcher(matcher.name, .matchesNot, matcher.value))
            case let other: throw ObsError(.badInput, "invalid matcher type \(other)")
            }
        }
        return matchers
    }

    private func labels(_ labels: Labels, _ external: Labels) -> Labels {
        if external.isEmpty { return labels }
        var builder = LabelsBuilder(labels)
        for pair in external.pairs where builder[pair.name] == nil { builder.set(pair.name, pair.value) }
        return builder.labels()
    }
}
