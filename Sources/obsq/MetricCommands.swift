internal import ObsCore
internal import ObsWire

/// `obsq query`: an instant query as a table or JSON lines.
struct QueryCommand {
    let arguments: Arguments
    let server: Server
    let terminal: Terminal

    func run(nowNanos: Int64) throws(ObsError) -> Exit {
        guard !arguments.text.isEmpty else { throw ObsError(.badInput, "usage: obsq query 'PROMQL' [--at TIME]") }
        let at = try arguments["at"].map { text throws(ObsError) in try Arguments.time(text, nowNanos) } ?? nowNanos
        let answer = try server.get("/api/v1/query", [("query", arguments.text), ("time", seconds(at))])
        note(answer)
        guard let data = answer.root["data"], let result = data["result"] else { throw ObsError(.internalError, "obsd gave no result") }
        if let type = data["resultType"]?.string, type == "scalar" || type == "string" {
            terminal.print(terminal.format == .jsonl ? jsonText(data) + "\n" : (result[1]?.string ?? "") + "\n")
            return .ok
        }
        if terminal.format == .jsonl {
            result.forEachElement { terminal.print(jsonText($0) + "\n") }
        } else {
            var table = TableRenderer(["value", "series"], rightAligned: [0])
            result.forEachElement { one in
                let value = one["value"]?[1]?.string ?? one["values"].map { "\($0.count) samples" } ?? ""
                table.add([value, seriesText(one["metric"])])
            }
            if result.count > 0 { terminal.print(table.render(head: { terminal.styled($0, .dim) }, style: { $0 == 0 ? terminal.styled($1, .bold) : $1 })) }
        }
        return result.count == 0 ? empty() : .ok
    }

    private func empty() -> Exit {
        terminal.note("no data")
        return arguments.has("fail-empty") ? .no : .ok
    }

    private func note(_ answer: JSONDocument) {
        for name in ["warnings", "infos"] { answer.root[name]?.forEachElement { terminal.note("\(name.dropLast()): \($0.string ?? "")") } }
    }
}

/// `obsq graph`: a range query as a braille chart, or JSON lines.
struct GraphCommand {
    let arguments: Arguments
    let server: Server
    let terminal: Terminal

    func run(nowNanos: Int64) throws(ObsError) -> Exit {
        guard !arguments.text.isEmpty else { throw ObsError(.badInput, "usage: obsq graph 'PROMQL' [--since 1h]") }
        let window = try arguments.window(fallback: "1h", nowNanos: nowNanos)
        let columns = max(20, terminal.width - 12)
        let points = Int64(columns * 2)
        let step = max((window.upperBound - window.lowerBound) / points, nanosPerMilli)
        let answer = try server.get(
            "/api/v1/query_range",
            [
                ("query", arguments.text), ("start", seconds(window.lowerBound)), ("end", seconds(window.upperBound)),
                ("step", arguments["step"] ?? seconds(step)),
            ])
        guard let result = answer.root["data"]?["result"] else { throw ObsError(.internalError, "obsd gave no result") }
        if terminal.format == .jsonl {
            result.forEachElement { terminal.print(jsonText($0) + "\n") }
        } else if result.count > 0 {
            terminal.note("\(terminal.date(nanos: window.lowerBound)) to \(terminal.date(nanos: window.upperBound))")
            terminal.print(chart(result, window, columns))
        }
        if result.count == 0 {
            terminal.note("no data")
            return arguments.has("fail-empty") ? .no : .ok
        }
        return .ok
    }

    private func chart(_ result: JSONValue, _ window: Range<Int64>, _ columns: Int) -> String {
        var chart = BrailleChart(columns: columns, rows: 12, start: Double(window.lowerBound) / 1e9, end: Double(window.upperBound) / 1e9)
        var legend: [String] = []
        result.forEachElement { one in
            var points: [(Double, Double)] = []
            one["values"]?.forEachElement { if let time = $0[0]?.double, let value = $0[1]?.string.flatMap(Double.init) { points.append((time, value)) } }
            chart.add(points)
            if legend.count < 10 { legend.append("\(points.last.map { formatSampleValue($0.1) } ?? "")  \(seriesText(one["metric"]))") }
        }
        let more = result.count > legend.count ? ["… \(result.count - legend.count) more series"] : []
        return chart.render() + (legend + more).joined(separator: "\n") + "\n"
    }
}

