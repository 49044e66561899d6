package import ObsCore
package import ObsYAML

/// `alerting` and `rule_files` of a prometheus.yml.
package struct AlertingConfiguration: Sendable {
    /// Globs, resolved against the file's directory.
    package var ruleFiles: [String] = []
    package var alertmanagers: [AlertmanagerEndpoint] = []
    package var warnings: [String] = []

    package init() {}

    /// Reads both keys of the root mapping; the caller reads the rest and calls `finish()`.
    package init(_ root: YAMLMapping, directory: String) throws(ObsError) {
        ruleFiles = try root.strings("rule_files").map { ConfigurationFile.resolve($0, in: directory) }
        guard let alerting = try root.mapping("alerting") else { return }
        warn(alerting.skip(["alert_relabel_configs"]))
        for node in try alerting.sequence("alertmanagers") { try addAlertmanagers(YAMLMapping(node), directory) }
        try alerting.finish()
    }

    private mutating func warn(_ skipped: [(path: String, line: Int)]) {
        for entry in skipped { warnings.append("\(entry.path) (line \(entry.line)) is not supported yet and has no effect") }
    }

    private mutating func addAlertmanagers(_ map: YAMLMapping, _ directory: String) throws(ObsError) {
        let scheme = try map.string("scheme", default: "http")
        let prefix = try map.string("path_prefix", default: "/")
        let version = try map.string("api_version", default: "v2")
        guard version == "v2" else { throw (map.optional("api_version") ?? map.node).error("only API version v2 is supported, not \(quoted(version))") }
        let timeout = try map.durationMillis("timeout", default: 10_000)
        let headers = try authorization(map, directory)
        for group in try map.sequence("static_configs") {
            let hosts = try YAMLMapping(group)
            for target in try hosts.strings("targets") {
                let path = prefix.split(separator: "/").map { "/" + $0 }.joined()
                alertmanagers.append(AlertmanagerEndpoint(url: "\(scheme)://\(target)\(path)/api/v2/alerts", timeoutMillis: timeout, headers: headers))
            }
            _ = try hosts.stringPairs("labels")
            try hosts.finish()
        }
        _ = map.skip(["follow_redirects", "enable_http2"])
        warn(map.skip(["tls_config", "proxy_url", "oauth2", "relabel_configs", "alert_relabel_configs", "sigv4", "http_headers", "no_proxy"]))
        warn(map.skip(map.keys.filter { $0.hasSuffix("_sd_configs") }))
        try map.finish()
    }

    private func authorization(_ map: YAMLMapping, _ directory: String) throws(ObsError) -> [(name: String, value: String)] {
        var headers: [(name: String, value: String)] = []
        func secret(_ owner: YAMLMapping, _ key: String) throws(ObsError) -> String? {
            if let text = try owner.optional(key)?.string() { return text }
            guard let path = try owner.optional(key + "_file")?.string() else { return nil }
            let bytes = try ConfigurationFile.read(ConfigurationFile.resolve(path, in: directory), bytesMax: 1 << 20)
            return String(decoding: bytes, as: UTF8.self).split(separator: "\n").first.map(String.init) ?? ""
        }
        if let basic = try map.mapping("basic_auth") {
            let pair = "\(try basic.string("username")):\(try secret(basic, "password") ?? "")"
            headers.append(("Authorization", "Basic " + base64(pair.utf8)))
            try basic.finish()
        }
        if let bearer = try map.mapping("authorization") {
            let type = try bearer.string("type", default: "Bearer")
            if let credentials = try secret(bearer, "credentials") { headers.append(("Authorization", "\(type) \(credentials)")) }
            try bearer.finish()
        }
        return headers
    }
}

package struct AlertmanagerEndpoint: Sendable {
    /// Of `POST /api/v2/alerts`.
    package var url: String
    package var timeoutMillis: Int64 = 10_000
    package var headers: [(name: String, value: String)] = []

    package init(url: String, timeoutMillis: Int64 = 10_000, headers: [(name: String, value: String)] = []) {
        self.url = url
        self.timeoutMillis = timeoutMillis
        self.headers = headers
    }
}
