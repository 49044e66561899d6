package import ObsCore
internal import ObsRegex

/// What one rule of a scrape pool made of a target's labels, for who wonders why it has the labels it has, or none.
package struct RelabelStep: Sendable {
    /// Fields as Prometheus names them, those that it leaves out when empty left out; numbers and lists as JSON would have them.
    package enum Field: Sendable {
        case text(String)
        case texts([String])
        case number(UInt64)
    }

    package var rule: [(name: String, value: Field)]
    /// Empty once a rule has dropped the target.
    package var output: Labels
    package var isKept: Bool
}

extension [RelabelRule] {
    /// The rules one after the other; after one that drops the target none is applied.
    func steps(_ labels: Labels) -> [RelabelStep] {
        var builder = LabelsBuilder(labels)
        var isKept = true
        return map { rule in
            if isKept { isKept = rule.apply(to: &builder) }
            return RelabelStep(rule: rule.fields, output: isKept ? builder.labels() : .empty, isKept: isKept)
        }
    }
}

extension RelabelRule {
    fileprivate var fields: [(name: String, value: RelabelStep.Field)] {
        var fields: [(name: String, value: RelabelStep.Field)] = []
        if !sourceLabels.isEmpty { fields.append(("source_labels", .texts(sourceLabels))) }
        fields += [("separator", .text(separator)), ("regex", .text(regex.pattern))]
        if modulus != 0 { fields.append(("modulus", .number(modulus))) }
        if !target.isEmpty { fields.append(("target_label", .text(target))) }
        fields += [("replacement", .text(replacement)), ("action", .text(action.rawValue))]
        return fields
    }
}
