package import ObsCore

/// The stream label `service_name`, which Grafana's log views are built on: every log format gives its streams one (contract loki.md §1).
package enum ServiceName {
    package static let label = [UInt8]("service_name".utf8)
    package static let unknown = [UInt8]("unknown_service".utf8)

    /// Labels that name a service, best first.
    private static let sources: [[UInt8]] = [
        "service_name", "service", "app", "application", "app_name", "name", "app_kubernetes_io_name", "container", "container_name",
        "k8s_container_name", "component", "workload", "job", "k8s_job_name",
    ].map { [UInt8]($0.utf8) }

    /// The service a canonical label set belongs to, `service_name` itself first; `unknown_service` when nothing tells.
    package static func find(in labels: UnsafeRawBufferPointer) -> [UInt8] {
        for source in sources {
            if let value = source.withUnsafeBytes({ ObsCore.find($0, in: labels) }), !value.isEmpty { return [UInt8](labels[value]) }
        }
        return unknown
    }

    package static func find(in labels: Labels) -> [UInt8] { labels.bytes.withUnsafeBytes { find(in: $0) } }

    /// The label set with its `service_name`; unchanged when it has one.
    package static func adding(to labels: Labels) -> Labels {
        if labels["service_name"] != nil { return labels }
        var builder = LabelsBuilder(labels)
        builder.set(label, find(in: labels))
        return builder.labels()
    }
}
