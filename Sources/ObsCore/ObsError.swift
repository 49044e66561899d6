/// What went wrong, as a value. Bad input, a passed bound, an unreachable peer are `ObsError`s; a broken invariant stops the process instead.
///
/// `message` is lower-case, has no full stop, quotes the offending input cut short, and says what to do where there is something to do.
/// One function per protocol maps `code` to that protocol's status (see ObsAPI).
package struct ObsError: Error, Sendable, Equatable, CustomStringConvertible {
    package enum Code: String, Sendable {
        case badInput  // the request cannot be understood: 400
        case unprocessable  // understood, cannot be carried out: 422
        case unauthenticated  // 401
        case forbidden  // 403
        case notFound  // 404
        case methodNotAllowed  // 405
        case tooLarge  // 413
        case unsupportedType  // 415
        case overloaded  // 429 or 503 with Retry-After
        case throttled  // no memory for a request now: 429 with Retry-After, 503 to remote write
        case limitExceeded  // a query passed a named limit: 422
        case timeout  // 503 or 504
        case cancelled  // 499
        case unavailable  // 503
        case corrupt  // stored bytes fail their checksum: 500, located by `place`
        case internalError  // 500
    }

    package var code: Code
    package var message: String
    /// Where: `file:offset` of a corruption, `line:column` of a parse error, the field of a request.
    package var place: String?
    /// Seconds after which a retry makes sense, for `.overloaded` and `.unavailable`.
    package var retryAfterSeconds: Int?

    package init(_ code: Code, _ message: String, place: String? = nil, retryAfterSeconds: Int? = nil) {
        self.code = code
        self.message = message
        self.place = place
        self.retryAfterSeconds = retryAfterSeconds
    }

    package var description: String { place.map { "\($0): \(message)" } ?? message }
}

/// Quotes input for an error message, cut to `limit` characters.
package func quoted(_ text: some StringProtocol, limit: Int = 80) -> String {
    text.count > limit ? "\"\(text.prefix(limit))…\"" : "\"\(text)\""
}
