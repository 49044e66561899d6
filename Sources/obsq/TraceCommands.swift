internal import ObsCore
internal import ObsWire

/// `obsq traces`: a search as a table or JSON lines.
struct TracesCommand {
    let arguments: Arguments
    let server: Server
    let terminal: Terminal

    func run(nowNanos: Int64) throws(ObsError) -> Exit {
        let window = try arguments.window(fallback: "1h", nowNanos: nowNanos)
        let query = try traceQuery()
        if arguments.has("show-query") { terminal.note(query) }
        // Whole seconds, rounded outwards: Tempo's API has no finer ones.
        let start = floorDivide(window.lowerBound, nanosPerSecond)
        let end = floorDivide(window.upperBound, nanosPerSecond) + 1
        let answer = try server.get("/api/search", [("q", query), ("start", String(start)), ("end", String(end)), ("limit", String(try arguments.limit(20)))])
        guard let traces = answer.root["traces"] else { throw ObsError(.internalError, "obsd gave no traces") }
        if terminal.format == .jsonl {
            traces.forEachElement { terminal.print(jsonText($0) + "\n") }
        } else if traces.count > 0 {
            terminal.print(table(traces))
        }
        if traces.count == 0 {
            terminal.note("no traces")
            return arguments.has("fail-empty") ? .no : .ok
        }
        return .ok
    }

    private func traceQuery() throws(ObsError) -> String {
        if arguments.text.hasPrefix("{") { return arguments.text }
        var conditions: [String] = []
        if let service = arguments["service"] { conditions.append("resource.service.name = \"\(escapedForQuotes(service))\"") }
        if let name = arguments["name"] { conditions.append("name = \"\(escapedForQuotes(name))\"") }
        if let least = arguments["min-duration"] { conditions.append("duration >= \(least)") }
        if let most = arguments["max-duration"] { conditions.append("duration <= \(most)") }
        if arguments.has("errors") { conditions.append("status = error") }
        for word in arguments.words {
            guard let equals = word.firstIndex(of: "="), equals > word.startIndex else {
                throw ObsError(.badInput, "\(quoted(word)) is no filter; write key=value, or TraceQL in braces")
            }
            let value = String(word[word.index(after: equals)...])
            conditions.append(".\(word[..<equals]) = " + (Double(value) != nil ? value : "\"\(escapedForQuotes(value))\""))
        }
        return "{ \(conditions.joined(separator: " && ")) }"
    }

    private func table(_ traces: JSONValue) -> String {
        var table = TableRenderer(["time", "duration", "spans", "errors", "service", "name", "trace"], rightAligned: [1, 2, 3])
        traces.forEachElement { trace in
            var spans: Int64 = 0
            var errors: Int64 = 0
            trace["serviceStats"]?.forEachMember { _, one in
                spans += one["spanCount"]?.int64 ?? 0
                errors += one["errorCount"]?.int64 ?? 0
            }
            table.add([
                terminal.clock(nanos: Int64(trace["startTimeUnixNano"]?.string ?? "") ?? 0), "\(trace["durationMs"]?.int64 ?? 0)ms", "\(spans)",
                errors == 0 ? "" : "\(errors)",
                trace["rootServiceName"]?.string ?? "", trace["rootTraceName"]?.string ?? "", trace["traceID"]?.string ?? "",
            ])
        }
        return table.render(head: { terminal.styled($0, .dim) }, style: { $0 == 3 ? terminal.styled($1, .red) : $0 == 4 ? terminal.named($1) : $1 })
    }
}

/// `obsq trace ID`: the waterfall of one trace, or its spans as JSON lines.
struct TraceCommand {
    let arguments: Arguments
    let server: Server
    let terminal: Terminal

    func run() throws(ObsError) -> Exit {
        guard arguments.words.count == 1, let id = TraceID(hex: arguments.words[0]) else {
            throw ObsError(.badInput, "usage: obsq trace ID, an id of 1 to 32 hexadecimal digits")
        }
        let answer: JSONDocument
        do throws(ObsError) { answer = try server.get("/jaeger/api/traces/\(id)") } catch {
            guard error.code == .notFound else { throw error }
            terminal.note("trace \(id) is not there")
            return .no
        }
        guard let trace = answer.root["data"]?[0] else { throw ObsError(.internalError, "obsd gave no trace") }
        if terminal.format == .jsonl {
            trace["spans"]?.forEachElement { terminal.print(jsonText($0) + "\n") }
        } else {
            terminal.print(WaterfallRenderer(trace, terminal: terminal).render())
        }
        return .ok
    }
}
