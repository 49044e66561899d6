internal import ObsCore
internal import ObsStore
internal import ObsWAL

/// From a log record back to the rows that came in it: for replay, and for who checks that a replay would work.
struct RecordDecoder {
    let requests: any RequestDecoder
    let signal: Signal

    /// - Parameter limits: those by which the record was decided.
    /// - Throws: `.corrupt` for a record that cannot be decoded; `.unprocessable` for one that only a newer obsd can decode.
    func decode(_ record: WALRecord, _ limits: Limits) throws(ObsError) -> DecodedBatch {
        switch record.payload {
        case .batch(let bytes):
            do throws(ObsError) {
                switch signal {
                case .metrics: return .metrics(try BatchCodec.decodeMetrics(bytes))
                case .logs: return .logs(try BatchCodec.decodeLogs(bytes))
                case .traces: return .spans(try BatchCodec.decodeSpans(bytes))
                }
            } catch {
                guard error.code != .unprocessable else { throw error }
                throw undecodable(record, error)
            }
        case .request(let format, let compression, let parameters, let body):
            guard let known = WireFormat(rawValue: format) else {
                throw ObsError(
                    .unprocessable, "log record of wire format \(format) was written by a newer obsd; nothing is changed: start the newer obsd again")
            }
            let request = RawRequest(format: known, compression: compression, parameters: parameters, body: body)
            do throws(ObsError) { return try requests.decode(request, receivedAtNanos: record.receivedAtNanos, limits: limits) } catch {
                throw undecodable(record, error)
            }
        }
    }

    private func undecodable(_ record: WALRecord, _ error: ObsError) -> ObsError {
        ObsError(.corrupt, "log record \(record.sequence) cannot be decoded: \(error)")
    }
}
