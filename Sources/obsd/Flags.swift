internal import Glibc
internal import ObsCore

/// A command-line flag: the one place that knows its name, default, meaning and unit. `--help` and docs/flags.md are made from this table.
struct Flag {
    var name: String
    /// What stands for the value in help; nil for a switch.
    var value: String?
    var fallback: String
    var help: String
    /// The command it belongs to; nil for flags of the daemon, which are the only ones the environment sets.
    var command: String?

    /// Environment variable read when the flag is not given.
    var variable: String { "OBSD_" + name.uppercased().replacing("-", with: "_") }
}

extension String {
    fileprivate func replacing(_ character: Character, with other: Character) -> String { String(map { $0 == character ? other : $0 }) }
}

/// Values of all flags: from the command line, else the environment, else the default.
struct Flags {
    static let table: [Flag] = [
        Flag(name: "config", value: "FILE", fallback: "", help: "configuration file; an unmodified prometheus.yml is one"),
        Flag(name: "data", value: "DIR", fallback: "data", help: "folder of everything kept"),
        Flag(name: "http", value: "ADDR|none", fallback: "127.0.0.1:4319", help: "listener of the page, all query APIs and all ingest protocols over HTTP"),
        Flag(name: "otlp-http", value: "ADDR|none", fallback: "127.0.0.1:4318", help: "listener of OTLP/HTTP"),
        Flag(name: "otlp-grpc", value: "ADDR|none", fallback: "none", help: "listener of OTLP/gRPC; not served yet, so only none is accepted"),
        Flag(
            name: "retention", value: "DURATION|none", fallback: "30d",
            help: "data older than this is deleted; none keeps for ever and takes samples of any age"),
        Flag(
            name: "retention-bytes", value: "SIZE|none", fallback: "none",
            help: "past this size of all segments together the oldest are deleted; the log comes on top"),
        Flag(
            name: "durability", value: "commit|interval|os", fallback: "commit",
            help: "when a write is acknowledged: after its log record is synced, or at once with a sync every 100 ms, or with none of ours"),
        Flag(
            name: "auth", value: "tokens|none", fallback: "none on loopback",
            help: "tokens: every request needs a token of --auth-tokens; none: no credentials, also on addresses that others can reach"),
        Flag(name: "auth-tokens", value: "FILE", fallback: "", help: "tokens file, lines of `name scopes tenant sha256`; `obsd token` makes one"),
        Flag(name: "tenancy", value: "single|multi", fallback: "single", help: "multi: X-Scope-OrgID names the tenant unless the token is bound to one"),
        Flag(name: "tls-cert", value: "FILE", fallback: "", help: "certificate chain (PEM) of all listeners"),
        Flag(name: "tls-key", value: "FILE", fallback: "", help: "private key (PEM) of --tls-cert"),
        Flag(name: "alert-webhook", value: "URL", fallback: "", help: "where alerts are posted, in Alertmanager's webhook shape, version 4"),
        Flag(name: "external-url", value: "URL", fallback: "", help: "how others reach this obsd, for links in alerts; default http://<address of --http>"),
        Flag(
            name: "memory", value: "SIZE", fallback: "60 % of what there is, at most 4GiB",
            help: "ceiling of the process's memory, from which all bounds on memory are shares; at least 64MiB; obsd.memory in the configuration file"),
        Flag(name: "query-timeout", value: "DURATION", fallback: "2m", help: "wall time after which a query is given up"),
        Flag(name: "query-max-samples", value: "N", fallback: "50000000", help: "samples a query may load"),
        Flag(
            name: "promql-experimental", value: nil, fallback: "",
            help: "PromQL with anchored and smoothed ranges, arithmetic in durations, start timestamps, counters known by their label __type__"),
        Flag(name: "query-concurrency", value: "N", fallback: "4", help: "queries that run at once; more wait"),
        Flag(name: "request-bytes-max", value: "BYTES", fallback: "67108864", help: "size of a request body as sent"),
        Flag(name: "decoded-bytes-max", value: "BYTES", fallback: "268435456", help: "size of a request body once decompressed"),
        Flag(name: "log-level", value: "debug|info|warn|error", fallback: "info", help: "least level of obsd's own log on stderr"),
        Flag(
            name: "repair", value: nil, fallback: "", help: "set damaged segments aside, keep what can be read of them, make the catalogue again",
            command: "fsck"),
        Flag(name: "tenant", value: "NAME", fallback: "", help: "segments of this tenant only", command: "segments"),
        Flag(name: "signal", value: "metrics|logs|traces", fallback: "", help: "segments of this signal only", command: "segments"),
        Flag(name: "json", value: nil, fallback: "", help: "JSON, an object a line", command: "segments"),
        Flag(name: "blocks", value: nil, fallback: "", help: "list every block", command: "segment"),
        Flag(name: "rows", value: "N", fallback: "", help: "print the first N rows, a JSON object a line", command: "segment"),
        Flag(name: "help", value: nil, fallback: "", help: "this text"),
        Flag(name: "version", value: nil, fallback: "", help: "the version"),
    ]

    private var values: [String: String] = [:]
    /// Arguments that are no flags.
    private(set) var words: [String] = []

