package import ObsCore
internal import ObsStore

/// Which spans make a trace worth looking at as a whole.
///
/// A search reads the range once for candidates, then the candidates' whole traces. What a single span tells is decided in the first pass;
/// the rest (root names, structure, counts) only in the second. A candidate filter therefore lets too much through, never too little.
struct CandidateFilter {
    /// A span that satisfies all terms of one of these is a candidate. An empty list of terms takes every span.
    private(set) var alternatives: [[FieldExpression]] = []
    /// Whether every candidate is an answer.
    private(set) var isExact = true

    init(_ query: TraceQuery) {
        collect(query.first)
        if query.stages.contains(where: { if case .select = $0 { false } else { true } }) { isExact = false }
    }

    private mutating func collect(_ expression: SpansetExpression) {
        switch expression {
        case .filter(nil): alternatives.append([])
        case .filter(.some(let field)):
            let terms = field.conjuncts.filter { Self.isDecidable($0) }
            if terms.count < field.conjuncts.count { isExact = false }
            alternatives.append(terms)
        case .pipeline(let query):
            isExact = false
            collect(query.first)
        case .combined(let operation, let left, let right):
            if operation.relation == .or {
                collect(left)
                collect(right)
            } else {
                // All others need a span of the right side.
                isExact = false
                collect(right)
            }
        }
    }

    /// Whether a span alone decides the term. Whether it is a root it does: `nestedSetParent < 0`.
    private static func isDecidable(_ term: FieldExpression) -> Bool {
        if !term.needsTrace { return true }
        guard case .binary(let operation, .attribute(.intrinsic(.nestedSetParent)), .literal(.int(let value))) = term else { return false }
        switch operation {
        case .less, .greaterOrEqual: return value == 0
        case .equal, .notEqual, .greater, .lessOrEqual: return value == -1
        default: return false
        }
    }

    func accepts(_ place: SpanPlace) -> Bool { alternatives.contains { terms in terms.allSatisfy { $0.isTrue(place) } } }

    /// Narrows the selection by what all alternatives ask for.
    func narrow(_ selection: inout SpanSelection) {
        guard let terms = alternatives.first, alternatives.count == 1 else { return }
        for term in terms {
            guard case .binary(let operation, .attribute(let name), .literal(let value)) = term else { continue }
            switch (name, operation, value) {
            case (.field(.resource, "service.name", false), .equal, .string(let service)):
                selection.services = selection.services?.intersection([service]) ?? [service]
            case (.intrinsic(.name), .equal, .string(let text)): selection.names = selection.names?.intersection([text]) ?? [text]
            case (.intrinsic(.duration), .greater, .duration(let nanos)): selection.durationNanosMin = max(selection.durationNanosMin, nanos &+ 1)
            case (.intrinsic(.duration), .greaterOrEqual, .duration(let nanos)): selection.durationNanosMin = max(selection.durationNanosMin, nanos)
            default: break
            }
        }
    }
}

/// A `{ … }` filter ready to be matched against spans as they arrive. Safe to use from several threads.
package struct CompiledSpanFilter: Sendable {
    private let field: FieldExpression?

    /// - Throws: `.badInput` for what is more than one `{ … }` or asks for more than a single span tells.
    package init(_ text: String) throws(ObsError) {
        let query = try parseTraceQL(text)
        guard case .filter(let field) = query.first, query.stages.isEmpty else { throw ObsError(.badInput, "only a single {…} can be matched live") }
        if let field, field.needsTrace, !CandidateFilter(query).isExact {
            throw ObsError(.badInput, "a live filter cannot ask for what only the whole trace tells")
        }
        self.field = field
    }

    /// Matches rows of one batch; make one matcher a batch.
    package func matches(_ batch: SpanBatch, rows: [Int]) -> [Int] {
        guard let field else { return rows }
        let source = SpanSource(batch)
        return batch.bytes.withUnsafeBytes { bytes in
            rows.filter { field.isTrue(SpanPlace(batch: source, bytes: bytes, row: $0, trace: nil)) }
        }
    }

    package func matches(_ batch: SpanBatch, row: Int) -> Bool { !matches(batch, rows: [row]).isEmpty }
}
