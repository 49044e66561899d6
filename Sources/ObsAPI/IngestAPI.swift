internal import ObsCompress
internal import ObsCore
internal import ObsIngest
internal import ObsNet
internal import ObsStore
internal import ObsWire

/// The doors in: each turns a request into a `RawRequest`, hands it to the pipeline and answers in its protocol's own words once it is durable.
struct IngestAPI: Sendable {
    let services: Services

    /// Stream labels one request may name; streams of more would be no streams.
    private static let streamFieldsMax = 64

    /// Prometheus remote write 1.0 and 2.0 (contract prometheus.md §5). The type's parameter says which; senders of 1.0 mostly leave it out, and some the type too.
    func remoteWrite(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let type = request.header("content-type") ?? ""
        let message = type.split(separator: ";").dropFirst().map { $0.filter { $0 != " " && $0 != "\"" } }.first { $0.lowercased().hasPrefix("proto=") }?
            .dropFirst(6)
        let encoding = request.header("content-encoding") ?? "snappy"
        switch (["", "application/x-protobuf"].contains(request.mediaType), message ?? "prometheus.WriteRequest") {
        case (true, "prometheus.WriteRequest"):
            ingest(request, responder, .remoteWrite1, compression: encoding, .text) { summary in
                summary.rejected > 0 ? .text(400, "\(summary.rejected) samples rejected: \(summary.reason ?? "")\n") : HTTPResponse(status: 204)
            }
        case (true, "io.prometheus.write.v2.Request"): remoteWrite2(request, responder, encoding)
        default:
            let reason =
                "unsupported content type \(quoted(type)); send application/x-protobuf, with proto=prometheus.WriteRequest or proto=io.prometheus.write.v2.Request"
            responder.send(HTTPResponse(ObsError(.unsupportedType, reason), .text))
        }
    }

    /// Every answer says what was written: a sender that finds no such headers takes it that nothing was.
    private func remoteWrite2(_ request: HTTPRequest, _ responder: any HTTPResponder, _ encoding: String) {
        ingest(request, responder, .remoteWrite2, compression: encoding, .text, failureHeaders: Self.written(0, 0, 0)) { summary in
            // The store tells how many it refused, not which.
            let refusedSamples = min(summary.storeRejected, summary.samples)
            let refusedHistograms = min(summary.storeRejected - refusedSamples, summary.histograms)
            var answer =
                summary.rejected > 0
                ? HTTPResponse.text(400, "\(summary.rejected) samples rejected: \(summary.reason ?? "")\n") : HTTPResponse(status: 204)
            answer.headers += Self.written(summary.samples - refusedSamples, summary.histograms - refusedHistograms, summary.exemplars)
            return answer
        }
    }

    private static func written(_ samples: Int, _ histograms: Int, _ exemplars: Int) -> [(name: String, value: String)] {
        [("Samples", samples), ("Histograms", histograms), ("Exemplars", exemplars)].map { ("X-Prometheus-Remote-Write-\($0.0)-Written", String($0.1)) }
    }

    /// Loki push (contract loki.md §1). Valid lines of a request that is answered 400 are kept, as Loki does.
    func lokiPush(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let json = request.mediaType == "application/json"
        // The protobuf form is a snappy block whatever Content-Encoding says.
        let compression = json ? request.header("content-encoding") : "snappy"
        ingest(request, responder, json ? .lokiJSON : .lokiProtobuf, compression: compression, .loki) { summary in
            summary.rejected > 0 ? .text(400, (summary.reason ?? "\(summary.rejected) entries rejected") + "\n") : HTTPResponse(status: 204)
        }
    }

    /// NDJSON or a JSON array (contract other-ingest.md §10).
    func jsonLines(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        // Each field is looked for in each object: thousands of them would keep a thread busy for seconds.
        let streamFields = request.parameters.all("_stream_fields").reduce(0) { $0 + $1.split(separator: ",").count }
        guard streamFields <= Self.streamFieldsMax else {
            let reason = "\(streamFields) _stream_fields are more than \(Self.streamFieldsMax)"
            return responder.send(HTTPResponse(ObsError(.badInput, reason), .native))
        }
        ingest(request, responder, .jsonLines, compression: request.header("content-encoding"), .native, parameters: request.rawQuery) { summary in
            var writer = JSONWriter()
            writer.beginObject()
            writer.member("accepted", int: summary.accepted)
            writer.member("rejected", int: summary.rejected)
            if !summary.lineErrors.isEmpty {
                writer.key("errors")
                writer.beginArray()
                for error in summary.lineErrors {
                    writer.beginObject()
                    writer.member("line", int: error.line)
                    writer.member("error", error.message)
                    writer.endObject()
                }
                writer.endArray()
            } else if let reason = summary.reason {
                writer.member("error", reason)
            }
            writer.endObject()
            return .json(summary.rejected == 0 ? 200 : summary.accepted == 0 ? 400 : 207, writer.bytes)
        }
    }

    /// OTLP/HTTP (contract otlp.md §1).
    func otlp(_ signal: Signal) -> HTTPHandler {
        { request, responder in
            let json = request.mediaType == "application/json"
            guard json || request.mediaType == "application/x-protobuf" else {
                let reason = "unsupported content type \(quoted(request.header("content-type") ?? "")); send application/x-protobuf or application/json"
                return responder.send(HTTPResponse(ObsError(.unsupportedType, reason), .otlp(of: request)))
            }
            let format: WireFormat =
                switch signal {
                case .metrics: json ? .otlpMetricsJSON : .otlpMetricsProtobuf
                case .logs: json ? .otlpLogsJSON : .otlpLogsProtobuf
                case .traces: json ? .otlpTracesJSON : .otlpTracesProtobuf
                }
            ingest(request, responder, format, compression: request.header("content-encoding"), .otlp(json: json)) { summary in
                HTTPResponse(
                    status: 200, headers: [("Content-Type", json ? "application/json" : "application/x-protobuf")],
                    body: OTLPResponse.success(signal, rejected: summary.rejected, reason: summary.reason, json: json))
            }
        }
    }

    private func ingest(
        _ request: HTTPRequest, _ responder: any HTTPResponder, _ format: WireFormat, compression name: String?, _ shape: ErrorShape, parameters: String = "",
        failureHeaders: [(name: String, value: String)] = [], answer: @escaping @Sendable (IngestSummary) -> HTTPResponse
    ) {
        let fail: @Sendable (ObsError) -> Void = { error in
            var response = HTTPResponse(error, shape)
            response.headers += failureHeaders
            responder.send(response)
        }
        do throws(ObsError) {
            let raw = RawRequest(format: format, compression: try bodyCompression(contentEncoding: name), parameters: parameters, body: request.body)
            services.pipeline.ingest(raw, tenant: request.tenant) { result in
                switch result {
                case .success(let summary): responder.send(answer(summary))
                case .failure(let error): fail(error)
                }
            }
        } catch {
            fail(error)
        }
    }
}
