internal import ObsCore
internal import ObsHash

/// Shapes of texts and what is in their slots.
///
/// Shapes that begin alike share their beginnings: they are a tree whose nodes are pieces of static bytes, each with a slot behind it or, the last of a shape, the end.
/// Cutting a text is going down the tree. Which piece comes next is guessed first: the one that came here last, or the one before it. A guess is one comparison
/// of bytes, and of the text only what is in the slots is looked at byte by byte. When both are wrong the scanner says where the next slot is, and the piece before
/// it is looked up or new.
struct ShapeTable: ~Copyable {
    // Not private: that the compiler does not survive in a buffer (6.3.1, debug builds).
    struct Node: BitwiseCopyable {
        /// The piece, where it was first seen.
        var piece: ByteRange
        var parent: UInt32
        /// Of the shape that ends here, none where a slot follows.
        var shape: Int32
        /// The children last come by, 0 for none: no child is a root.
        var recent: UInt32 = 0
        var older: UInt32 = 0
    }
    private struct Shape {
        var rule: SlotRule
        var last: UInt32
        var slotCount: Int
        var rows = 0
    }
    let bytes: TextBytes
    /// The first are the roots of the rules.
    private var nodes = Buffer<Node>()
    private var shapes: [Shape] = []
    /// Hash over node of every child, 0 is free. A power of two long, at most half full.
    private var table = [UInt64](repeating: 0, count: 256)
    /// Slots of all rows, in the order they were added.
    private(set) var slots = Buffer<ByteRange>()

    init(_ bytes: TextBytes, rows: Int) {
        self.bytes = bytes
        slots = Buffer(capacity: rows * 4)
        for _ in SlotRule.allCases { nodes.append(Node(piece: .empty, parent: 0, shape: -1)) }
    }

    func slotCount(_ shape: Int) -> Int { shapes[shape].slotCount }
    func rule(_ shape: Int) -> SlotRule { shapes[shape].rule }
    func rows(_ shape: Int) -> Int { shapes[shape].rows }
    var count: Int { shapes.count }

    /// The static bytes around a shape's slots, one piece more than slots.
    func pieces(_ shape: Int) -> [UnsafeRawBufferPointer] {
        var pieces: [UnsafeRawBufferPointer] = []
        var node = Int(shapes[shape].last)
        while node >= SlotRule.allCases.count {
            pieces.append(bytes.text(nodes[node].piece))
            node = Int(nodes[node].parent)
        }
        return pieces.reversed()
    }

    /// Cuts a text and appends its slots. Gives its shape.
    mutating func add(_ value: ByteRange, _ rule: SlotRule, _ classes: UnsafePointer<UInt8>) -> Int {
        let text = ScannedText(bytes: bytes, start: Int(value.offset), end: value.range.upperBound, classes: classes)
        let shape =
            switch rule {
            case .json: cut(text, rule, JSONSlots.self)
            case .words: cut(text, rule, WordSlots.self)
            case .allWords: cut(text, rule, AllWordSlots.self)
            case .runs: cut(text, rule, RunSlots.self)
            case .head: cut(text, rule, HeadSlots.self)
            case .whole: cut(text, rule, WholeSlot.self)
            case .attributes: cut(text, rule, AttributeSlots.self)
            case .events: cut(text, rule, EventSlots.self)
            case .links: cut(text, rule, LinkSlots.self)
            }
        shapes[shape].rows += 1
        return shape
    }

    private mutating func cut<Scanner: SlotScanner>(_ text: ScannedText, _ rule: SlotRule, _: Scanner.Type) -> Int {
        var node = rule.rawValue
        /// Where static bytes begin, and where to look for the next slot.
        var start = text.start
        var at = text.start
        var slotCount = 0
        while true {
            let (recent, older) = (Int(nodes[node].recent), Int(nodes[node].older))
            var child = recent
            var slot: Slot?
            if recent == 0 || !goesOn(text, start, recent, slotCount, Scanner.self, &slot) {
                child = older
                if older == 0 || !goesOn(text, start, older, slotCount, Scanner.self, &slot) {
                    slot = slotCount < Slots.max ? Scanner.next(text, at, before: slotCount) : nil
                    let piece = ByteRange(start..<(slot?.staticEnd ?? text.end))
                    child = self.child(of: node, piece, isLast: slot == nil, rule, slotCount)
                }
                nodes.base[node].older = UInt32(recent)
                nodes.base[node].recent = UInt32(child)
            }
            guard let slot else { return Int(nodes[child].shape) }
            slots.append(ByteRange(offset: UInt32(truncatingIfNeeded: slot.from), count: UInt32(truncatingIfNeeded: slot.to &- slot.from)))
            slotCount &+= 1
            start = slot.to
            at = slot.next
            node = child
        }
    }

