internal import ObsCore
internal import ObsStore

/// Tests spans for tags as Tempo's older search has them: the value is contained, whatever the case, and every tag is on the one span.
struct TagFilter {
    private let tags: [(key: String, value: [UInt8])]

    init(_ tags: [(key: String, value: String)]) { self.tags = tags.map { ($0.key, Array($0.value.lowercased().utf8)) } }

    func accepts(_ place: SpanPlace) -> Bool {
        tags.allSatisfy { tag in
            values(tag.key, place).contains { value in
                let text = value.attribute?.text.lowercased() ?? ""
                return tag.value.isEmpty || contains(Array(text.utf8), tag.value)
            }
        }
    }

    private func values(_ key: String, _ place: SpanPlace) -> [Value] {
        let batch = place.batch.batch
        switch key {
        case "name", "root.name": return [place.value(.intrinsic(.name))]
        case "status", "status.code": return [place.value(.intrinsic(.status))]
        case "kind", "span.kind": return [place.value(.intrinsic(.kind)), place.value(.field(.span, key, ofParent: false))]
        case "error": return [.bool(batch.status[place.row] == 2), place.value(.field(.span, key, ofParent: false))]
        default:
            // Both places count, not only the nearer.
            return [place.value(.field(.span, key, ofParent: false)), place.value(.field(.resource, key, ofParent: false))].filter { !$0.isMissing }
        }
    }

    private func contains(_ text: [UInt8], _ part: [UInt8]) -> Bool {
        guard text.count >= part.count else { return false }
        return (0...text.count - part.count).contains { text[$0..<$0 + part.count].elementsEqual(part) }
    }
}

/// Hands each span of a scan that passes to a closure.
final class SpanVisitor: SpanSink {
    private let context: QueryContext
    private let visit: (SpanPlace) throws(ObsError) -> Bool
    private(set) var isDone = false

    /// - Parameter visit: false when enough has been seen.
    init(context: QueryContext, _ visit: @escaping (SpanPlace) throws(ObsError) -> Bool) {
        self.context = context
        self.visit = visit
    }

    func consume(_ batch: SpanBatch, rows: [Int]) throws(ObsError) {
        try context.check()
        context.count(rows: rows.count)
        if isDone { return }
        let source = SpanSource(batch)
        var failure: ObsError?
        batch.bytes.withUnsafeBytes { bytes in
            do throws(ObsError) {
                for row in rows where !isDone {
                    if try !visit(SpanPlace(batch: source, bytes: bytes, row: row, trace: nil)) { isDone = true }
                }
            } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

extension TagScope {
    /// Tempo's list.
    static let intrinsicNames = [
        "duration", "event:name", "event:timeSinceStart", "instrumentation:name", "instrumentation:version", "kind", "link:spanID", "link:traceID", "name",
        "rootName",
        "rootServiceName", "span:childCount", "span:duration", "span:id", "span:kind", "span:name", "span:parentID", "span:status", "span:statusMessage",
        "status",
        "statusMessage", "trace:duration", "trace:id", "trace:rootName", "trace:rootService", "traceDuration",
    ]
}

/// Names of tags seen, by scope. Lists that rows share are read once a batch.
struct TagNames {
    private(set) var names: [TagScope: Set<String>] = [:]
    private var batch: ObjectIdentifier?
    private var source: SpanSource?
    private var seenResources: Set<UInt32> = []
    private var seenScopes: Set<UInt32> = []

    mutating func add(_ place: SpanPlace, _ wanted: (TagScope) -> Bool) {
        let span = place.batch.batch
        if batch != ObjectIdentifier(place.batch) {
            batch = ObjectIdentifier(place.batch)
            source = place.batch
            seenResources = []
            seenScopes = []
        }
        func text(_ range: ByteRange) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: place.bytes[range.range]) }
        let row = place.row
        if wanted(.span) { add(text(span.attributes[row]), .span) }
        if wanted(.resource), seenResources.insert(span.resource[row]).inserted { add(text(span.resources[Int(span.resource[row])]), .resource) }
        if wanted(.instrumentation), seenScopes.insert(span.scope[row]).inserted {
            forEachAttribute(text(span.scopes[Int(span.scope[row])])) { view in
                if view.key.starts(with: "attr.".utf8) { names[.instrumentation, default: []].insert(String(decoding: view.key.dropFirst(5), as: UTF8.self)) }
                return true
            }
        }
        if wanted(.event) { forEachEvent(text(span.events[row])) { _, _, attributes in add(attributes, .event) } }
        if wanted(.link) { forEachLink(text(span.links[row])) { _, _, attributes in add(attributes, .link) } }
    }

    private mutating func add(_ attributes: UnsafeRawBufferPointer, _ scope: TagScope) {
        forEachAttribute(attributes) { view in
            names[scope, default: []].insert(String(decoding: view.key, as: UTF8.self))
            return true
        }
    }
}

extension TagValue {
    init?(_ value: Value) {
        switch value {
        case .missing, .list: return nil
        case .status, .kind: type = "keyword"
        case .view, .string: type = "string"
        case .int: type = "int"
        case .float: type = "float"
        case .bool: type = "bool"
        case .duration: type = "duration"
        }
        if case .duration(let nanos) = value { text = StaticValue.duration(nanos).text } else { text = value.attribute?.text ?? "" }
    }
}
