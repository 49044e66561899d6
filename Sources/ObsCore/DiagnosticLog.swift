internal import Glibc

/// The daemon's own log: one JSON object a line on stderr, written with one `write`.
package enum DiagnosticLog {
    package enum Level: String, Sendable { case debug, info, warn, error }

    package static func debug(_ message: String, _ fields: [(String, String)] = []) { write(.debug, message, fields) }
    package static func info(_ message: String, _ fields: [(String, String)] = []) { write(.info, message, fields) }
    package static func warn(_ message: String, _ fields: [(String, String)] = []) { write(.warn, message, fields) }
    package static func error(_ message: String, _ fields: [(String, String)] = []) { write(.error, message, fields) }

    /// Levels below this are not written. Set once at start, before threads.
    nonisolated(unsafe) package static var threshold = Level.info

    private static func rank(_ level: Level) -> Int {
        switch level {
        case .debug: 0
        case .info: 1
        case .warn: 2
        case .error: 3
        }
    }

    private static func write(_ level: Level, _ message: String, _ fields: [(String, String)]) {
        guard rank(level) >= rank(threshold) else { return }
        var line = "{\"ts\":\"\(rfc3339(nanos: SystemClock().nowNanos()))\",\"level\":\"\(level.rawValue)\",\"msg\":\(jsonString(message))"
        for (key, value) in fields { line += ",\(jsonString(key)):\(jsonString(value))" }
        line += "}\n"
        var bytes = Array(line.utf8)
        bytes.withUnsafeMutableBytes { _ = Glibc.write(2, $0.baseAddress, $0.count) }
    }

    private static func jsonString(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
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
