internal import CProtobufs
package import ObsCore

/// Bodies of OTLP answers, in the encoding of the request.
package enum OTLPResponse {
    /// `Export…ServiceResponse`. A full success has no `partial_success`: no bytes in protobuf, `{}` in JSON. A reason with nothing rejected is a warning.
    package static func success(_ signal: Signal, rejected: Int = 0, reason: String? = nil, json: Bool) -> [UInt8] {
        let isPartial = rejected > 0 || reason != nil
        guard json else { return isPartial ? partialSuccess(rejected, reason ?? "") : [] }
        var writer = JSONWriter()
        writer.beginObject()
        if isPartial {
            writer.key("partialSuccess")
            writer.beginObject()
            if rejected > 0 { writer.member(rejectedKey(signal), String(rejected)) }
            if let reason { writer.member("errorMessage", reason) }
            writer.endObject()
        }
        writer.endObject()
        return writer.bytes
    }

    /// `google.rpc.Status`, the body of every failed OTLP/HTTP request.
    package static func status(grpcCode: Int32, message: String, json: Bool) -> [UInt8] {
        guard json else { return rpcStatus(grpcCode, message) }
        var writer = JSONWriter()
        writer.beginObject()
        writer.member("code", int: grpcCode)
        writer.member("message", message)
        writer.endObject()
        return writer.bytes
    }

    private static func rejectedKey(_ signal: Signal) -> String {
        switch signal {
        case .traces: "rejectedSpans"
        case .logs: "rejectedLogRecords"
        case .metrics: "rejectedDataPoints"
        }
    }

    private static func partialSuccess(_ rejected: Int, _ reason: String) -> [UInt8] {
        withMutableCString(reason) { text in
            var partial = Obs__PartialSuccess()
            obs__partial_success__init(&partial)
            partial.rejected = Int64(rejected)
            partial.error_message = text
            return withUnsafeMutablePointer(to: &partial) { pointer in
                var response = Obs__ExportServiceResponse()
                obs__export_service_response__init(&response)
                response.partial_success = pointer
                return packed(&response)
            }
        }
    }

    private static func rpcStatus(_ code: Int32, _ message: String) -> [UInt8] {
        withMutableCString(message) { text in
            var status = Obs__RPCStatus()
            obs__rpcstatus__init(&status)
            status.code = code
            status.message = text
            return packed(&status)
        }
    }

    /// protobuf-c's fields are `char *` though it only reads them. Text ends at a NUL.
    private static func withMutableCString(_ text: String, _ body: (UnsafeMutablePointer<CChar>?) -> [UInt8]) -> [UInt8] {
        var bytes = text.utf8CString
        return bytes.withUnsafeMutableBufferPointer { body($0.baseAddress) }
    }

    /// Packs a message by the address of its struct, whose first member is the `ProtobufCMessage`.
    private static func packed(_ message: UnsafeRawPointer) -> [UInt8] {
        let base = message.assumingMemoryBound(to: ProtobufCMessage.self)
        let size = protobuf_c_message_get_packed_size(base)
        return [UInt8](unsafeUninitializedCapacity: size) { buffer, count in count = protobuf_c_message_pack(base, buffer.baseAddress) }
    }
}
