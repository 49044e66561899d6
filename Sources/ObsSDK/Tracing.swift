internal import Glibc
internal import Synchronization

/// What travels from service to service (W3C Trace Context).
public struct ObsSpanContext: Sendable, Equatable {
    /// 32 lower-case hexadecimal digits.
    public let traceID: String
    /// 16 lower-case hexadecimal digits.
    public let spanID: String
    /// Whether spans of this trace are recorded; decided at its root.
    public let isSampled: Bool
    /// Passed on as it came.
    public let traceState: String

    /// A context from its parts, which are taken as they are.
    public init(traceID: String, spanID: String, isSampled: Bool, traceState: String = "") {
        self.traceID = traceID
        self.spanID = spanID
        self.isSampled = isSampled
        self.traceState = traceState
    }

    /// Reads `traceparent` (and `tracestate`); nil for anything that is not a valid one of version 00 or a later version's prefix.
    public init?(traceparent: String, tracestate: String = "") {
        let parts = traceparent.split(separator: "-", omittingEmptySubsequences: false)
        func isHex(_ text: Substring, _ count: Int) -> Bool {
            text.utf8.count == count
                && text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0) }
        }
        guard parts.count >= 4, isHex(parts[0], 2), parts[0] != "ff", parts[0] != "00" || parts.count == 4, isHex(parts[1], 32), isHex(parts[2], 16),
            isHex(parts[3], 2),
            parts[1].contains(where: { $0 != "0" }), parts[2].contains(where: { $0 != "0" }), let flags = UInt8(parts[3], radix: 16)
        else { return nil }
        self.init(traceID: String(parts[1]), spanID: String(parts[2]), isSampled: flags & 1 == 1, traceState: tracestate)
    }

    /// The header value to send on.
    public var traceparent: String { "00-\(traceID)-\(spanID)-\(isSampled ? "01" : "00")" }
}

/// What part a span plays: who asked, and who waits.
public enum ObsSpanKind: Int, Sendable {
    /// Within the service.
    case `internal` = 1
    /// Answers a request of another service.
    case server
    /// Waits for another service's answer.
    case client
    /// Sends a message and does not wait.
    case producer
    /// Works on a message.
    case consumer
}

/// One operation. Ended once; safe to use from several tasks.
public final class ObsSpan: Sendable {
    /// The ids that its children, its logs and other services name it by.
    public let context: ObsSpanContext
    let parentID: String
    let name: String
    let kind: ObsSpanKind
    let startNanos: UInt64
    private let finish: @Sendable (FinishedSpan) -> Void

    struct Event: Sendable {
        var timeNanos: UInt64
        var name: String
        var attributes: ObsAttributes
    }

    struct State: Sendable {
        var attributes: ObsAttributes
        var events: [Event] = []
        var statusCode = 0
        var statusMessage = ""
        var isEnded = false
    }
    private let state: Mutex<State>
    /// Attributes and events one span may hold (`OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`'s default).
    private static let countMax = 128

    /// The span of the running task.
    @TaskLocal public static var current: ObsSpan?

    init(
        context: ObsSpanContext, parentID: String, name: String, kind: ObsSpanKind, attributes: ObsAttributes,
        finish: @escaping @Sendable (FinishedSpan) -> Void
    ) {
        self.context = context
        self.parentID = parentID
        self.name = name
        self.kind = kind
        self.finish = finish
        startNanos = wallNanos()
        state = Mutex(State(attributes: attributes))
    }

    /// Sets an attribute; of the same name the last wins.
    public func set(_ name: String, _ value: ObsValue) {
        state.withLock { state in
            if !state.isEnded, state.attributes.count < Self.countMax || state.attributes[name] != nil { state.attributes[name] = value }
        }
    }

    /// Marks a moment within the span.
    public func addEvent(_ name: String, _ attributes: ObsAttributes = [:]) {
        let event = Event(timeNanos: wallNanos(), name: name, attributes: attributes)
        state.withLock { if !$0.isEnded, $0.events.count < Self.countMax { $0.events.append(event) } }
    }

