package import ObsCore
package import ObsStore

/// A request as the pipeline wants it: one batch, and what could not be taken of it.
package struct DecodedRequest: Sendable {
    package var batch: DecodedBatch
    package var rejected = 0
    package var reason: String?
    /// Lines of an NDJSON body that are no records, 1-based.
    package var lineErrors: [(line: Int, message: String)] = []

    package init(_ batch: DecodedBatch) { self.batch = batch }
}

/// Bytes of any protocol to a batch: decompress, decode, apply the limits on single records. Holds no state, so replay of a logged request gives what ingest gave.
package struct WireDecoder: RequestDecoder {
    let limits: Limits

    package init(limits: Limits) { self.limits = limits }

    package func decode(_ request: RawRequest, receivedAtNanos: Int64) throws(ObsError) -> DecodedBatch {
        try decodeRequest(request, receivedAtNanos: receivedAtNanos).batch
    }

    package func decodeRequest(_ request: RawRequest, receivedAtNanos: Int64) throws(ObsError) -> DecodedRequest {
        throw ObsError(.unsupportedType, "format \(request.format) is not supported")
    }
}
