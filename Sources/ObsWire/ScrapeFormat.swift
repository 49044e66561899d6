internal import ObsCore

/// The exposition formats a scrape may answer with.
package enum ScrapeFormat: Sendable, Equatable {
    /// Prometheus text 0.0.4, and 1.0.0 with quoted names.
    case text
    /// OpenMetrics 1.0.
    case openMetrics

    /// What a scrape asks for.
    package static let accept =
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
        + "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"

    /// Of the media type alone; parameters do not matter. Nil for a blank or unknown type: the scrape fails, unless it has a fallback.
    package init?(contentType: String) {
        let mediaType = contentType.prefix { $0 != ";" }.filter { $0 != " " && $0 != "\t" }
        switch mediaType.lowercased() {
        case "text/plain": self = .text
        case "application/openmetrics-text": self = .openMetrics
        default: return nil
        }
    }

    /// `fallback` is a scrape configuration's `fallback_scrape_protocol` (`PrometheusText0.0.4`, `OpenMetricsText1.0.0`, …); nil when it names none of ours.
    package init?(fallbackProtocol name: String) {
        switch name {
        case "PrometheusText0.0.4", "PrometheusText1.0.0": self = .text
        case "OpenMetricsText0.0.1", "OpenMetricsText1.0.0": self = .openMetrics
        default: return nil
        }
    }
}
