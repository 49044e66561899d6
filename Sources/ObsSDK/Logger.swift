internal import Glibc

/// Levels with their OpenTelemetry severity numbers.
public enum ObsLevel: Int, Sendable, Comparable {
    /// Finer than debugging needs.
    case trace = 1
    /// For who debugs.
    case debug = 5
    /// What happens in normal work.
    case info = 9
    /// Normal, yet worth seeing.
    case notice = 10
    /// It may become an error.
    case warning = 13
    /// Something asked for was not done.
    case error = 17
    /// The service cannot do its work.
    case critical = 21

    /// By severity.
    public static func < (a: ObsLevel, b: ObsLevel) -> Bool { a.rawValue < b.rawValue }

    var word: String {
        switch self {
        case .trace: "TRACE"
        case .debug: "DEBUG"
        case .info: "INFO"
        case .notice: "NOTICE"
        case .warning: "WARN"
        case .error: "ERROR"
        case .critical: "CRITICAL"
        }
    }
}

struct LogRecord: Sendable {
    var timeNanos: UInt64
    var level: ObsLevel
    var message: String
    var logger: String
    var attributes: ObsAttributes
    var context: ObsSpanContext?
}

/// A named logger; records carry the current span's ids.
public struct ObsLogger: Sendable {
    let obs: Obs
    let name: String
    private var attributes: ObsAttributes = [:]
    /// Records below it cost a comparison.
    public var level = ObsLevel.info

    init(obs: Obs, name: String) {
        self.obs = obs
        self.name = name
    }

    /// A logger whose records all carry these attributes too.
    public func with(_ more: ObsAttributes) -> ObsLogger {
        var copy = self
        copy.attributes.merge(more) { $1 }
        return copy
    }

    /// Finer than debugging needs.
    public func trace(_ message: @autoclosure () -> String, _ attributes: ObsAttributes = [:]) { log(.trace, message(), attributes) }
    /// For who debugs.
    public func debug(_ message: @autoclosure () -> String, _ attributes: ObsAttributes = [:]) { log(.debug, message(), attributes) }
    /// What happens in normal work.
    public func info(_ message: @autoclosure () -> String, _ attributes: ObsAttributes = [:]) { log(.info, message(), attributes) }
    /// Normal, yet worth seeing.
    public func notice(_ message: @autoclosure () -> String, _ attributes: ObsAttributes = [:]) { log(.notice, message(), attributes) }
    /// It may become an error.
    public func warning(_ message: @autoclosure () -> String, _ attributes: ObsAttributes = [:]) { log(.warning, message(), attributes) }

    /// Something asked for was not done.
    /// - Parameter error: kept as `exception.type` and `exception.message`.
    public func error(_ message: @autoclosure () -> String, error: (any Error)? = nil, _ attributes: ObsAttributes = [:]) {
        log(.error, message(), Self.adding(error, to: attributes))
    }

    /// The service cannot do its work.
    /// - Parameter error: kept as `exception.type` and `exception.message`.
    public func critical(_ message: @autoclosure () -> String, error: (any Error)? = nil, _ attributes: ObsAttributes = [:]) {
        log(.critical, message(), Self.adding(error, to: attributes))
    }

    /// Records at a level chosen at run time.
    public func log(_ level: ObsLevel, _ message: @autoclosure () -> String, _ attributes: ObsAttributes = [:]) {
        guard level >= self.level, !obs.configuration.isDisabled else { return }
        let all = self.attributes.isEmpty ? attributes : self.attributes.adding(attributes)
        let record = LogRecord(timeNanos: wallNanos(), level: level, message: message(), logger: name, attributes: all, context: ObsSpan.current?.context)
        if obs.configuration.logsToConsole { ConsoleWriter.write(record) }
        obs.exporter.enqueue(record)
    }

    private static func adding(_ error: (any Error)?, to attributes: ObsAttributes) -> ObsAttributes {
        guard let error else { return attributes }
        return attributes.merging(["exception.type": .string("\(type(of: error))"), "exception.message": .string("\(error)")]) { own, _ in own }
    }
}

extension Obs {
    /// A logger; its name says which part of the service speaks.
    public func logger(_ name: String = "") -> ObsLogger { ObsLogger(obs: self, name: name) }
}

/// Records on stderr: aligned text on a terminal, a JSON object a line otherwise.
enum ConsoleWriter {
    private static let isTerminal = isatty(2) == 1

    static func write(_ record: LogRecord) { writeToStandardError(isTerminal ? pretty(record) : json(record)) }

    static func pretty(_ record: LogRecord) -> String {
        let seconds = record.timeNanos / 1_000_000_000 % 86_400
        func two(_ number: UInt64) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let fields = record.attributes.sorted { $0.key < $1.key }.map { " \($0.key)=\(text($0.value))" }.joined()
        return "\(two(seconds / 3600)):\(two(seconds / 60 % 60)):\(two(seconds % 60)) \(record.level.word) \(record.logger) \(record.message)\(fields)\n"
    }

    static func json(_ record: LogRecord) -> String {
        var line =
            "{\"timeUnixNano\":\(record.timeNanos),\"level\":\"\(record.level.word)\",\"logger\":\(quoted(record.logger)),\"msg\":\(quoted(record.message))"
        for (key, value) in record.attributes.sorted(by: { $0.key < $1.key }) { line += ",\(quoted(key)):\(jsonText(value))" }
        if let context = record.context { line += ",\"trace_id\":\"\(context.traceID)\",\"span_id\":\"\(context.spanID)\"" }
        return line + "}\n"
    }

    private static func text(_ value: ObsValue) -> String {
        switch value {
        case .string(let text): text
        case .int(let number): "\(number)"
        case .double(let number): "\(number)"
        case .bool(let flag): "\(flag)"
        case .array(let values): "[" + values.map(text).joined(separator: ",") + "]"
        case .sensitive: "***"
        }
    }

    private static func jsonText(_ value: ObsValue) -> String {
        switch value {
        case .int, .bool: text(value)
        case .double(let number): number.isFinite ? "\(number)" : quoted("\(number)")
        case .array(let values): "[" + values.map(jsonText).joined(separator: ",") + "]"
        case .string, .sensitive: quoted(text(value))
        }
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            default:
                if scalar.value < 0x20 {
                    let hex = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result + "\""
    }
}
