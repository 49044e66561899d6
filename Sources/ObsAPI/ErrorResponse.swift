package import ObsCore
package import ObsNet
internal import ObsWire

/// In whose shape an endpoint answers errors: each as its original does.
package enum ErrorShape: Sendable {
    /// `{"status":"error","errorType":…,"error":…}`
    case prometheus
    /// Plain text: Loki, Tempo, remote write.
    case text
    /// Plain text with Loki's 504 for a timeout.
    case loki
    /// google.rpc.Status in the request's encoding.
    case otlp(json: Bool)
    /// `{"data":null,"errors":[{"code":…,"msg":…}]}`
    case jaeger
    /// `{"error":…}`
    case native

    /// OTLP's, in the encoding of the request; JSON, which people can read, for a type that is neither.
    static func otlp(of request: HTTPRequest) -> ErrorShape { .otlp(json: request.mediaType != "application/x-protobuf") }
}

extension HTTPResponse {
    /// The answer to a failed request; the one place where codes become statuses.
    package init(_ error: ObsError, _ shape: ErrorShape) {
        let status = Self.status(of: error.code, shape)
        switch shape {
        case .prometheus: self = .json(status, Self.prometheusBody(error))
        case .text, .loki: self = .text(status, error.description + "\n")
        case .otlp(let json):
            let body = OTLPResponse.status(grpcCode: Self.grpcCode(of: error.code), message: error.description, json: json)
            self.init(status: status, headers: [("Content-Type", json ? "application/json" : "application/x-protobuf")], body: body)
        case .jaeger:
            var writer = JSONWriter()
            writer.beginObject()
            writer.key("data")
            writer.null()
            for name in ["total", "limit", "offset"] { writer.member(name, int: 0) }
            writer.key("errors")
            writer.beginArray()
            writer.beginObject()
            writer.member("code", int: status)
            writer.member("msg", error.description)
            writer.endObject()
            writer.endArray()
            writer.endObject()
            self = .json(status, writer.bytes)
        case .native:
            var writer = JSONWriter()
            writer.beginObject()
            writer.member("error", error.description)
            writer.endObject()
            self = .json(status, writer.bytes)
        }
        if let seconds = error.retryAfterSeconds ?? (status == 503 || status == 429 ? 1 : nil) { headers.append(("Retry-After", String(seconds))) }
        if status == 401 { headers.append(("WWW-Authenticate", "Basic realm=\"obsd\"")) }
    }

    static func status(of code: ObsError.Code, _ shape: ErrorShape) -> Int {
        switch code {
        case .badInput: 400
        case .unprocessable: 422
        case .limitExceeded: if case .loki = shape { 400 } else { 422 }
        case .unauthenticated: 401
        case .forbidden: 403
        case .notFound: 404
        case .methodNotAllowed: 405
        case .tooLarge: 413
        case .unsupportedType: 415
        case .timeout: if case .loki = shape { 504 } else { 503 }
        case .cancelled: 499
        // Prometheus throws a batch away that is answered 429, unless told otherwise; after 503 it sends it again.
        case .throttled: if case .text = shape { 503 } else { 429 }
        case .overloaded, .unavailable: 503
        case .corrupt, .internalError: 500
        }
    }

    private static func prometheusBody(_ error: ObsError) -> [UInt8] {
        let type =
            switch error.code {
            case .badInput, .tooLarge, .unsupportedType, .methodNotAllowed: "bad_data"
            case .unprocessable, .limitExceeded: "execution"
            case .timeout: "timeout"
            case .cancelled: "canceled"
            case .notFound: "not_found"
            case .unauthenticated: "unauthorized"
            case .forbidden: "forbidden"
            case .throttled, .overloaded, .unavailable: "unavailable"
            case .corrupt, .internalError: "internal"
            }
        var writer = JSONWriter()
        writer.beginObject()
        writer.member("status", "error")
        writer.member("errorType", type)
        writer.member("error", error.message)
        writer.endObject()
        return writer.bytes
    }

    private static func grpcCode(of code: ObsError.Code) -> Int32 {
        switch code {
        case .badInput, .unprocessable, .unsupportedType, .methodNotAllowed: 3
        case .timeout: 4
        case .notFound: 5
        case .forbidden: 7
        case .tooLarge, .limitExceeded: 8
        case .cancelled: 1
        case .throttled: 8
        case .overloaded, .unavailable: 14
        case .corrupt, .internalError: 13
        case .unauthenticated: 16
        }
    }
}
