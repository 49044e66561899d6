package import ObsCore
package import ObsWire
package import ObsYAML

extension OTLPMetricOptions {
    /// Reads `otlp` of a Prometheus configuration. Where it is silent, what is recommended holds, not what Prometheus began with: scope labels are on, and the attributes
    /// that say where a service runs are promoted.
    package init(_ map: YAMLMapping) throws(ObsError) {
        self.init()
        if let node = map.optional("translation_strategy") {
            guard let naming = MetricNaming(rawValue: try node.string()) else {
                let known = MetricNaming.allCases.map(\.rawValue).joined(separator: ", ")
                throw node.error("unknown translation strategy \(quoted(try node.string())); known are \(known)")
            }
            self.naming = naming
        }
        if let node = map.optional("promote_resource_attributes") { promotedAttributes = try node.strings() }
        let ignored = map.optional("ignore_resource_attributes")
        if try map.bool("promote_all_resource_attributes", default: false) {
            if let node = map.optional("promote_resource_attributes") { throw node.error("cannot be combined with promote_all_resource_attributes") }
            promotedAttributes = ["*"]
            ignoredAttributes = try ignored?.strings() ?? []
        } else if let ignored {
            throw ignored.error("needs promote_all_resource_attributes")
        }
        keepsIdentity = try map.bool("keep_identifying_resource_attributes", default: keepsIdentity)
        scopeLabels = try map.bool("promote_scope_metadata", default: scopeLabels)
        nativeBounds = try map.bool("convert_histograms_to_nhcb", default: nativeBounds)
        labels.prefixesUnderscore = try map.bool("label_name_underscore_sanitization", default: true)
        labels.keepsUnderscores = try map.bool("label_name_preserve_multiple_underscores", default: true)
        try map.finish()
    }
}