    /// Whether the text goes on with the piece of a node, and then its slot, or ends where it does.
    @inline(__always)
    private func goesOn<Scanner: SlotScanner>(
        _ text: ScannedText, _ start: Int, _ node: Int, _ before: Int, _: Scanner.Type, _ slot: inout Slot?
    ) -> Bool {
        let piece = nodes[node].piece
        let end = start &+ Int(piece.count)
        guard end <= text.end, bytes.isSame(start, Int(piece.offset), Int(piece.count)) else { return false }
        if nodes[node].shape >= 0 {
            slot = nil
            return end == text.end
        }
        slot = Scanner.slot(text, at: end, before: before)
        return slot != nil
    }

    private mutating func child(of parent: Int, _ piece: ByteRange, isLast: Bool, _ rule: SlotRule, _ slotCount: Int) -> Int {
        let mix = (UInt64(parent) << 1 | (isLast ? 1 : 0)) &* 0x9e37_79b9_7f4a_7c15
        let hash = UInt64(bytes.hash(piece) ^ UInt32(truncatingIfNeeded: mix >> 32))
        var mask = table.count - 1
        var at = Int(hash) & mask
        while table[at] != 0 {
            let node = Int(table[at] & 0xffff_ffff)
            if table[at] >> 32 == hash, nodes[node].parent == parent, (nodes[node].shape >= 0) == isLast, bytes.isSame(nodes[node].piece, piece) { return node }
            at = (at + 1) & mask
        }
        if nodes.count * 2 >= table.count {
            table = doubledSlots(table)
            mask = table.count - 1
            at = Int(hash) & mask
            while table[at] != 0 { at = (at + 1) & mask }
        }
        table[at] = hash << 32 | UInt64(nodes.count)
        nodes.append(Node(piece: piece, parent: UInt32(parent), shape: isLast ? Int32(shapes.count) : -1))
        if isLast { shapes.append(Shape(rule: rule, last: UInt32(nodes.count - 1), slotCount: slotCount)) }
        return nodes.count - 1
    }
}

/// Texts cut into shapes: which has which, and where its slots lie.
struct ShapedRows: ~Copyable {
    /// Texts of shapes with fewer rows are tried again with every word a slot.
    private static let shapeRowsMin = 4
    private(set) var table: ShapeTable
    /// Of each row, a number from 0 in the order they first came.
    private(set) var shapeOf: Buffer<UInt32>
    /// Of each row, the first of its slots in the table.
    private(set) var firstSlot: Buffer<UInt32>
    /// Shapes that have rows, as the table numbers them, and the first row of each.
    private(set) var shapes: [Int] = []
    private(set) var firstRow: [Int] = []
    private(set) var slotCount = 0

    /// Cuts every text, those whose shape is rare once more and finer, and those still alone stay whole.
    init(_ values: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes, _ rule: TextRules) {
        table = ShapeTable(bytes, rows: values.count)
        shapeOf = Buffer(repeating: 0, count: values.count)
        firstSlot = Buffer(repeating: 0, count: values.count)
        let classes = ByteClass.table
        for (row, value) in values.enumerated() {
            firstSlot[row] = UInt32(table.slots.count)
            shapeOf[row] = UInt32(table.add(value, Self.slotRule(rule, value, bytes), classes))
        }
        if rule == .lines || rule == .words {
            var rare = values.indices.filter { table.rows(Int(shapeOf[$0])) < Self.shapeRowsMin }
            for rule in [SlotRule.allWords, .head, .whole] where !rare.isEmpty {
                for row in rare {
                    firstSlot[row] = UInt32(table.slots.count)
                    shapeOf[row] = UInt32(table.add(values[row], rule, classes))
                }
                rare = rare.filter { table.rows(Int(shapeOf[$0])) < Self.shapeRowsMin }
            }
        }
        number()
    }

    private mutating func number() {
        var numbers = [Int32](repeating: -1, count: table.count)
        for row in 0..<shapeOf.count {
            let shape = Int(shapeOf[row])
            if numbers[shape] < 0 {
                numbers[shape] = Int32(shapes.count)
                shapes.append(shape)
                firstRow.append(row)
                slotCount += table.slotCount(shape) * table.rows(shape)
            }
            shapeOf[row] = UInt32(numbers[shape])
        }
    }

