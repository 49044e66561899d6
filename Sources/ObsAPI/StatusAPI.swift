internal import Glibc
internal import ObsCore
internal import ObsNet
internal import ObsStore
internal import ObsWire

/// `/api/v1/status/*`: what this process is and runs with, in Prometheus' shapes.
struct StatusAPI: Sendable {
    let services: Services

    func buildInfo(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        responder.send(.success { services.writeBuildInfo(&$0) })
    }

    func configuration(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        responder.send(
            .success { writer in
                writer.beginObject()
                writer.member("yaml", services.lifecycle.configuration())
                writer.endObject()
            })
    }

    func flags(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let flags = services.lifecycle.runtime().flags
        responder.send(
            .success { writer in
                writer.beginObject()
                for flag in flags { writer.member(flag.name, flag.value) }
                writer.endObject()
            })
    }

    /// Go's parts have no meaning here: threads stand for goroutines, the ceiling of memory for GOMEMLIMIT.
    func runtimeInfo(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let runtime = services.lifecycle.runtime()
        let status = services.store.status()
        responder.send(
            .success { writer in
                writer.beginObject()
                writer.member("startTime", rfc3339(nanos: runtime.startedMillis * nanosPerMilli))
                writer.member("CWD", workingDirectory())
                writer.member("hostname", hostName())
                writer.member("serverTime", rfc3339(nanos: services.clock.nowNanos()))
                writer.member("reloadConfigSuccess", bool: runtime.isConfigurationCurrent)
                writer.member("lastConfigTime", rfc3339(nanos: runtime.configuredMillis * nanosPerMilli))
                writer.member("corruptionCount", int: status.quarantined)
                writer.member("goroutineCount", int: threadCount())
                writer.member("GOMAXPROCS", int: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))))
                writer.member("GOMEMLIMIT", int: runtime.memoryBytesMax)
                writer.member("GOGC", "")
                writer.member("GODEBUG", "")
                writer.member("storageRetention", runtime.retention)
                writer.endObject()
            })
    }

    /// Prometheus counts log segments; here they are percent of the log's bytes. All 0 when there was nothing to replay or it is done.
    func walReplay(_ request: HTTPRequest, _ responder: any HTTPResponder) {
        let replay = services.store.status().signals.first { $0.signal == .metrics }?.replay
        responder.send(
            .success { writer in
                writer.beginObject()
                writer.member("min", int: 0)
                writer.member("max", int: replay == nil ? 0 : 100)
                writer.member("current", int: replay.map { Int($0.share * 100) } ?? 0)
                writer.endObject()
            })
    }

    private func workingDirectory() -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX) + 1)
        return getcwd(&buffer, buffer.count - 1) == nil ? "" : text(buffer)
    }

    private func hostName() -> String {
        var buffer = [CChar](repeating: 0, count: 256)
        return gethostname(&buffer, buffer.count - 1) == 0 ? text(buffer) : ""
    }

    private func text(_ buffer: [CChar]) -> String { String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self) }

    private func threadCount() -> Int {
        guard let folder = opendir("/proc/self/task") else { return 0 }
        defer { closedir(folder) }
        var count = 0
        while readdir(folder) != nil { count += 1 }
        return max(0, count - 2)
    }
}

extension Services {
    func writeBuildInfo(_ writer: inout JSONWriter) {
        writer.beginObject()
        // A recent Prometheus version, so that clients use today's API; ours follows it.
        writer.member("version", "3.5.0+obs\(build.version)")
        writer.member("revision", build.revision)
        for name in ["branch", "buildUser", "buildDate"] { writer.member(name, "") }
        writer.member("goVersion", "")
        writer.endObject()
    }
}
