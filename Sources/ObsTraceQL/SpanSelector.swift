package import ObsCore
internal import ObsRegex
package import ObsStore

/// Parses a `{ … }` that chooses spans for the store to forget: what `resource.service.name`, `name` and `trace:id` are or match, joined by `&&`.
/// - Returns: matchers on `service`, `name` and `trace_id`; none for `{}`.
/// - Throws: `.badInput`.
package func parseSpanSelector(_ text: String) throws(ObsError) -> [LabelMatcher] {
    let query = try parseTraceQL(text)
    guard case .filter(let field) = query.first, query.stages.isEmpty else { throw ObsError(.badInput, "a single {…} is expected, got \(quoted(text))") }
    var matchers: [LabelMatcher] = []
    for term in field?.conjuncts ?? [] {
        guard let matcher = try matcher(term) else {
            throw ObsError(
                .badInput, "spans are chosen by resource.service.name, name and trace:id with =, !=, =~ and !~, joined by &&; got \(quoted(text))")
        }
        matchers.append(matcher)
    }
    return matchers
}

private func matcher(_ term: FieldExpression) throws(ObsError) -> LabelMatcher? {
    switch term {
    case .binary(.equal, .attribute(let name), .literal(.string(let value))): try matcher(name, .equal, value)
    case .binary(.notEqual, .attribute(let name), .literal(.string(let value))): try matcher(name, .notEqual, value)
    case .match(.attribute(let name), let regex, let isNegated): try matcher(name, isNegated ? .matchesNot : .matches, regex.pattern)
    default: nil
    }
}

private func matcher(_ name: AttributeName, _ operation: LabelMatcher.Operation, _ value: String) throws(ObsError) -> LabelMatcher? {
    switch name {
    case .field(.resource, "service.name", false), .field(.none, "service.name", false): try LabelMatcher("service", operation, value)
    case .intrinsic(.name): try LabelMatcher("name", operation, value)
    case .intrinsic(.traceID):
        // Compared as text: 32 lower-case digits. A pattern is the asker's own.
        try LabelMatcher("trace_id", operation, operation == .equal || operation == .notEqual ? wholeTraceID(value) : value)
    default: nil
    }
}

private func wholeTraceID(_ text: String) throws(ObsError) -> String {
    guard let id = TraceID(hex: text) else { throw ObsError(.badInput, "a trace id has 1 to 32 hexadecimal digits, \(quoted(text)) has not") }
    return id.description
}
