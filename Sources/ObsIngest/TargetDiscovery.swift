// Where a job's targets come from: static groups, files, HTTP. Looked at by the scrape manager every few seconds; a source that fails keeps its last good answer.
internal import ObsCore
internal import ObsNet
internal import ObsYAML

/// The sources of one `scrape_configs` entry. Used by one thread.
struct TargetDiscovery {
    private struct WatchedFile {
        var stamp: String?
        var groups: [TargetGroup] = []
    }

    private struct WatchedURL {
        var dueNanos: Int64 = 0
        var groups: [TargetGroup] = []
    }

    private let configuration: ScrapeConfiguration
    private var files: [String: WatchedFile] = [:]
    private var urls: [WatchedURL]

    init(_ configuration: ScrapeConfiguration) {
        self.configuration = configuration
        urls = configuration.httpDiscovery.map { _ in WatchedURL() }
    }

    /// All groups as of now.
    mutating func groups(client: HTTPClient, monotonicNanos now: Int64) -> [TargetGroup] {
        readFiles()
        for index in urls.indices where urls[index].dueNanos <= now {
            urls[index].dueNanos = now + configuration.httpDiscovery[index].refreshMillis * nanosPerMilli
            ask(index, client)
        }
        return configuration.staticGroups + files.sorted { $0.key < $1.key }.flatMap(\.value.groups) + urls.flatMap(\.groups)
    }

    private mutating func readFiles() {
        let paths = Set(configuration.fileGlobs.flatMap { ConfigurationFile.paths(matching: $0) })
        for path in files.keys where !paths.contains(path) { files[path] = nil }
        for path in paths {
            let stamp = ConfigurationFile.stamp(path)
            if let known = files[path], known.stamp == stamp { continue }
            // Its groups go with a file; a bad content does not.
            var file = stamp == nil ? WatchedFile() : files[path] ?? WatchedFile()
            file.stamp = stamp
            do throws(ObsError) {
                if stamp != nil {
                    file.groups = try TargetGroup.list(ConfigurationFile.read(path), source: path, meta: [("__meta_filepath", path)])
                }
            } catch {
                DiagnosticLog.warn("file_sd: keeping the last good targets", [("file", path), ("error", error.message)])
            }
            files[path] = file
        }
    }

    private mutating func ask(_ index: Int, _ client: HTTPClient) {
        let discovery = configuration.httpDiscovery[index]
        do throws(ObsError) {
            var request = try discovery.connection.request(url: discovery.url)
            request.headers.append(("Accept", "application/json"))
            request.headers.append(("X-Prometheus-Refresh-Interval-Seconds", formatSampleValue(Double(discovery.refreshMillis) / 1000)))
            request.timeoutMillis = 10_000
            request.responseBytesMax = 64 << 20
            let answer = try client.perform(request)
            guard answer.status == 200 else { throw ObsError(.unavailable, "server returned HTTP status \(answer.status)") }
            let type = answer.header("content-type") ?? ""
            guard type.lowercased().hasPrefix("application/json") else { throw ObsError(.badInput, "unsupported content type \(quoted(type))") }
            urls[index].groups = try TargetGroup.list(answer.body, source: discovery.url, meta: [("__meta_url", discovery.url)])
        } catch {
            DiagnosticLog.warn("http_sd: keeping the last good targets", [("url", discovery.url), ("error", error.message)])
        }
    }
}

extension ScrapeConnection {
    /// A request with this connection's credentials; files of secrets are read each time, so that they can be rotated.
    func request(url: String) throws(ObsError) -> HTTPClientRequest {
        var request = HTTPClientRequest(url: url)
        request.headers = headers
        request.followRedirects = followRedirects
        request.proxyURL = proxyURL
        request.tls = TLSClientOptions(caFile: caFile, certFile: certificateFile, keyFile: keyFile, insecureSkipVerify: skipsVerification)
        if let user { request.basicAuth = (user, try passwordFile.map(secret) ?? password) }
        if let credentials = try credentialsFile.map(secret) ?? credentials { request.headers.append(("Authorization", "\(authorizationType) \(credentials)")) }
        return request
    }

    private func secret(_ path: String) throws(ObsError) -> String {
        var text = String(decoding: try ConfigurationFile.read(path, bytesMax: 1 << 20), as: UTF8.self)
        while let last = text.unicodeScalars.last, last.properties.isWhitespace { text.unicodeScalars.removeLast() }
        return text
    }
}
