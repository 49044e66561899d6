internal import ObsCore

// What the three signals share. Their messages are built alike: a request holds groups by resource (field 1), a group its resource (1), groups by scope (2)
// and schema URL (3), a scope group its scope (1), records (2) and schema URL (3).

/// The head of a resource or scope group, gathered before its records: protobuf lets fields come in any order, and encoders put the schema URL last.
struct OTLPGroup {
    /// The `Resource` or `InstrumentationScope` message; empty when absent.
    var head = UnsafeRawBufferPointer.nothing
    var schemaURL = UnsafeRawBufferPointer.nothing

    init(_ group: ProtobufReader) {
        var reader = group
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): head = reader.bytes()
            case .field(3, .length): schemaURL = reader.bytes()
            default: reader.skip()
            }
        }
    }
}

/// The resource and scope tables of a batch. Equal messages share an entry.
struct OTLPTables {
    private struct ScopeKey: Hashable {
        let scope: Slice
        let schemaURL: Slice
        let resourceSchemaURL: Slice
    }

    private(set) var resources: [ByteRange] = [.empty]
    private(set) var scopes: [ByteRange] = [.empty]
    private var resourceIndex: [Slice: UInt32] = [:]
    private var scopeIndex: [ScopeKey: UInt32] = [:]
    private var list: AttributeListBuilder

    init(flattensMaps: Bool, nestingMax: Int) { list = AttributeListBuilder(flattensMaps: flattensMaps, nestingMax: nestingMax) }

    /// Index of a `Resource` message's attributes; nil when it is malformed.
    mutating func resource(_ message: UnsafeRawBufferPointer, _ arena: inout ByteArena) -> UInt32? {
        if message.isEmpty { return 0 }
        if let known = resourceIndex[Slice(message)] { return known }
        list.begin(arena)
        var reader = ProtobufReader(message)
        while reader.next() {
            if reader.tag == .field(1, .length) { list.append(&reader, to: &arena) } else { reader.skip() }
        }
        if reader.failed { return nil }
        let range = arena.range(from: list.start)
        let index = range.isEmpty ? 0 : UInt32(resources.count)
        if index > 0 { resources.append(range) }
        resourceIndex[Slice(message)] = index
        return index
    }

    /// Index of a scope, which also carries both schema URLs; nil when it is malformed.
    mutating func scope(_ group: OTLPGroup, resourceSchemaURL: UnsafeRawBufferPointer, _ arena: inout ByteArena) -> UInt32? {
        if group.head.isEmpty, group.schemaURL.isEmpty, resourceSchemaURL.isEmpty { return 0 }
        let key = ScopeKey(scope: Slice(group.head), schemaURL: Slice(group.schemaURL), resourceSchemaURL: Slice(resourceSchemaURL))
        if let known = scopeIndex[key] { return known }
        guard let scope = OTLPScope(group.head) else { return nil }
        list.begin(arena)
        if !scope.name.isEmpty { list.append("name", string: scope.name, to: &arena) }
        if !scope.version.isEmpty { list.append("version", string: scope.version, to: &arena) }
        if !group.schemaURL.isEmpty { list.append("schema_url", string: group.schemaURL, to: &arena) }
        if !resourceSchemaURL.isEmpty { list.append("resource_schema_url", string: resourceSchemaURL, to: &arena) }
        if scope.droppedAttributes != 0 { list.append("dropped_attributes_count", int: Int64(scope.droppedAttributes), to: &arena) }
        guard appendScopeAttributes(group.head, &arena) else { return nil }
        let range = arena.range(from: list.start)
        let index = range.isEmpty ? 0 : UInt32(scopes.count)
        if index > 0 { scopes.append(range) }
        scopeIndex[key] = index
        return index
    }

    private mutating func appendScopeAttributes(_ message: UnsafeRawBufferPointer, _ arena: inout ByteArena) -> Bool {
        var reader = ProtobufReader(message)
        while reader.next() {
            guard reader.tag == .field(3, .length) else {
                reader.skip()
                continue
            }
            let pair = KeyValue(&reader)
            let key = [UInt8]("attr.".utf8) + pair.key
            guard !reader.failed, key.withUnsafeBytes({ list.append($0, pair.value, to: &arena, depth: list.nestingMax) }) else { return false }
        }
        return !reader.failed
    }
}

/// The plain fields of an `InstrumentationScope` in place.
struct OTLPScope {
    var name = UnsafeRawBufferPointer.nothing
    var version = UnsafeRawBufferPointer.nothing
    var droppedAttributes: UInt32 = 0

    /// Nil when the message is malformed.
    init?(_ message: UnsafeRawBufferPointer) {
        var reader = ProtobufReader(message)
        while reader.next() {
            switch reader.tag {
            case .field(1, .length): name = reader.bytes()
            case .field(2, .length): version = reader.bytes()
            case .field(4, .varint): droppedAttributes = UInt32(truncatingIfNeeded: reader.varint())
            default: reader.skip()
            }
        }
        if reader.failed { return nil }
    }
}

extension SpanID {
    /// Eight bytes, most significant first; nil for any other length.
    init?(spanBytes bytes: UnsafeRawBufferPointer) {
        guard bytes.count == 8 else { return nil }
        self = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
    }
}

/// Nanoseconds of an OTLP time; what lies past the year 2262 becomes the latest time there is.
func otlpNanos(_ raw: UInt64) -> Int64 { Int64(clamping: raw) }

/// Value of a text attribute of a list, in place; nil when absent or of another type.
func attributeText(_ key: StaticString, in list: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
    let wanted = UnsafeRawBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount)
    var found: UnsafeRawBufferPointer?
    forEachAttribute(list) {
        guard $0.type == .string, compareBytes($0.key, wanted) == 0 else { return true }
        found = $0.payload
        return false
    }
    return found
}

extension ObsError {
    static func malformedOTLP(_ message: String) -> ObsError {
        ObsError(.badInput, "the body is no valid protobuf \(message) (cut short, malformed or nested too deeply)")
    }
}
