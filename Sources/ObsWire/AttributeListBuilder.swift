internal import ObsCore

/// Writes one attribute list (see `AttributeType` for the layout) at the end of an arena, straight from protobuf `KeyValue`s.
///
/// Of a repeated key the first entry stays. Nearly all keys are told apart by a 64-bit mask of length and outer bytes; only when a bit is taken are the
/// keys written so far compared, and past `walkMax` entries a set answers, so that a list of a million keys costs no million squared.
struct AttributeListBuilder {
    /// Maps become one entry for each of their members, `parent.child`: the Loki view has no maps.
    let flattensMaps: Bool
    let nestingMax: Int
    /// Where the list begins in the arena.
    private(set) var start = 0
    private var mask: UInt64 = 0
    private var count = 0
    private var many: Set<[UInt8]> = []
    private static let walkMax = 64

    init(flattensMaps: Bool, nestingMax: Int) {
        self.flattensMaps = flattensMaps
        self.nestingMax = nestingMax
    }

    mutating func begin(_ arena: borrowing ByteArena) {
        start = arena.count
        mask = 0
        if count > Self.walkMax { many = [] }
        count = 0
    }

    /// Appends the `KeyValue` the reader stands at. A malformed or too deeply nested value fails the reader.
    mutating func append(_ reader: inout ProtobufReader, to arena: inout ByteArena) {
        let pair = KeyValue(&reader)
        guard !reader.failed, !pair.key.isEmpty else { return }
        if !append(pair.key, pair.value, to: &arena, depth: nestingMax) { reader.fail() }
    }

    /// Appends an entry made here.
    mutating func append(_ key: StaticString, int: Int64, to arena: inout ByteArena) {
        let key = UnsafeRawBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount)
        guard isNew(key, arena) else { return }
        appendKey(key, .int, &arena)
        arena.appendLittleEndian(UInt64(bitPattern: int))
    }

    mutating func append(_ key: StaticString, string: UnsafeRawBufferPointer, to arena: inout ByteArena) {
        let key = UnsafeRawBufferPointer(start: key.utf8Start, count: key.utf8CodeUnitCount)
        if isNew(key, arena) { append(key, .string, text: string, &arena) }
    }

    mutating func append(_ key: UnsafeRawBufferPointer, _ value: AnyValue, to arena: inout ByteArena, depth: Int) -> Bool {
        if flattensMaps, value.kind == .map { return flatten(key, value, to: &arena, depth: depth) }
        guard isNew(key, arena) else { return true }
        switch value.kind {
        case .string, .empty: append(key, .string, text: value.slice, &arena)
        case .bytes: append(key, .bytes, text: value.slice, &arena)
        case .bool:
            appendKey(key, .bool, &arena)
            arena.append(value.bits == 0 ? 0 : 1)
        case .int:
            appendKey(key, .int, &arena)
            arena.appendLittleEndian(value.bits)
        case .double:
            appendKey(key, .double, &arena)
            arena.appendLittleEndian(value.bits)
        case .array, .map:
            guard let json = value.json(depth: depth) else { return false }
            json.withUnsafeBytes { append(key, value.kind == .array ? .list : .map, text: $0, &arena) }
        }
        return true
    }

    private mutating func flatten(_ key: UnsafeRawBufferPointer, _ map: AnyValue, to arena: inout ByteArena, depth: Int) -> Bool {
        guard depth > 0 else { return false }
        var reader = ProtobufReader(map.slice)
        while reader.next() {
            guard reader.tag == .field(1, .length) else {
                reader.skip()
                continue
            }
            let pair = KeyValue(&reader)
            guard !reader.failed else { return false }
            let path = [UInt8](key) + [UInt8(ascii: ".")] + pair.key
            guard path.withUnsafeBytes({ append($0, pair.value, to: &arena, depth: depth - 1) }) else { return false }
        }
        return !reader.failed
    }

    private func append(_ key: UnsafeRawBufferPointer, _ type: AttributeType, text: UnsafeRawBufferPointer, _ arena: inout ByteArena) {
        appendKey(key, type, &arena)
        arena.appendVarint(UInt64(text.count))
        arena.append(text)
    }

    private func appendKey(_ key: UnsafeRawBufferPointer, _ type: AttributeType, _ arena: inout ByteArena) {
        arena.appendVarint(UInt64(key.count))
        arena.append(key)
        arena.append(type.rawValue)
    }

    /// Whether the list has no such key yet; the caller then writes it.
    private mutating func isNew(_ key: UnsafeRawBufferPointer, _ arena: borrowing ByteArena) -> Bool {
        count += 1
        if count > Self.walkMax { return isNewAmongMany(key, arena) }
        guard let first = key.first, let last = key.last else { return true }
        let bit: UInt64 = 1 &<< UInt64(UInt8(truncatingIfNeeded: key.count) &* 7 &+ first &+ last &* 3)
        if mask & bit == 0 {
            mask |= bit
            return true
        }
        return !contains(key, arena)
    }

    private func contains(_ key: UnsafeRawBufferPointer, _ arena: borrowing ByteArena) -> Bool {
        var found = false
        forEachAttribute(arena.slice(start..<arena.count)) {
            found = $0.key.count == key.count && compareBytes($0.key, key) == 0
            return !found
        }
        return found
    }

    private mutating func isNewAmongMany(_ key: UnsafeRawBufferPointer, _ arena: borrowing ByteArena) -> Bool {
        if many.isEmpty {
            var keys: Set<[UInt8]> = []
            forEachAttribute(arena.slice(start..<arena.count)) {
                keys.insert([UInt8]($0.key))
                return true
            }
            many = keys
        }
        return many.insert([UInt8](key)).inserted
    }
}
