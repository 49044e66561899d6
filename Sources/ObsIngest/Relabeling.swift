// Prometheus' relabeling, exactly: contract prometheus.md §2 (its table), upstream's `model/relabel`.
internal import ObsCore
internal import ObsHash
internal import ObsRegex
internal import ObsYAML

/// One entry of `relabel_configs` or `metric_relabel_configs`.
struct RelabelRule: Sendable {
    enum Action: String, Sendable, CaseIterable {
        case replace, keep, drop, keepequal, dropequal, hashmod, labelmap, labeldrop, labelkeep, lowercase, uppercase
    }

    var action = Action.replace
    var sourceLabels: [String] = []
    var separator = ";"
    var regex: Regex
    var target = ""
    var replacement = "$1"
    var modulus: UInt64 = 0

    static let regexDefault = "(.*)"
    static let replacementDefault = "$1"

    init(action: Action = .replace, regex: String = Self.regexDefault) throws(ObsError) {
        self.action = action
        self.regex = try Regex(regex)
    }

    init(_ node: YAMLNode) throws(ObsError) {
        let map = try YAMLMapping(node)
        let word = try map.string("action", default: "replace")
        guard let action = Action(rawValue: word.lowercased()) else { throw node.error("unknown relabel action \(quoted(word))") }
        self.action = action
        sourceLabels = try map.strings("source_labels")
        separator = try map.string("separator", default: ";")
        // A quoted empty separator, regex or replacement is a value of its own, not an absent one.
        let pattern = try map.string("regex", default: Self.regexDefault)
        do throws(ObsError) { regex = try Regex(pattern) } catch { throw (map.optional("regex") ?? node).error(error.message) }
        target = try map.string("target_label")
        replacement = try map.string("replacement", default: Self.replacementDefault)
        if let node = map.optional("modulus") {
            guard let modulus = UInt64(exactly: try node.int()) else { throw node.error("modulus must be positive") }
            self.modulus = modulus
        }
        try map.finish()
        if let fault = fault(given: Set(map.keys)) { throw node.error(fault) }
    }

    static func list(_ nodes: [YAMLNode]) throws(ObsError) -> [RelabelRule] {
        var rules: [RelabelRule] = []
        for node in nodes { rules.append(try RelabelRule(node)) }
        return rules
    }

    /// What is wrong with the combination of fields.
    private func fault(given: Set<String>) -> String? {
        let needsTarget: Set<Action> = [.replace, .hashmod, .lowercase, .uppercase, .keepequal, .dropequal]
        if needsTarget.contains(action), target.isEmpty { return "relabel action \(action.rawValue) needs a target_label" }
        if action == .hashmod, modulus == 0 { return "relabel action hashmod needs a modulus other than 0" }
        let noReplacement: Set<Action> = [.lowercase, .uppercase]
        if noReplacement.contains(action), replacement != Self.replacementDefault { return "replacement cannot be set for relabel action \(action.rawValue)" }
        let fields = given.subtracting(["action"])
        switch action {
        case .keepequal, .dropequal:
            return fields.isSubset(of: ["source_labels", "target_label"]) ? nil : "relabel action \(action.rawValue) takes source_labels and target_label only"
        case .labeldrop, .labelkeep: return fields.isSubset(of: ["regex"]) ? nil : "relabel action \(action.rawValue) takes regex only"
        default: return nil
        }
    }
}

extension [RelabelRule] {
    /// Changes the labels; false when a rule drops what they belong to.
    func apply(to labels: inout LabelsBuilder) -> Bool {
        for rule in self where !rule.apply(to: &labels) { return false }
        return true
    }
}

extension RelabelRule {
    func apply(to labels: inout LabelsBuilder) -> Bool {
        let value = sourceLabels.map { labels[$0] ?? "" }.joined(separator: separator)
        switch action {
        case .keep: return regex.matchesWhole(value)
        case .drop: return !regex.matchesWhole(value)
        case .keepequal: return equalBytes(labels[target] ?? "", value)
        case .dropequal: return !equalBytes(labels[target] ?? "", value)
        case .replace: replace(value, &labels)
        case .hashmod: labels.set(target, String(Self.md5Tail(value) % modulus))
        case .lowercase: labels.set(target, value.lowercased())
        case .uppercase: labels.set(target, value.uppercased())
        case .labelmap:
            for pair in labels.labels().pairs {
                if let name = expansion(of: replacement, matching: pair.name), !name.isEmpty { labels.set(name, pair.value) }
            }
        case .labeldrop: labels.filter { !regex.matchesWhole($0) }
        case .labelkeep: labels.filter { regex.matchesWhole($0) }
        }
        return true
    }

    private func replace(_ value: String, _ labels: inout LabelsBuilder) {
        guard let target = expansion(of: target, matching: value), !target.isEmpty, let text = expansion(of: replacement, matching: value) else { return }
        labels.set(target, text)  // an empty value removes
    }

    /// Big-endian number of the last eight bytes of the MD5.
    private static func md5Tail(_ text: String) -> UInt64 { Digest.md5.hash(text.utf8).suffix(8).reduce(0) { $0 << 8 | UInt64($1) } }

    private func equalBytes(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }

    /// The template with `$1`, `${1}`, `${name}` filled from the match of the whole text; nil when it does not match.
    private func expansion(of template: String, matching text: String) -> String? {
        guard template.utf8.contains(UInt8(ascii: "$")) else { return regex.matchesWhole(text) ? template : nil }
        return regex.expand(template, matchingWhole: text)
    }
}
