internal import ObsCore
internal import ObsHash
internal import ObsNet
internal import ObsPromQL
internal import ObsRules
internal import ObsStore

/// Which rules `/api/v1/rules` is asked for.
struct RuleQuestion {
    private let type: String
    private let names: Set<String>
    private let groupNames: Set<String>
    private let files: Set<String>
    /// A rule's own labels satisfy all of one of them.
    private var selectors: [[LabelMatcher]] = []
    private(set) var excludesAlerts = false
    /// Nil: all.
    private var groupsMax: Int?
    private let token: String

    /// - Throws: `.badInput`.
    init(_ parameters: Parameters) throws(ObsError) {
        type = (parameters["type"] ?? "").lowercased()
        guard ["", "alert", "record"].contains(type) else { throw parameters.invalid("type", "not supported value \(quoted(type))") }
        names = Set(parameters.all("rule_name[]"))
        groupNames = Set(parameters.all("rule_group[]"))
        files = Set(parameters.all("file[]"))
        token = parameters["group_next_token"] ?? ""
        for text in parameters.all("match[]") { selectors.append(try parseSelector(text)) }
        excludesAlerts = try Self.excludesAlerts(parameters)
        groupsMax = try Self.groupsMax(parameters)
        if groupsMax == nil, !token.isEmpty {
            throw parameters.invalid("group_next_token", "group_limit needs to be present in order to paginate over the groups")
        }
    }

    private static func excludesAlerts(_ parameters: Parameters) throws(ObsError) -> Bool {
        switch (parameters["exclude_alerts"] ?? "").lowercased() {
        case "", "0", "f", "false": return false
        case "1", "t", "true": return true
        case let other:
            throw parameters.invalid(
                "exclude_alerts", "error converting exclude_alerts: strconv.ParseBool: parsing \(quoted(other)): invalid syntax")
        }
    }

    private static func groupsMax(_ parameters: Parameters) throws(ObsError) -> Int? {
        guard let text = parameters["group_limit"], !text.isEmpty else { return nil }
        guard let count = Int32(text) else {
            throw parameters.invalid(
                "group_limit", "group_limit needs to be a valid number: strconv.ParseInt: parsing \(quoted(text)): invalid syntax")
        }
        guard count > 0 else { throw parameters.invalid("group_limit", "group_limit needs to be greater than 0") }
        return Int(count)
    }

    /// The groups asked for, with the rules asked for, and where the next page begins. Groups none of whose rules are asked for are left out.
    func page(of all: [RuleGroupStatus]) throws(ObsError) -> (groups: [RuleGroupStatus], nextToken: String?) {
        var rest = all[...]
        if !token.isEmpty {
            guard let start = all.firstIndex(where: { Self.token(of: $0) == token }) else {
                throw ObsError(
                    .badInput, "invalid parameter \"group_next_token\": invalid group_next_token '\(token)'. were rule groups changed?")
            }
            rest = all[start...]
        }
        var found: [RuleGroupStatus] = []
        for group in rest {
            guard let group = chosen(group) else { continue }
            if let groupsMax, found.count == groupsMax { return (found, Self.token(of: group)) }
            found.append(group)
        }
        return (found, nil)
    }

    private func chosen(_ group: RuleGroupStatus) -> RuleGroupStatus? {
        guard groupNames.isEmpty || groupNames.contains(group.definition.name), files.isEmpty || files.contains(group.definition.file) else { return nil }
        var group = group
        group.rules = group.rules.filter { rule in
            if type == "alert" && !rule.definition.isAlerting || type == "record" && rule.definition.isAlerting { return false }
            if !names.isEmpty, !names.contains(rule.definition.name) { return false }
            let labels = Labels(rule.definition.labels.map { ($0.name, $0.value) })
            return selectors.isEmpty || selectors.contains { $0.match(labels) }
        }
        return group.rules.isEmpty ? nil : group
    }

    private static func token(of group: RuleGroupStatus) -> String { hexString(Digest.sha256.hash("\(group.definition.file);\(group.definition.name)".utf8)) }
}
