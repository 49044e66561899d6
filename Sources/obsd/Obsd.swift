internal import CMalloc
internal import Glibc
internal import ObsAPI
internal import ObsCore
internal import ObsIngest
internal import ObsPromQL
internal import ObsRules

@main
enum Obsd {
    nonisolated static func main() { exit(run(Array(CommandLine.arguments.dropFirst()))) }

    static let build = BuildInfo(version: "0.1.0", revision: "")
}

/// The program's exit code: 0 done, 1 failed, 2 wrong usage.
private func run(_ arguments: [String]) -> Int32 {
    do throws(ObsError) {
        let flags = try Flags(arguments) { name in getenv(name).map { String(cString: $0) } }
        if flags.isGiven("help") { return say(Flags.help) }
        if flags.isGiven("version") { return say("obsd \(Obsd.build.version)\n") }
        switch flags.words.first {
        case nil: return try start(flags)
        case "check": return try check(flags)
        case "token": return try token(flags)
        case "fsck": return fsck(flags)
        case "index": return try rebuildIndex(flags)
        case "segments": return try listSegments(flags)
        case "segment": return try dumpSegment(flags)
        case "flags": return say(Flags.markdown)
        case let other: throw ObsError(.badInput, "unknown command \(quoted(other ?? "")); see obsd --help")
        }
    } catch {
        complain("obsd: \(error.description)\n")
        return error.code == .badInput ? 2 : 1
    }
}

private func start(_ flags: Flags) throws(ObsError) -> Int32 {
    guard let level = DiagnosticLog.Level(rawValue: flags["log-level"]) else {
        throw ObsError(.badInput, "flag --log-level: \(quoted(flags["log-level"])) is not debug, info, warn or error")
    }
    DiagnosticLog.threshold = level
    let configuration = try Configuration(flags)
    keepFreedMemory(configuration.memory)
    raiseFileLimit()
    // Signals are taken by this thread alone, in order, so they must be blocked before any other thread exists.
    let signals = SignalQueue()
    let daemon = try Daemon(configuration)
    while true {
        switch signals.next() {
        case SIGHUP: _ = daemon.reload()
        default:
            daemon.stop()
            return 0
        }
    }
}

/// Shells and service managers hand out 1,024 files for the sake of programs that use `select`; connections of clients and targets alone may be more.
private func raiseFileLimit() {
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    var limits = rlimit()
    guard getrlimit(resource, &limits) == 0, limits.rlim_cur < limits.rlim_max else { return }
    limits.rlim_cur = min(limits.rlim_max, 1 << 20)
    _ = setrlimit(resource, &limits)
}

/// A request needs a few buffers of some hundred kilobytes for a moment. By default the allocator gives such memory back to the system as soon as it is
/// free and asks for it again with the next request: a page fault every four kilobytes, two fifths of what a remote-write sample cost.
/// How much is kept depends on how much there is: every arena keeps its own, and under a low ceiling there must be few of them.
private func keepFreedMemory(_ shares: MemoryShares) {
    mallopt(M_TRIM_THRESHOLD, Int32(clamping: shares.trimThresholdBytes))
    mallopt(M_MMAP_THRESHOLD, Int32(clamping: shares.mappingThresholdBytes))
    mallopt(M_ARENA_MAX, Int32(clamping: shares.arenasMax))
}

/// Reads everything a start would read, and says what it found.
private func check(_ flags: Flags) throws(ObsError) -> Int32 {
    let configuration = try Configuration(flags)
    for warning in configuration.file.warnings { complain("warning: \(warning)\n") }
    let rules = try RuleManager.load(configuration.file.alerting.ruleFiles, querier: PromQLChecker(experimental: flags.isOn("promql-experimental")))
    say("configuration is valid: \(configuration.file.prometheus.scrapes.count) scrape jobs, \(rules.count) rule files\n")
    return 0
}

private func token(_ flags: Flags) throws(ObsError) -> Int32 {
    guard (3...4).contains(flags.words.count) else { throw ObsError(.badInput, "usage: obsd token NAME SCOPES [TENANT]") }
    let tenant = flags.words.count > 3 ? flags.words[3] : "*"
    let (secret, line) = TokenFile.issue(name: flags.words[1], scopes: flags.words[2], tenant: tenant)
    _ = try TokenFile(parsing: line, path: "arguments")
    complain("secret, shown once; send it as `Authorization: Bearer <secret>`:\n\(secret)\nline for the tokens file:\n")
    return say(line + "\n")
}

/// Reads expressions without evaluating any.
private struct PromQLChecker: RuleQuerier {
    let experimental: Bool
    func check(_ expression: String) throws(ObsError) { _ = try parsePromQL(expression, experimental: experimental) }
    func vector(_ expression: String, atMillis: Int64) throws(ObsError) -> [RuleSample] { [] }
}

@discardableResult
func say(_ text: String) -> Int32 {
    write(1, text)
    return 0
}

func complain(_ text: String) { write(2, text) }

private func write(_ file: Int32, _ text: String) {
    var bytes = Array(text.utf8)[...]
    while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
        guard count > 0 else { return }
        bytes = bytes.dropFirst(count)
    }
}

/// SIGTERM, SIGINT and SIGHUP as a queue that one thread reads.
struct SignalQueue {
    private var set = sigset_t()

    init() {
        signal(SIGPIPE, SIG_IGN)
        sigemptyset(&set)
        for number in [SIGTERM, SIGINT, SIGHUP] { sigaddset(&set, number) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    func next() -> Int32 {
        var set = set
        var number: Int32 = 0
        while sigwait(&set, &number) != 0 {}
        return number
    }
}
