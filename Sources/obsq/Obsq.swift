internal import Glibc
internal import ObsCore

/// Exit codes, the same for every command.
enum Exit: Int32 {
    case ok = 0
    /// What was asserted does not hold, or nothing was found with `--fail-empty`.
    case no = 1
    /// Usage or query error.
    case usage = 2
    case noData = 3
    case unreachable = 4
    case partial = 5
}

@main
enum Obsq {
    nonisolated static func main() { exit(runObsq(Array(CommandLine.arguments.dropFirst()))) }
}

private let help = """
    obsq: ask obsd from a terminal.

    usage: obsq COMMAND [flags]

      query 'PROMQL' [--at TIME]          metrics now, as a table
      graph 'PROMQL' [--since 1h]         metrics over time, as a chart
      logs [WORDS|k=v|'{LOGQL}'] [-n 200] [--since 1h] [-f]
                                          search logs; bare words are text filters
      tail [WORDS|k=v|'{LOGQL}']          logs as they arrive
      traces [k=v|'{TRACEQL}'] [--service S] [--name N] [--min-duration D] [--errors]
                                          search traces
      trace ID                            one trace as a waterfall
      alert ls                            alerting rules and what is active
      push [--service S] [--stream FIELDS]
                                          send standard input as log records, a line each
      status                              what obsd holds

    Pretty on a terminal, JSON lines when piped; -o pretty|raw|jsonl.
    Times: --since 15m, --from/--to with RFC 3339, now-2h or Unix time. Server: --addr or OBSQ_ADDR (default
    http://127.0.0.1:4319), --token or OBSQ_TOKEN, --tenant or OBSQ_TENANT.
    Also: --fail-empty (exit 1 when nothing is found), --show-query, --utc, -q, --color auto|always|never, --timeout 2m.
    Exit codes: 0 ok · 1 nothing found with --fail-empty · 2 usage or query error · 3 no data to judge ·
    4 server unreachable · 5 partial result · 130 interrupted.

    """

private func runObsq(_ arguments: [String]) -> Int32 {
    signal(SIGPIPE, SIG_IGN)
    signal(SIGINT) { _ in _exit(130) }
    do throws(ObsError) { return try dispatch(arguments).rawValue } catch {
        complain("obsq: \(error.description)\n")
        switch error.code {
        case .unavailable, .timeout, .overloaded: return Exit.unreachable.rawValue
        default: return Exit.usage.rawValue
        }
    }
}

private func dispatch(_ all: [String]) throws(ObsError) -> Exit {
    guard let command = all.first, !["help", "--help", "-h"].contains(command) else {
        return say(help)
    }
    if command == "--version" || command == "version" { return say("obsq 0.1.0\n") }
    let arguments = try Arguments(Array(all.dropFirst()))
    if arguments.has("help") { return say(help) }
    let server = try Server(arguments)
    let terminal = try Terminal(arguments)
    let now = SystemClock().nowNanos()
    switch command {
    case "query": return try QueryCommand(arguments: arguments, server: server, terminal: terminal).run(nowNanos: now)
    case "graph": return try GraphCommand(arguments: arguments, server: server, terminal: terminal).run(nowNanos: now)
    case "logs": return try LogsCommand(arguments: arguments, server: server, terminal: terminal).run(nowNanos: now)
    case "tail": return try TailCommand(arguments: arguments, server: server, terminal: terminal).run()
    case "traces": return try TracesCommand(arguments: arguments, server: server, terminal: terminal).run(nowNanos: now)
    case "trace": return try TraceCommand(arguments: arguments, server: server, terminal: terminal).run()
    case "alert", "alerts": return try AlertCommand(arguments: arguments, server: server, terminal: terminal).run()
    case "push": return try PushCommand(arguments: arguments, server: server, terminal: terminal, input: LineReader()).run()
    case "status": return try StatusCommand(server: server, terminal: terminal).run()
    default: throw ObsError(.badInput, "unknown command \(quoted(command)); see obsq help")
    }
}

private func say(_ text: String) -> Exit {
    _ = writeAll(1, text)
    return .ok
}

private func complain(_ text: String) { _ = writeAll(2, text) }
