internal import ObsCore

/// The exposition formats a scrape may answer with.
package enum ScrapeFormat: Sendable, Equatable {
    /// Prometheus text 0.0.4, and 1.0.0 with quoted names.
    case text
    /// OpenMetrics 1.0.
    case openMetrics
    /// Messages `io.prometheus.client.MetricFamily`, each with its length before it.
    case protobuf

    /// Of the media type; parameters matter only where they say which message it is. Nil for a blank or unknown type: the scrape fails, unless it has a fallback.
    package init?(contentType: String) {
        var parts = contentType.split(separator: ";").map { part in part.filter { $0 != " " && $0 != "\t" && $0 != "\"" } }
        guard !parts.isEmpty else { return nil }
        switch parts.removeFirst().lowercased() {
        case "text/plain": self = .text
        case "application/openmetrics-text": self = .openMetrics
        case "application/vnd.google.protobuf":
            guard parts.contains(where: { $0 == "proto=io.prometheus.client.MetricFamily" }), parts.contains(where: { $0.lowercased() == "encoding=delimited" })
            else { return nil }
            self = .protobuf
        default: return nil
        }
    }
}

/// What may be asked of a target, by the names of `scrape_protocols` and `fallback_scrape_protocol`.
package enum ScrapeProtocol: String, Sendable, CaseIterable {
    case prometheusProto = "PrometheusProto"
    case openMetrics1 = "OpenMetricsText1.0.0"
    case openMetrics0 = "OpenMetricsText0.0.1"
    case text1 = "PrometheusText1.0.0"
    case text0 = "PrometheusText0.0.4"

    /// Asked for unless configured, best first.
    package static let texts: [ScrapeProtocol] = [.openMetrics1, .openMetrics0, .text1, .text0]
    /// What is asked for where native histograms are wanted, which only protobuf has.
    package static let protobufFirst: [ScrapeProtocol] = [.prometheusProto] + texts

    package var format: ScrapeFormat {
        switch self {
        case .prometheusProto: .protobuf
        case .openMetrics1, .openMetrics0: .openMetrics
        case .text1, .text0: .text
        }
    }

    private var mediaType: String {
        switch self {
        case .prometheusProto: "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
        case .openMetrics1: "application/openmetrics-text;version=1.0.0"
        case .openMetrics0: "application/openmetrics-text;version=0.0.1"
        case .text1: "text/plain;version=1.0.0"
        case .text0: "text/plain;version=0.0.4"
        }
    }

    /// The `Accept` header that asks for these, best first.
    /// - Parameter escaping: what a target shall do with names that are not legacy ones: `allow-utf-8`, `underscores`, `dots` or `values`.
    package static func accept(_ protocols: [ScrapeProtocol], escaping: String) -> String {
        var weight = allCases.count + 1
        var offers: [String] = []
        for entry in protocols {
            // Older versions of the texts know no such parameter.
            let knowsEscaping = entry == .openMetrics1 || entry == .text1
            offers.append(entry.mediaType + (knowsEscaping ? ";escaping=\(escaping)" : "") + ";q=0.\(weight)")
            weight -= 1
        }
        return (offers + ["*/*;q=0.\(weight)"]).joined(separator: ",")
    }
}