/// Points as dots of braille characters, two by four in each cell.
struct BrailleChart {
    private let columns: Int
    private let rows: Int
    private let start: Double
    private let end: Double
    private var series: [[(time: Double, value: Double)]] = []

    init(columns: Int, rows: Int, start: Double, end: Double) {
        self.columns = columns
        self.rows = rows
        self.start = start
        self.end = end
    }

    mutating func add(_ points: [(Double, Double)]) { series.append(points.filter { $0.1.isFinite }.map { (time: $0.0, value: $0.1) }) }

    /// The dot of a position; the first for one that is no number.
    private func place(_ position: Double, below count: Int) -> Int { position > 0 ? Int(min(position, Double(count - 1))) : 0 }

    func render() -> String {
        let values = series.flatMap { $0.map(\.value) }
        guard var low = values.min(), var high = values.max() else { return "" }
        if low == high {
            low -= abs(low) * 0.1 + 1e-9
            high += abs(high) * 0.1 + 1e-9
        }
        var cells = [UInt8](repeating: 0, count: columns * rows)
        let bits: [[UInt8]] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]]
        for point in series.joined() {
            let x = place((point.time - start) / (end - start) * Double(columns * 2), below: columns * 2)
            // Halved, since the distance of the largest numbers is none.
            let y = place((high / 2 - point.value / 2) / (high / 2 - low / 2) * Double(rows * 4 - 1) + 0.5, below: rows * 4)
            cells[y / 4 * columns + x / 2] |= bits[x % 2][y % 4]
        }
        return (0..<rows).map { row in
            let share = Double(row) / Double(max(1, rows - 1))
            let label = row % 3 == 0 || row == rows - 1 ? axisText(high - (high - low) * share) : ""
            let line = String(String.UnicodeScalarView(cells[row * columns..<(row + 1) * columns].compactMap { Unicode.Scalar(0x2800 + UInt32($0)) }))
            return String(repeating: " ", count: max(0, 9 - label.count)) + label + " ┤" + line + "\n"
        }.joined()
    }

    /// Four significant digits, with a suffix from a thousand on.
    private func axisText(_ value: Double) -> String {
        for (size, suffix) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] where abs(value) >= size { return trimmed(value / size) + suffix }
        return trimmed(value)
    }

    private func trimmed(_ value: Double) -> String {
        let (_, exponent) = value == 0 ? ("", 0) : decimalDigits(abs(value))
        var power = 1.0
        for _ in 0..<max(0, min(12, 4 - exponent)) { power *= 10 }
        return formatSampleValue((value * power).rounded() / power)
    }
}

/// Seconds with millisecond precision, as Prometheus' API takes times.
func seconds(_ nanos: Int64) -> String {
    let millis = nanos / nanosPerMilli
    return "\(millis / 1000).\(padded(Int(abs(millis % 1000)), 3))"
}

/// `name{a="b"}` of a JSON object of labels.
func seriesText(_ labels: JSONValue?) -> String {
    var name = ""
    var pairs: [String] = []
    labels?.forEachMember { key, value in
        let key = String(decoding: key, as: UTF8.self)
        if key == "__name__" { name = value.string ?? "" } else { pairs.append("\(key)=\"\(escapedForQuotes(value.string ?? ""))\"") }
    }
    return name + (pairs.isEmpty && !name.isEmpty ? "" : "{\(pairs.joined(separator: ", "))}")
}

/// A value as compact JSON text.
func jsonText(_ value: JSONValue) -> String {
    var bytes: [UInt8] = []
    value.appendJSON(to: &bytes)
    return String(decoding: bytes, as: UTF8.self)
}