    /// What slots of different shapes have in common when their values are likely to be of a kind: their place among the first few, where a date is, and the
    /// characters of a value.
    func likeness(_ slot: Int, at place: Int) -> Int {
        var kinds: UInt8 = 0
        for at in table.slots[slot].range.prefix(64) { kinds |= ByteClass.table[Int(table.bytes[at])] }
        let kind = kinds & (ByteClass.dot | ByteClass.minus) != 0 ? 3 : kinds & ByteClass.digit == 0 ? 0 : kinds & ByteClass.letter == 0 ? 1 : 2
        return min(place, 6) * 4 + kind
    }

    private static func slotRule(_ rule: TextRules, _ value: ByteRange, _ bytes: TextBytes) -> SlotRule {
        switch rule {
        case .lines:
            value.count > 1 && bytes[Int(value.offset)] == UInt8(ascii: "{") && bytes[value.range.upperBound - 1] == UInt8(ascii: "}") ? .json : .words
        case .attributes: .attributes
        case .events: .events
        case .links: .links
        case .words: .words
        case .runs, .none: .runs
        }
    }
}

/// Which column each slot of each shape belongs to, and what is in the columns.
struct ShapeColumns: ~Copyable {
    private(set) var count = 0
    /// Columns of all shapes' slots, and where those of each shape begin.
    private var columns: [UInt32] = []
    private var firstColumn: [Int] = [0]
    /// What is known of the values in a column beforehand.
    private var kinds: [ValueKind] = []
    private var ends: [Int] = []
    private var slots = Buffer<ByteRange>()
    private var rowOfSlot = Buffer<UInt32>()
    private let hasRows: Bool

    /// - Parameters:
    ///   - rows: of the texts, where they have times: of each as the caller counts them.
    ///   - ownColumnRows: shapes of fewer rows have no columns of their own.
    init(_ shaped: borrowing ShapedRows, rows rowOf: UnsafeBufferPointer<UInt32>?, ownColumnRows: Int, columnsMax: Int) {
        hasRows = rowOf != nil
        assign(shaped, ownColumnRows, columnsMax)
        var next = [Int](repeating: 0, count: count + 1)
        for (shape, number) in shaped.shapes.enumerated() {
            for column in columns[firstColumn[shape]..<firstColumn[shape + 1]] { next[Int(column) + 1] += shaped.table.rows(number) }
        }
        for column in 0..<count { next[column + 1] += next[column] }
        ends = Array(next[1...])
        slots.resize(shaped.slotCount)
        if hasRows { rowOfSlot.resize(shaped.slotCount) }
        next.withUnsafeMutableBufferPointer { next in
            columns.withUnsafeBufferPointer { columns in
                firstColumn.withUnsafeBufferPointer { firstColumn in
                    for row in 0..<shaped.shapeOf.count {
                        let shape = Int(shaped.shapeOf[row])
                        var slot = Int(shaped.firstSlot[row])
                        for place in firstColumn[shape]..<firstColumn[shape &+ 1] {
                            let column = Int(columns[place])
                            let at = next[column]
                            next[column] = at &+ 1
                            slots[at] = shaped.table.slots[slot]
                            if let rowOf { rowOfSlot[at] = rowOf[row] }
                            slot &+= 1
                        }
                    }
                }
            }
        }
    }

    /// What is in a column, and the row of each value where rows have times. For as long as this is there.
    func values(_ column: Int) -> (values: UnsafeBufferPointer<ByteRange>, rows: UnsafeBufferPointer<UInt32>?) {
        let range = (column == 0 ? 0 : ends[column - 1])..<ends[column]
        return (UnsafeBufferPointer(rebasing: slots.all[range]), hasRows ? UnsafeBufferPointer(rebasing: rowOfSlot.all[range]) : nil)
    }

    func kind(_ column: Int) -> ValueKind { kinds[column] }

    /// The column of a shape's slot.
    func column(_ shape: Int, _ slot: Int) -> Int { Int(columns[firstColumn[shape] + slot]) }

