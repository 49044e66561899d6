internal import ObsCore

/// Shapes of texts and what is in their slots, in the order of rows.
struct ShapeTable {
    private struct Shape {
        var rule: SlotRule
        var slotCount: Int
        var rows: Int
    }
    /// A shape as it is stored, but for its columns: `varint slots · varint length × (slots + 1) · pieces`.
    private var keys = ByteInterner()
    private var shapes: [Shape] = []
    private var key: [UInt8] = []
    /// Slots of all rows, one after the other.
    private(set) var slots: [ByteRange] = []

    var count: Int { shapes.count }
    var slotCount: Int { slots.count }

    func slotCount(_ shape: Int) -> Int { shapes[shape].slotCount }
    func rule(_ shape: Int) -> SlotRule { shapes[shape].rule }
    func rows(_ shape: Int) -> Int { shapes[shape].rows }
    func hasRare(_ rowsMin: Int) -> Bool { shapes.contains { $0.rows < rowsMin } }

    /// `body` gets the stored form of a shape.
    func withKey<R>(_ shape: Int, _ body: (UnsafeRawBufferPointer) -> R) -> R {
        keys.bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[keys.range(shape)])) }
    }

    /// Adds a row whose text lies at `value`.
    mutating func add(_ value: ByteRange, _ text: UnsafeRawBufferPointer, _ rule: SlotRule, _ found: Slots) -> Int {
        for slot in found.all { slots.append(ByteRange(offset: value.offset + UInt32(slot.from), count: UInt32(slot.to - slot.from))) }
        let bytesMax = text.count + (found.all.count + 2) * 5
        if key.count < bytesMax { key = [UInt8](repeating: 0, count: bytesMax * 2) }
        let bytes = key.withUnsafeMutableBytes { Self.writeKey($0, text, found) }
        let number = key.withUnsafeBytes { keys.intern(UnsafeRawBufferPointer(rebasing: $0[..<bytes])) }
        return count(row: number, rule, found.all.count)
    }

    /// Adds a row of another table: one of its shapes, and where its slots lie.
    mutating func add(from other: ShapeTable, _ shape: Int, slots range: Range<Int>) -> Int {
        slots.append(contentsOf: other.slots[range])
        let number = other.withKey(shape) { keys.intern($0) }
        return count(row: number, other.shapes[shape].rule, range.count)
    }

    /// - Returns: bytes written.
    private static func writeKey(_ key: UnsafeMutableRawBufferPointer, _ text: UnsafeRawBufferPointer, _ found: Slots) -> Int {
        var end = 0
        func varint(_ value: Int) {
            var rest = value
            while rest >= 0x80 {
                key[end] = UInt8(truncatingIfNeeded: rest) | 0x80
                rest >>= 7
                end &+= 1
            }
            key[end] = UInt8(truncatingIfNeeded: rest)
            end &+= 1
        }
        func piece(_ from: Int, _ to: Int) {
            guard to > from, let source = text.baseAddress, let target = key.baseAddress else { return }
            (target + end).copyMemory(from: source + from, byteCount: to - from)
            end &+= to - from
        }
        varint(found.all.count)
        var at = 0
        for slot in found.all {
            varint(slot.staticEnd - at)
            at = slot.to
        }
        varint(text.count - at)
        at = 0
        for slot in found.all {
            piece(at, slot.staticEnd)
            at = slot.to
        }
        piece(at, text.count)
        return end
    }

    private mutating func count(row shape: Int, _ rule: SlotRule, _ slotCount: Int) -> Int {
        if shape == shapes.count { shapes.append(Shape(rule: rule, slotCount: slotCount, rows: 0)) }
        shapes[shape].rows += 1
        return shape
    }
}

/// Which column each slot of each shape belongs to, and what is in the columns.
struct ShapeColumns {
    private(set) var count = 0
    /// Columns of each shape's slots.
    private var columnsOf: [[UInt32]] = []
    /// What is known of the values in a column beforehand.
    private var kinds: [ValueKind] = []
    private var ends: [Int] = []
    private var values: [ByteRange] = []
    private var rows: [UInt32] = []

    /// - Parameters:
    ///   - shapeOf: of each row.
    ///   - ownColumnRows: shapes of fewer rows have no columns of their own.
    init(_ table: ShapeTable, _ shapeOf: [Int], ownColumnRows: Int, columnsMax: Int) {
        assign(table, ownColumnRows, columnsMax)
        var starts = [Int](repeating: 0, count: count + 1)
        for shape in 0..<table.count { for column in columnsOf[shape] { starts[Int(column) + 1] += table.rows(shape) } }
        for column in 0..<count { starts[column + 1] += starts[column] }
        ends = Array(starts[1...])
        values = [ByteRange](repeating: .empty, count: table.slotCount)
        rows = [UInt32](repeating: 0, count: table.slotCount)
        var next = 0
        for (row, shape) in shapeOf.enumerated() {
            for column in columnsOf[shape] {
                let at = starts[Int(column)]
                starts[Int(column)] = at + 1
                values[at] = table.slots[next]
                rows[at] = UInt32(row)
                next += 1
            }
        }
    }