    /// - Throws: `.badInput` for an unknown flag or a missing value.
    init(_ arguments: [String], environment: (String) -> String?) throws(ObsError) {
        for flag in Self.table where flag.command == nil {
            if let value = environment(flag.variable) { values[flag.name] = value }
        }
        var rest = arguments[...]
        while let argument = rest.popFirst() {
            guard argument.hasPrefix("-"), argument != "-" else {
                words.append(argument)
                continue
            }
            let text = argument.drop { $0 == "-" }
            let equals = text.firstIndex(of: "=")
            let name = String(equals.map { text[..<$0] } ?? text)
            guard let flag = Self.table.first(where: { $0.name == name || (name == "h" && $0.name == "help") }) else {
                throw ObsError(.badInput, "unknown flag --\(name)\(Self.suggestion(for: name)); see obsd --help")
            }
            if let equals {
                values[flag.name] = String(text[text.index(after: equals)...])
            } else if flag.value == nil {
                values[flag.name] = "true"
            } else if let value = rest.popFirst() {
                values[flag.name] = value
            } else {
                throw ObsError(.badInput, "flag --\(name) needs a value: \(flag.value ?? "")")
            }
        }
        for flag in Self.table where isGiven(flag.name) {
            if let command = flag.command, command != words.first {
                throw ObsError(.badInput, "flag --\(flag.name) belongs to `obsd \(command)`; see obsd --help")
            }
        }
    }

    /// The value given, else the default.
    subscript(_ name: String) -> String { values[name] ?? Self.table.first { $0.name == name }?.fallback ?? "" }

    func isGiven(_ name: String) -> Bool { values[name] != nil }

    /// Whether a switch is on.
    func isOn(_ name: String) -> Bool { values[name] == "true" }

    /// Flags of the daemon as they are in force, for `/api/v1/status/flags`.
    var inForce: [(name: String, value: String)] {
        // The path of a webhook is often its secret.
        Self.table.filter { $0.command == nil && $0.value != nil }.map {
            ($0.name, $0.name == "alert-webhook" && isGiven($0.name) ? "<secret>" : self[$0.name])
        }
        .sorted { $0.name < $1.name }
    }

    func int(_ name: String) throws(ObsError) -> Int {
        guard let value = Int(self[name]), value > 0 else { throw ObsError(.badInput, "flag --\(name): \(quoted(self[name])) is no positive whole number") }
        return value
    }

    func durationMillis(_ name: String) throws(ObsError) -> Int64 {
        guard let value = parseDurationMillis(self[name]), value > 0 else {
            throw ObsError(.badInput, "flag --\(name): \(quoted(self[name])) is no duration; write one like 30s, 2h or 30d")
        }
        return value
    }

    /// Bytes; nil for `none`.
    func byteSize(_ name: String) throws(ObsError) -> Int64? {
        if self[name] == "none" { return nil }
        guard let bytes = parseBinarySize(self[name]), bytes > 0 else {
            throw ObsError(.badInput, "flag --\(name): \(quoted(self[name])) is no size; write one like 512MB or 2TB")
        }
        return Int64(bytes)
    }

    /// The address of a listener; nil for `none`.
    func address(_ name: String) -> String? { self[name] == "none" ? nil : self[name] }

    private static func suggestion(for name: String) -> String {
        guard let near = table.map(\.name).min(by: { distance($0, name) < distance($1, name) }), distance(near, name) <= 2 else { return "" }
        return "; did you mean --\(near)?"
    }

    /// Levenshtein distance.
    private static func distance(_ a: String, _ b: String) -> Int {
        var row = Array(0...b.count)
        for (i, x) in a.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, y) in b.enumerated() {
                let next = min(row[j] + 1, row[j + 1] + 1, diagonal + (x == y ? 0 : 1))
                diagonal = row[j + 1]
                row[j + 1] = next
            }
        }
        return row[b.count]
    }

    static var help: String {
        var text = """
            obsd: metrics, logs and traces in one process.

            usage: obsd [flags]              start
                   obsd check [--config F]   read configuration and rules, report, exit 0 or 1
                   obsd token NAME SCOPES [TENANT]
                                             make a token; scopes of ingest,query,admin
                   obsd fsck [--data DIR] [--repair]
                                             read a stopped store whole; exit 0 clean, 1 damage, 2 cannot look
                   obsd index rebuild [--data DIR]
                                             make the catalogue again from the segments of a stopped store
                   obsd segments ls [--data DIR] [--tenant T] [--signal S] [--json]
                                             which segments there are; also while obsd runs
                   obsd segment dump FILE [--blocks | --rows N]
                                             what is in a segment file
                   obsd flags                the flags as Markdown (docs/flags.md)

            Every flag can be set by the environment variable OBSD_<FLAG>, e.g. OBSD_OTLP_HTTP.


            """
        for flag in table where flag.command == nil {
            let head = "  --\(flag.name)\(flag.value.map { " \($0)" } ?? "")"
            text += head + "\n        " + flag.help + (flag.fallback.isEmpty ? "" : " (default \(flag.fallback))") + "\n"
        }
        return text
    }

    static var markdown: String {
        var text = """
            # Flags of obsd

            Made from the program by `obsd flags`; a test keeps it true.

            | flag | default | environment | meaning |
            |---|---|---|---|

            """
        for flag in table where flag.command == nil {
            let value = (flag.value ?? "").map { $0 == "|" ? "\\|" : String($0) }.joined()
            let name = flag.value == nil ? "`--\(flag.name)`" : "`--\(flag.name)` \(value)"
            text += "| \(name) | \(flag.fallback.isEmpty ? "" : "`\(flag.fallback)`") | `\(flag.variable)` | \(flag.help) |\n"
        }
        return text
    }
}
