internal import ObsCore

/// The shapes of a column, and which of them each row has.
final class TextShapes: @unchecked Sendable {  // nothing changes once it is made; the pieces are of a stream that lives as long as the view
    /// Values of one column, or of all columns of the shapes, at most: a forged column of few bytes could be of any size. A block's rows at most with all slots they can have.
    static let valuesMax = 1 << 23

    struct Shape {
        /// In `slots`.
        var slots: Range<Int>
        /// In `pieces`, one more than slots.
        var firstPiece: Int
    }
    struct Slot {
        var column: UInt32
        var hasLength: Bool
    }
    /// Which rows a column's values are of.
    struct Places {
        /// Of each value; empty when every row has just one.
        var rows: [UInt32]
        /// Of each value, the slot within its shape; empty when no shape has more than one of the column.
        var slots: [UInt8]
    }

    let shapes: [Shape]
    let slots: [Slot]
    /// In `bytes`.
    let pieces: [Range<Int>]
    let bytes: UnsafeRawBufferPointer
    let shapeOf: [UInt32]
    let rowsOfShape: [Int]
    /// Values of each column.
    let counts: [Int]
    /// Whether a shape has more than one slot of the column.
    let isShared: [Bool]

    init(_ bytes: UnsafeRawBufferPointer, shapeCount: Int, columnCount: Int, shapeOf: [UInt32]) throws(ObsError) {
        self.bytes = bytes
        self.shapeOf = shapeOf
        var cursor = ByteCursor(bytes)
        var shapes: [Shape] = []
        var slots: [Slot] = []
        var pieces: [Range<Int>] = []
        for _ in 0..<shapeCount {
            let count = try cursor.count(max: Slots.max)
            let firstSlot = slots.count
            for _ in 0..<count {
                let tagged = try cursor.count(max: columnCount * 2)
                guard tagged >> 1 < columnCount else { throw ObsError(.corrupt, "slot in column \(tagged >> 1) of \(columnCount)") }
                slots.append(Slot(column: UInt32(tagged >> 1), hasLength: tagged & 1 == 1))
            }
            let firstPiece = pieces.count
            for _ in 0...count { pieces.append(0..<(try cursor.count(max: bytes.count))) }
            for piece in firstPiece..<pieces.count {
                let start = cursor.position
                _ = try cursor.take(pieces[piece].count)
                pieces[piece] = start..<cursor.position
            }
            shapes.append(Shape(slots: firstSlot..<slots.count, firstPiece: firstPiece))
        }
        try cursor.expectEnd()
        var rowsOfShape = [Int](repeating: 0, count: shapeCount)
        for shape in shapeOf { rowsOfShape[Int(shape)] += 1 }
        var counts = [Int](repeating: 0, count: columnCount)
        var isShared = [Bool](repeating: false, count: columnCount)
        var lastShape = [Int](repeating: -1, count: columnCount)
        var values = 0
        for (number, shape) in shapes.enumerated() {
            for slot in slots[shape.slots] {
                let column = Int(slot.column)
                counts[column] += rowsOfShape[number]
                if lastShape[column] == number { isShared[column] = true }
                lastShape[column] = number
            }
            values += rowsOfShape[number] * shape.slots.count
            guard values <= Self.valuesMax else { throw ObsError(.corrupt, "more than \(Self.valuesMax) values in slots") }
        }
        guard !counts.contains(0) else { throw ObsError(.corrupt, "column of no rows") }
        self.shapes = shapes
        self.slots = slots
        self.pieces = pieces
        self.rowsOfShape = rowsOfShape
        self.counts = counts
        self.isShared = isShared
    }

    var byteSize: Int { shapeOf.count * 4 + slots.count * 8 + pieces.count * 16 + counts.count * 16 + 400 }

    func piece(_ shape: Int, _ index: Int) -> Range<Int> { pieces[shapes[shape].firstPiece + index] }

    func places(_ column: Int) -> Places {
        /// Slots of the column in each shape.
        var slotsOf = [[UInt8]](repeating: [], count: shapes.count)
        var first = [UInt8](repeating: 0, count: shapes.count)
        for (number, shape) in shapes.enumerated() {
            for (index, slot) in slots[shape.slots].enumerated() where Int(slot.column) == column {
                slotsOf[number].append(UInt8(index))
                first[number] += 1
            }
        }
        if !isShared[column] {
            if counts[column] == shapeOf.count { return Places(rows: [], slots: []) }
            let rows = [UInt32](unsafeUninitializedCapacity: counts[column] + 1) { rows, filled in
                var at = 0
                for (row, shape) in shapeOf.enumerated() {
                    rows[at] = UInt32(truncatingIfNeeded: row)
                    at &+= Int(first[Int(shape)])
                }
                filled = at
            }
            return Places(rows: rows, slots: [])
        }
        var places = Places(rows: [], slots: [])
        places.rows.reserveCapacity(counts[column])
        places.slots.reserveCapacity(counts[column])
        for (row, shape) in shapeOf.enumerated() where first[Int(shape)] > 0 {
            for slot in slotsOf[Int(shape)] {
                places.rows.append(UInt32(row))
                places.slots.append(slot)
            }
        }
        return places
    }
}

/// Rows of a column, and when they were.
struct ColumnRows {
    indirect enum Times {
        case none
        case rows([Int64])
        case column(Int, TextShapes, Times)

        func resolved() -> [Int64]? {
            switch self {
            case .none: return nil
            case .rows(let times): return times
            case .column(let column, let shapes, let above):
                guard let times = above.resolved() else { return nil }
                let places = shapes.places(column)
                return places.rows.isEmpty ? times : places.rows.map { times[Int($0)] }
            }
        }
    }
    var count: Int
    var times: Times

    func column(_ column: Int, of shapes: TextShapes) -> ColumnRows {
        if case .none = times { return ColumnRows(count: shapes.counts[column], times: .none) }
        return ColumnRows(count: shapes.counts[column], times: .column(column, shapes, times))
    }
}