    /// What is in a column, and the row of each value.
    func values(_ column: Int) -> (values: [ByteRange], rows: ArraySlice<UInt32>) {
        let range = (column == 0 ? 0 : ends[column - 1])..<ends[column]
        return (Array(values[range]), rows[range])
    }

    func kind(_ column: Int) -> ValueKind { kinds[column] }

    func encodedShapes(_ table: ShapeTable) -> [UInt8] {
        var bytes: [UInt8] = []
        for shape in 0..<table.count {
            bytes.appendVarint(UInt64(table.slotCount(shape)))
            table.withKey(shape) { key in
                let types = table.rule(shape) == .attributes ? pieces(key).map { $0.last ?? 0 } : []
                for (slot, column) in columnsOf[shape].enumerated() {
                    let hasLength = types.isEmpty ? false : table.rule(shape).hasLength(type: types[slot])
                    bytes.appendVarint(UInt64(column) << 1 | (hasLength ? 1 : 0))
                }
                var at = 0
                _ = readVarint(key, &at)
                bytes.append(contentsOf: UnsafeRawBufferPointer(rebasing: key[at...]))
            }
        }
        return bytes
    }

    private mutating func assign(_ table: ShapeTable, _ ownColumnRows: Int, _ columnsMax: Int) {
        var fields = ByteInterner()
        var columnOfField: [UInt32] = []
        var rest: UInt32?
        var wholes: UInt32?
        func fresh(_ kind: ValueKind = .text) -> UInt32? {
            guard count < columnsMax else { return nil }
            count += 1
            kinds.append(kind)
            return UInt32(count - 1)
        }
        func shared() -> UInt32 {
            if let rest { return rest }
            // Past the bound, once.
            count += 1
            kinds.append(.text)
            rest = UInt32(count - 1)
            return UInt32(count - 1)
        }
        for shape in 0..<table.count {
            switch table.rule(shape) {
            case .json, .attributes:
                let slots = table.withKey(shape) { table.rule(shape) == .json ? jsonFields($0) : attributeFields($0) }
                columnsOf.append(
                    slots.map { slot in
                        let number = fields.intern(slot.name)
                        if number == columnOfField.count { columnOfField.append(fresh(slot.kind) ?? shared()) }
                        return columnOfField[number]
                    })
            case .whole:
                let column = wholes ?? fresh() ?? shared()
                wholes = column
                columnsOf.append([column])
            case .words, .allWords, .runs:
                let isOwn = table.rows(shape) >= ownColumnRows
                columnsOf.append((0..<table.slotCount(shape)).map { _ in (isOwn ? fresh() : nil) ?? shared() })
            }
        }
    }
}

/// The static bytes around a shape's slots, one more than slots.
private func pieces(_ key: UnsafeRawBufferPointer) -> [UnsafeRawBufferPointer] {
    var at = 0
    guard let slots = readVarint(key, &at) else { return [] }
    var lengths: [Int] = []
    for _ in 0...slots { if let length = readVarint(key, &at) { lengths.append(Int(length)) } }
    return lengths.map { length in
        defer { at += length }
        return UnsafeRawBufferPointer(rebasing: key[at..<at + length])
    }
}

/// The name of each slot of a JSON shape: its key, with a mark for strings; elements of an array have the name of what is before them.
private func jsonFields(_ key: UnsafeRawBufferPointer) -> [(name: [UInt8], kind: ValueKind)] {
    var name: [UInt8] = []
    return pieces(key).dropLast().map { piece in
        if let colon = piece.lastIndex(of: UInt8(ascii: ":")), colon > 0, piece[colon - 1] == UInt8(ascii: "\"") {
            let start = piece[..<(colon - 1)].lastIndex(of: UInt8(ascii: "\"")).map { $0 + 1 } ?? 0
            name = Array(piece[start..<(colon - 1)])
        }
        return (name + [piece.last == UInt8(ascii: "\"") ? 1 : 0], .text)
    }
}

/// The name of each slot of an attribute list: its key and type.
private func attributeFields(_ key: UnsafeRawBufferPointer) -> [(name: [UInt8], kind: ValueKind)] {
    pieces(key).dropLast().map { piece in (Array(piece), ValueKind(attributeType: piece.last ?? 0)) }
}