    func encodedShapes(_ shaped: borrowing ShapedRows) -> [UInt8] {
        var bytes: [UInt8] = []
        for (shape, number) in shaped.shapes.enumerated() {
            let pieces = shaped.table.pieces(number)
            bytes.appendVarint(UInt64(pieces.count - 1))
            for (slot, (column, piece)) in zip(columns[firstColumn[shape]..<firstColumn[shape + 1]], pieces).enumerated() {
                let hasLength = shaped.table.rule(number).hasLength(slot: slot, type: piece.last ?? 0)
                bytes.appendVarint(UInt64(column) << 1 | (hasLength ? 1 : 0))
            }
            for piece in pieces { bytes.appendVarint(UInt64(piece.count)) }
            for piece in pieces { bytes.append(contentsOf: piece) }
        }
        return bytes
    }

    private mutating func assign(_ shaped: borrowing ShapedRows, _ ownColumnRows: Int, _ columnsMax: Int) {
        var fields = ByteInterner()
        var columnOfField: [UInt32] = []
        var rest: UInt32?
        var wholes: UInt32?
        var alike: [Int: UInt32] = [:]
        for (shape, number) in shaped.shapes.enumerated() {
            switch shaped.table.rule(number) {
            case .json, .attributes, .events, .links:
                for slot in slotFields(shaped.table.rule(number), shaped.table.pieces(number)) {
                    let field = fields.intern(slot.name)
                    if field == columnOfField.count { columnOfField.append(fresh(slot.kind, columnsMax) ?? shared(&rest)) }
                    columns.append(columnOfField[field])
                }
            case .whole:
                for _ in 0..<shaped.table.slotCount(number) {
                    let column = wholes ?? fresh(.text, columnsMax) ?? shared(&rest)
                    wholes = column
                    columns.append(column)
                }
            case .words, .allWords, .runs, .head:
                if shaped.table.rows(number) >= ownColumnRows {
                    for _ in 0..<shaped.table.slotCount(number) { columns.append(fresh(.text, columnsMax) ?? shared(&rest)) }
                    break
                }
                let firstSlot = Int(shaped.firstSlot[shaped.firstRow[shape]])
                for slot in 0..<shaped.table.slotCount(number) {
                    let key = shaped.likeness(firstSlot + slot, at: slot)
                    let column = alike[key] ?? fresh(.text, columnsMax) ?? shared(&rest)
                    alike[key] = column
                    columns.append(column)
                }
            }
            firstColumn.append(columns.count)
        }
    }

    private mutating func fresh(_ kind: ValueKind, _ columnsMax: Int) -> UInt32? {
        guard count < columnsMax else { return nil }
        count += 1
        kinds.append(kind)
        return UInt32(count - 1)
    }

    /// The column of all that have none of their own. Past the bound, once.
    private mutating func shared(_ rest: inout UInt32?) -> UInt32 {
        if let rest { return rest }
        count += 1
        kinds.append(.text)
        rest = UInt32(count - 1)
        return UInt32(count - 1)
    }
}

/// Slots of different shapes that have one name have one column.
private func slotFields(_ rule: SlotRule, _ pieces: [UnsafeRawBufferPointer]) -> [(name: [UInt8], kind: ValueKind)] {
    let each: [ValueKind]
    switch rule {
    case .json: return jsonFields(pieces)
    case .attributes: return attributeFields(pieces)
    case .events: each = [.instant, .text, .attributes]
    case .links: each = [.opaque, .int64, .text, .attributes]
    default: return []
    }
    return (0..<pieces.count - 1).map { ([UInt8($0 % each.count)], each[$0 % each.count]) }
}

/// The name of each slot of a JSON shape: its key, with a mark for strings; elements of an array have the name of what is before them.
private func jsonFields(_ pieces: [UnsafeRawBufferPointer]) -> [(name: [UInt8], kind: ValueKind)] {
    var name: [UInt8] = []
    return pieces.dropLast().map { piece in
        if let colon = piece.lastIndex(of: UInt8(ascii: ":")), colon > 0, piece[colon - 1] == UInt8(ascii: "\"") {
            let start = piece[..<(colon - 1)].lastIndex(of: UInt8(ascii: "\"")).map { $0 + 1 } ?? 0
            name = Array(piece[start..<(colon - 1)])
        }
        return (name + [piece.last == UInt8(ascii: "\"") ? 1 : 0], .text)
    }
}

/// The name of each slot of an attribute list: its key and type.
private func attributeFields(_ pieces: [UnsafeRawBufferPointer]) -> [(name: [UInt8], kind: ValueKind)] {
    pieces.dropLast().map { piece in (Array(piece), ValueKind(attributeType: piece.last ?? 0)) }
}
