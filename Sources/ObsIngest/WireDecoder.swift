package import ObsCore
internal import ObsCompress
package import ObsStore
package import ObsWire

/// A request as the pipeline wants it: one batch, and what could not be taken of it.
package struct DecodedRequest: Sendable {
    package var batch: DecodedBatch
    package var rejected = 0
    package var reason: String?
    /// Lines of an NDJSON body that are no records, 1-based.
    package var lineErrors: [(line: Int, message: String)] = []
    /// Points of delta temporality, still to be added up by someone with a memory.
    package var deltas = DeltaPoints()

    init(_ batch: DecodedBatch, _ rejections: LimitRejections) {
        self.batch = batch
        rejected = rejections.count
        reason = rejections.reason
    }
}

/// Bytes of any protocol to a batch: decompress, decode, apply the limits on single records. Holds no state, so replay of a logged request gives what ingest gave.
package struct WireDecoder: RequestDecoder {
    let limits: Limits

    package init(limits: Limits) { self.limits = limits }

    package func decode(_ request: RawRequest, receivedAtNanos: Int64, limits: Limits) throws(ObsError) -> DecodedBatch {
        // What was acknowledged under a larger bound must not be lost to a smaller one set since.
        var limits = limits
        limits.decodedBytesMax = max(limits.decodedBytesMax, Self.replayBytesMax)
        return try WireDecoder(limits: limits).decodeRequest(request, receivedAtNanos: receivedAtNanos).batch
    }

    /// Offsets within a batch are 32 bits wide: no bound let more through.
    private static let replayBytesMax = Int(UInt32.max)

    /// - Parameter otlp: how metrics of OpenTelemetry are named and labelled; what the log keeps as a request was decoded with the defaults.
    /// - Parameter reservation: where the memory that decoding takes is counted; nil for replay, which cannot be refused.
    package func decodeRequest(
        _ request: RawRequest, receivedAtNanos now: Int64, otlp: OTLPMetricOptions = OTLPMetricOptions(), reservation: MemoryReservation? = nil
    ) throws(ObsError) -> DecodedRequest {
        if request.compression == .none { try reservation?.grow(request.body.count * (MemoryShares.decodingFactor - 1)) }
        let body = try decompress(request.body, request.compression, decodedBytesMax: limits.decodedBytesMax) { (bytes) throws(ObsError) in
            try reservation?.grow(bytes * MemoryShares.decodingFactor)
        }
        switch request.format {
        case .remoteWrite1: return metrics(skipped(try PrometheusRemoteWrite.decode(body, limits: limits)))
        case .remoteWrite2: return metrics(try PrometheusRemoteWrite2.decode(body, limits: limits))
        case .otlpMetricsProtobuf: return metrics(try OTLPMetrics.decodeProtobuf(body, receivedAtNanos: now, limits: limits, options: otlp))
        case .otlpMetricsJSON: return metrics(try OTLPMetrics.decodeJSON(body, receivedAtNanos: now, limits: limits, options: otlp))
        case .lokiJSON: return logs(try LokiPush.decodeJSON(body, limits: limits))
        case .lokiProtobuf: return logs(try LokiPush.decodeProtobuf(body, limits: limits))
        case .otlpLogsProtobuf: return logs(try OTLPLogs.decodeProtobuf(body, receivedAtNanos: now, limits: limits))
        case .otlpLogsJSON: return logs(try OTLPLogs.decodeJSON(body, receivedAtNanos: now, limits: limits))
        case .jsonLines: return try jsonLines(body, request.parameters, now)
        case .otlpTracesProtobuf: return spans(try OTLPTraces.decodeProtobuf(body, receivedAtNanos: now, limits: limits))
        case .otlpTracesJSON: return spans(try OTLPTraces.decodeJSON(body, receivedAtNanos: now, limits: limits))
        }
    }

    private func metrics(_ decoded: Decoded<MetricBatch>) -> DecodedRequest {
        var batch = decoded.batch
        var rejections = LimitRejections(count: decoded.rejected, reason: decoded.reason)
        rejections.add(limits.apply(to: &batch))
        return DecodedRequest(.metrics(batch), rejections)
    }

    /// Remote write 1.0 passes over series that are none (no name, a label twice) without telling the sender, who could only send them again.
    private func skipped(_ decoded: Decoded<MetricBatch>) -> Decoded<MetricBatch> {
        if decoded.rejected > 0 { Self.skippedSeries.add(decoded.rejected) }
        return Decoded(batch: decoded.batch)
    }

    private static let skippedSeries = SelfMetrics.counter(
        "obs_remote_write_invalid_series_total", help: "Series of remote write requests that were passed over as invalid.")

    private func metrics(_ decoded: OTLPMetricsResult) -> DecodedRequest {
        var result = metrics(Decoded(batch: decoded.batch, rejected: decoded.rejected, reason: decoded.reason))
        result.deltas = decoded.deltas
        return result
    }

    private func logs(_ decoded: Decoded<LogBatch>) -> DecodedRequest {
        var batch = decoded.batch
        var rejections = LimitRejections(count: decoded.rejected, reason: decoded.reason)
        rejections.add(limits.apply(to: &batch))
        return DecodedRequest(.logs(batch), rejections)
    }

    private func spans(_ decoded: Decoded<SpanBatch>) -> DecodedRequest {
        DecodedRequest(.spans(decoded.batch), LimitRejections(count: decoded.rejected, reason: decoded.reason))
    }

    private func jsonLines(_ body: [UInt8], _ parameters: String, _ now: Int64) throws(ObsError) -> DecodedRequest {
        let decoded = try JSONLines.decode(body, options: JSONLines.Options(query: parameters), receivedAtNanos: now, limits: limits)
        var result = logs(Decoded(batch: decoded.batch, rejected: decoded.rejected, reason: decoded.errors.first?.message))
        result.lineErrors = decoded.errors.map { ($0.line, $0.message) }
        return result
    }
}
