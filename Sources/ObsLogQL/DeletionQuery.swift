package import ObsCore
package import ObsStore

/// Parses what chooses log records for the store to forget: a selector and line filters, `{app="a"} |= "text" !~ "regex"`.
/// - Returns: matchers on labels, and on the line (`LabelMatcher.line`).
/// - Throws: `.badInput`, also for a selector that every stream satisfies and for other stages.
package func parseLogDeletion(_ text: String) throws(ObsError) -> [LabelMatcher] {
    guard case .log(let query) = try parseLogQL(text) else { throw ObsError(.badInput, "unsupported query expression: a deletion takes a log query") }
    guard query.matchers.contains(where: { !$0.matchesEmpty }) else {
        throw ObsError(
            .badInput, "queries require at least one regexp or equality matcher that does not have an empty-compatible value, or everything would be deleted")
    }
    var matchers = query.matchers
    for stage in query.stages {
        guard case .lineFilter(let filter) = stage, let pattern = filter.pattern else {
            throw ObsError(.badInput, "a deletion takes a selector and line filters |=, !=, |~ and !~; other stages are not supported in deletions")
        }
        matchers.append(try LabelMatcher(LabelMatcher.line, filter.operation.isNegative ? .matchesNot : .matches, pattern))
    }
    return matchers
}

extension LineFilterExpression {
    /// What some part of a line matches that the filter, or for a negative one its opposite, lets pass; nil where no pattern says it.
    fileprivate var pattern: String? {
        if alternatives.contains(where: \.isAddress) { return nil }
        switch operation {
        case .contains, .containsNot: return alternatives.map { quotedPattern($0.text) }.joined(separator: "|")
        case .matches, .matchesNot: return alternatives.map { alternatives.count == 1 ? $0.text : "(?:\($0.text))" }.joined(separator: "|")
        case .pattern, .patternNot: return nil
        }
    }
}

/// A pattern that matches the text itself.
private func quotedPattern(_ text: String) -> String {
    var pattern = ""
    for scalar in text.unicodeScalars {
        // NUL cannot be escaped by a backslash.
        if scalar.isASCII, !("0"..."9" ~= scalar || "a"..."z" ~= scalar || "A"..."Z" ~= scalar || scalar == "_" || scalar == " " || scalar.value == 0) {
            pattern += "\\"
        }
        pattern.unicodeScalars.append(scalar)
    }
    return pattern
}