    /// Marks the span as failed and keeps the error as an `exception` event.
    public func recordError(_ error: any Error) {
        addEvent("exception", ["exception.type": .string("\(type(of: error))"), "exception.message": .string("\(error)")])
        fail("\(error)")
    }

    /// Sets status error.
    public func fail(_ message: String = "") {
        state.withLock {
            $0.statusCode = 2
            $0.statusMessage = message
        }
    }

    /// Ends the span; a second call does nothing.
    public func end() {
        let end = wallNanos()
        let ended: State? = state.withLock { state in
            if state.isEnded { return nil }
            state.isEnded = true
            return state
        }
        guard let ended, context.isSampled else { return }
        finish(FinishedSpan(context: context, parentID: parentID, name: name, kind: kind, startNanos: startNanos, endNanos: end, state: ended))
    }
}

struct FinishedSpan: Sendable {
    var context: ObsSpanContext
    var parentID: String
    var name: String
    var kind: ObsSpanKind
    var startNanos: UInt64
    var endNanos: UInt64
    var state: ObsSpan.State
}

func wallNanos() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

func monotonicNanos() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// A random number that is not 0, as 16 hexadecimal digits.
func randomID() -> (number: UInt64, text: String) {
    let number = UInt64.random(in: 1...UInt64.max)
    let text = String(number, radix: 16)
    return (number, String(repeating: "0", count: 16 - text.count) + text)
}

extension Obs {
    /// Runs `body` within a span: a child of the current one, of `parent` where given, or a new trace. A thrown error is recorded and passed on.
    public func span<Result>(
        _ name: String, kind: ObsSpanKind = .internal, _ attributes: ObsAttributes = [:], parent: ObsSpanContext? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (ObsSpan) async throws -> Result
    ) async rethrows -> Result {
        let span = startSpan(name, kind: kind, attributes, parent: parent)
        defer { span.end() }
        do {
            return try await ObsSpan.$current.withValue(span, operation: { try await body(span) }, isolation: isolation)
        } catch {
            span.recordError(error)
            throw error
        }
    }

    /// The synchronous form.
    public func span<Result>(
        _ name: String, kind: ObsSpanKind = .internal, _ attributes: ObsAttributes = [:], parent: ObsSpanContext? = nil, _ body: (ObsSpan) throws -> Result
    ) rethrows -> Result {
        let span = startSpan(name, kind: kind, attributes, parent: parent)
        defer { span.end() }
        do {
            return try ObsSpan.$current.withValue(span) { try body(span) }
        } catch {
            span.recordError(error)
            throw error
        }
    }

    /// Starts a span that the caller ends; it does not become the current one.
    public func startSpan(_ name: String, kind: ObsSpanKind = .internal, _ attributes: ObsAttributes = [:], parent: ObsSpanContext? = nil) -> ObsSpan {
        let parent = parent ?? ObsSpan.current?.context
        let id = randomID()
        let context: ObsSpanContext
        if let parent {
            context = ObsSpanContext(traceID: parent.traceID, spanID: id.text, isSampled: parent.isSampled, traceState: parent.traceState)
        } else {
            let high = randomID()
            let low = randomID()
            // The sampler of the specification: the lower half of the trace id against the share.
            let share = configuration.sampledShare
            let sampled = share >= 1 || Double(low.number >> 11) / Double(1 << 53) < share
            context = ObsSpanContext(traceID: high.text + low.text, spanID: id.text, isSampled: sampled && !configuration.isDisabled)
        }
        return ObsSpan(context: context, parentID: parent?.spanID ?? "", name: name, kind: kind, attributes: attributes) { [exporter] in exporter.enqueue($0) }
    }

    /// Headers that carry the current span to another service.
    public func propagationHeaders() -> [(name: String, value: String)] {
        guard let context = ObsSpan.current?.context else { return [] }
        var headers = [(name: "traceparent", value: context.traceparent)]
        if !context.traceState.isEmpty { headers.append(("tracestate", context.traceState)) }
        return headers
    }
}
