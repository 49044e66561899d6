// Puts texts together again: column by column, the innermost first, each value straight to where it belongs. Every column is asked for those of its values only
// that the wanted rows have; a column none of them has is not even decompressed.
internal import Glibc
internal import ObsCore

/// Values of a column, as they are stored or printed.
struct TextValues {
    enum Form {
        case constant
        /// Back to back from `bytes`, each beginning where `starts` says, one more than values.
        case plain
        /// Anywhere in `bytes`.
        case ranges
        case numbers(NumberText)
        case hex(HexText)
    }
    var form: Form
    var count: Int
    /// Of all values, at most.
    var bytesMax: Int
    var bytes: UnsafePointer<UInt8>
    var constantCount = 0
    var starts: UnsafePointer<UInt32>?
    var ranges: UnsafePointer<ByteRange>?
    var numbers: UnsafePointer<Int64>?

    /// Copies or prints a value; gives its bytes.
    @inline(__always)
    func put(_ index: Int, at target: UnsafeMutablePointer<UInt8>) -> Int {
        switch form {
        case .constant:
            memcpy(target, bytes, constantCount)
            return constantCount
        case .plain:
            guard let starts else { return 0 }
            let start = Int(starts[index])
            let count = Int(starts[index &+ 1]) &- start
            memcpy(target, bytes + start, count)
            return count
        case .ranges:
            guard let ranges else { return 0 }
            let range = ranges[index]
            memcpy(target, bytes + Int(range.offset), Int(range.count))
            return Int(range.count)
        case .numbers(let format):
            guard let numbers else { return 0 }
            return format.put(numbers[index], at: target)
        case .hex(let format): return format.put(bytes + index &* format.byteCount, at: target)
        }
    }
}

/// One call's work on a view.
final class TextComposer {
    let view: TextView
    let arena = TextArena()

    init(_ view: TextView) { self.view = view }

    typealias Picks = UnsafeBufferPointer<UInt32>

    private func pointer(_ bytes: UnsafeRawBufferPointer) -> UnsafePointer<UInt8> {
        bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? UnsafePointer(arena.array(of: UInt8.self, count: 1).baseAddress ?? .allocate(capacity: 1))
    }

    /// All numbers of a stream.
    func integers(_ stream: Int, count: Int) throws(ObsError) -> UnsafeMutableBufferPointer<Int64> {
        let bytes = try view.streams.stream(stream)
        var cursor = ByteCursor(bytes)
        let numbers = arena.array(of: Int64.self, count: count)
        numbers.initialize(repeating: 0)
        try IntegerCodec.decode(&cursor, into: numbers)
        try cursor.expectEnd()
        return numbers
    }

    func indices(_ stream: Int, count: Int, below limit: Int) throws(ObsError) -> UnsafeMutableBufferPointer<Int64> {
        let numbers = try integers(stream, count: count)
        var all: UInt64 = 0
        for number in numbers { all = max(all, UInt64(bitPattern: number)) }
        guard count == 0 || all < UInt64(limit) else { throw ObsError(.corrupt, "index past \(limit)") }
        return numbers
    }

    /// Starts of the texts of a plain column, one more than texts.
    func starts(_ stream: Int, count: Int, bytes: Int) throws(ObsError) -> UnsafeMutablePointer<UInt32> {
        let lengths = try integers(stream, count: count)
        guard let starts = arena.array(of: UInt32.self, count: count + 1).baseAddress, bytes <= Int(UInt32.max) else {
            throw ObsError(.corrupt, "texts of \(bytes) bytes")
        }
        var start = 0
        for (row, length) in lengths.enumerated() {
            guard length >= 0, length <= Int64(bytes &- start) else { throw ObsError(.corrupt, "text of \(length) bytes past the end") }
            starts[row] = UInt32(truncatingIfNeeded: start)
            start &+= Int(length)
        }
        starts[count] = UInt32(truncatingIfNeeded: start)
        guard start == bytes else { throw ObsError(.corrupt, "\(bytes - start) bytes of no text") }
        return starts
    }

    /// - Parameter picks: values wanted, ascending; nil for all.
    func values(_ node: TextNode, _ rows: ColumnRows, _ picks: Picks?) throws(ObsError) -> TextValues {
        let count = picks?.count ?? rows.count
        switch node.form {
        case .constant(let range):
            let bytes = UnsafeRawBufferPointer(rebasing: try view.streams.stream(0)[range])
            return TextValues(form: .constant, count: count, bytesMax: try total(range.count, count), bytes: pointer(bytes), constantCount: range.count)
        case .plain(let lengths, let stream):
            let bytes = try view.streams.stream(stream)
            let starts = try starts(lengths, count: rows.count, bytes: bytes.count)
            guard let picks else { return TextValues(form: .plain, count: count, bytesMax: bytes.count, bytes: pointer(bytes), starts: starts) }
            let ranges = arena.array(of: ByteRange.self, count: count)
            var total = 0
            for (index, pick) in picks.enumerated() {
                let (start, end) = (starts[Int(pick)], starts[Int(pick) + 1])
                ranges[index] = ByteRange(offset: start, count: end - start)
                total += Int(end - start)
            }
            return TextValues(form: .ranges, count: count, bytesMax: total, bytes: pointer(bytes), ranges: ranges.baseAddress)
        case .dictionary(let texts, let distinct, let stream): return try dictionary(texts, distinct, stream, rows, picks)
        case .number(let format, let stream):
            let numbers = try numbers(format, stream, rows)
            if let picks { for (index, pick) in picks.enumerated() { numbers[index] = numbers[Int(pick)] } }
            guard let base = numbers.baseAddress else { throw ObsError(.corrupt, "column of no rows") }
            let bytesMax = try total(format.bytesMax(numbers.prefix(count)), count)
            if case .time(let time) = format { return times(time, UnsafeBufferPointer(rebasing: numbers.prefix(count))) }
            return TextValues(form: .numbers(format), count: count, bytesMax: bytesMax, bytes: pointer(.init(start: nil, count: 0)), numbers: base)
        case .hex(let format, let stream):
            let packed = try hex(format, stream, rows)
            let bytesMax = try total(format.digits, count)
            guard let picks else { return TextValues(form: .hex(format), count: count, bytesMax: bytesMax, bytes: pointer(packed)) }
            let picked = arena.array(of: UInt8.self, count: count * format.byteCount)
            for (index, pick) in picks.enumerated() {
                for byte in 0..<format.byteCount { picked[index * format.byteCount + byte] = packed[Int(pick) * format.byteCount + byte] }
            }
            return TextValues(form: .hex(format), count: count, bytesMax: bytesMax, bytes: pointer(UnsafeRawBufferPointer(picked)))
        case .shapes: return try composed(node, rows, picks)
        }
    }

    private func times(_ format: TimeText, _ numbers: UnsafeBufferPointer<Int64>) -> TextValues {
        let printed = arena.array(of: UInt8.self, count: numbers.count * format.width)
        let starts = arena.array(of: UInt32.self, count: numbers.count + 1)
        for row in 0...numbers.count { starts[row] = UInt32(truncatingIfNeeded: row &* format.width) }
        if let target = printed.baseAddress { format.put(numbers, at: target) }
        return TextValues(
            form: .plain, count: numbers.count, bytesMax: printed.count, bytes: pointer(UnsafeRawBufferPointer(printed)), starts: starts.baseAddress)
    }

    func hex(_ format: HexText, _ stream: Int, _ rows: ColumnRows) throws(ObsError) -> UnsafeRawBufferPointer {
        let packed = try view.streams.stream(stream)
        guard packed.count == rows.count * format.byteCount else { throw ObsError(.corrupt, "\(packed.count) bytes of hexadecimal digits") }
        return packed
    }

    private func total(_ each: Int, _ count: Int) throws(ObsError) -> Int {
        let (total, overflow) = each.multipliedReportingOverflow(by: count)
        guard !overflow, total <= view.bytesMax else { throw ObsError(.corrupt, "texts of more than \(view.bytesMax) bytes") }
        return total
    }

    /// As they are printed: the row's time is in them.
    func numbers(_ format: NumberText, _ stream: Int, _ rows: ColumnRows) throws(ObsError) -> UnsafeMutableBufferPointer<Int64> {
        if case .float64 = format {
            var cursor = ByteCursor(try view.streams.stream(stream))
            let floats = try FloatCodec.decode(&cursor, count: rows.count)
            try cursor.expectEnd()
            let numbers = arena.array(of: Int64.self, count: rows.count)
            for (row, float) in floats.enumerated() { numbers[row] = Int64(bitPattern: float.bitPattern) }
            return numbers
        }
        let numbers = try integers(stream, count: rows.count)
        guard format.needsTimes else { return numbers }
        guard let times = rows.times.resolved(), times.count == rows.count else { throw ObsError(.corrupt, "times of rows without a time") }
        switch format {
        case .time(let time): for row in 0..<rows.count { numbers[row] &+= time.number(ofNanos: times[row]) }
        case .clock(let clock, _, _): for row in 0..<rows.count { numbers[row] &+= clock.number(ofNanos: times[row]) }
        case .instant: for row in 0..<rows.count { numbers[row] &+= times[row] }
        default: break
        }
        return numbers
    }

    private func dictionary(_ texts: TextNode, _ distinct: Int, _ stream: Int, _ rows: ColumnRows, _ picks: Picks?) throws(ObsError) -> TextValues {
        guard distinct <= rows.count else { throw ObsError(.corrupt, "\(distinct) different texts of \(rows.count)") }
        let entries = try ranges(texts, ColumnRows(count: distinct, times: .none), nil)
        let indices = try indices(stream, count: rows.count, below: distinct)
        let count = picks?.count ?? rows.count
        let ranges = arena.array(of: ByteRange.self, count: count)
        var total = 0
        for index in 0..<count {
            let range = entries.ranges[Int(truncatingIfNeeded: indices[picks.map { Int($0[index]) } ?? index])]
            ranges[index] = range
            total &+= Int(range.count)
        }
        guard total <= view.bytesMax else { throw ObsError(.corrupt, "texts of more than \(view.bytesMax) bytes") }
        return TextValues(form: .ranges, count: count, bytesMax: total, bytes: entries.bytes, ranges: ranges.baseAddress)
    }

    /// Values as bytes.
    func ranges(
        _ node: TextNode, _ rows: ColumnRows, _ picks: Picks?
    ) throws(ObsError) -> (bytes: UnsafePointer<UInt8>, ranges: UnsafeMutableBufferPointer<ByteRange>) {
        let values = try values(node, rows, picks)
        if case .ranges = values.form, let ranges = values.ranges {
            return (values.bytes, UnsafeMutableBufferPointer(start: UnsafeMutablePointer(mutating: ranges), count: values.count))
        }
        let ranges = arena.array(of: ByteRange.self, count: values.count)
        if case .constant = values.form {
            ranges.initialize(repeating: ByteRange(offset: 0, count: UInt32(values.constantCount)))
            return (values.bytes, ranges)
        }
        if case .plain = values.form, let starts = values.starts {
            for row in 0..<values.count { ranges[row] = ByteRange(offset: starts[row], count: starts[row + 1] - starts[row]) }
            return (values.bytes, ranges)
        }
        guard let target = arena.array(of: UInt8.self, count: values.bytesMax).baseAddress else { throw ObsError(.corrupt, "no texts") }
        var at = 0
        for row in 0..<values.count {
            let count = values.put(row, at: target + at)
            ranges[row] = ByteRange(offset: UInt32(truncatingIfNeeded: at), count: UInt32(truncatingIfNeeded: count))
            at &+= count
        }
        return (UnsafePointer(target), ranges)
    }

    /// All values, back to back.
    func plain(_ node: TextNode, _ rows: ColumnRows) throws(ObsError) -> (bytes: UnsafeRawBufferPointer, starts: UnsafePointer<UInt32>) {
        let values = try values(node, rows, nil)
        if case .plain = values.form, let starts = values.starts {
            return (UnsafeRawBufferPointer(start: values.bytes, count: Int(starts[values.count])), starts)
        }
        guard let target = arena.array(of: UInt8.self, count: values.bytesMax).baseAddress,
            let starts = arena.array(of: UInt32.self, count: values.count + 1).baseAddress
        else { throw ObsError(.corrupt, "no texts") }
        var at = 0
        for row in 0..<values.count {
            starts[row] = UInt32(truncatingIfNeeded: at)
            at &+= values.put(row, at: target + at)
        }
        starts[values.count] = UInt32(truncatingIfNeeded: at)
        return (UnsafeRawBufferPointer(start: target, count: at), UnsafePointer(starts))
    }

    // MARK: Shapes

    private func composed(_ node: TextNode, _ rows: ColumnRows, _ picks: Picks?) throws(ObsError) -> TextValues {
        let parts = try parts(node, rows, picks)
        let count = picks?.count ?? rows.count
        guard let target = arena.array(of: UInt8.self, count: parts.bytesMax).baseAddress,
            let ranges = arena.array(of: ByteRange.self, count: count).baseAddress
        else { throw ObsError(.corrupt, "no texts") }
        let total = parts.put(picks, base: 0, target, ranges)
        return TextValues(form: .ranges, count: count, bytesMax: total, bytes: UnsafePointer(target), ranges: ranges)
    }

    /// What texts of shapes are put together from.
    func parts(_ node: TextNode, _ rows: ColumnRows, _ picks: Picks?) throws(ObsError) -> TextParts {
        guard case .shapes(_, _, _, let columns) = node.form else { preconditionFailure("BUG: a column of no shapes") }
        let shapes = try view.shapes(node, rows, arena: self)
        var values: [TextValues] = []
        values.reserveCapacity(columns.count)
        var bytesMax = 0
        let columnPicks = picks.map { self.picks($0, shapes, columns.count) }
        for (column, child) in columns.enumerated() {
            if let columnPicks, columnPicks[column].isEmpty {
                values.append(TextValues(form: .constant, count: 0, bytesMax: 0, bytes: pointer(.init(start: nil, count: 0))))
                continue
            }
            let made = try self.values(child, rows.column(column, of: shapes), columnPicks.map { $0[column] })
            bytesMax += made.bytesMax
            guard bytesMax <= view.bytesMax else { throw ObsError(.corrupt, "texts of more than \(view.bytesMax) bytes") }
            values.append(made)
        }
        // What stands around the values.
        let fixed = shapes.shapes.indices.map { shape in
            let slots = shapes.shapes[shape].slots
            let lengths = shapes.slots[slots].count { $0.hasLength }
            return (0...slots.count).reduce(lengths * 5) { $0 + shapes.piece(shape, $1).count }
        }
        var isTooLong = false
        func add(_ row: Int) {
            bytesMax &+= fixed[Int(shapes.shapeOf[row])]
            if bytesMax > view.bytesMax { isTooLong = true }
        }
        if let picks {
            for pick in picks { add(Int(pick)) }
        } else {
            for (shape, count) in shapes.rowsOfShape.enumerated() {
                let (bytes, overflow) = fixed[shape].multipliedReportingOverflow(by: count)
                guard !overflow, bytes <= view.bytesMax - bytesMax else { throw ObsError(.corrupt, "texts of more than \(view.bytesMax) bytes") }
                bytesMax += bytes
            }
        }
        if isTooLong { throw ObsError(.corrupt, "texts of more than \(view.bytesMax) bytes") }
        return TextParts(shapes: shapes, values: values, bytesMax: bytesMax, arena: arena)
    }

    /// The values of each column that the picked rows have.
    private func picks(_ picks: Picks, _ shapes: TextShapes, _ columns: Int) -> [Picks] {
        var next = [UInt32](repeating: 0, count: columns)
        var picked = [[UInt32]](repeating: [], count: columns)
        var row = 0
        for pick in picks {
            while row < Int(pick) {
                for slot in shapes.slots[shapes.shapes[Int(shapes.shapeOf[row])].slots] { next[Int(slot.column)] &+= 1 }
                row += 1
            }
            for slot in shapes.slots[shapes.shapes[Int(shapes.shapeOf[row])].slots] {
                picked[Int(slot.column)].append(next[Int(slot.column)])
                next[Int(slot.column)] &+= 1
            }
            row += 1
        }
        return picked.map { rows in
            let copy = arena.array(of: UInt32.self, count: rows.count)
            _ = copy.initialize(from: rows)
            return Picks(copy)
        }
    }
}

/// Shapes and the values for their slots.
struct TextParts {
    /// A piece and the value behind it.
    private struct Step {
        var piece: UInt32
        var pieceCount: UInt32
        /// None where the text ends.
        var column: Int32
        var hasLength: Bool
    }
    let shapes: TextShapes
    let values: [TextValues]
    let bytesMax: Int
    private let steps: UnsafeMutableBufferPointer<Step>
    private let arena: TextArena

    init(shapes: TextShapes, values: [TextValues], bytesMax: Int, arena: TextArena) {
        self.shapes = shapes
        self.values = values
        self.bytesMax = bytesMax
        self.arena = arena
        steps = arena.array(of: Step.self, count: shapes.pieces.count)
        for shape in shapes.shapes {
            for index in 0...shape.slots.count {
                let piece = shapes.pieces[shape.firstPiece + index]
                let slot = index < shape.slots.count ? shapes.slots[shape.slots.lowerBound + index] : nil
                steps[shape.firstPiece + index] = Step(
                    piece: UInt32(piece.lowerBound), pieceCount: UInt32(piece.count), column: slot.map { Int32($0.column) } ?? -1,
                    hasLength: slot?.hasLength ?? false)
            }
        }
    }

    /// Puts the texts of all rows or some together. Gives the bytes written.
    /// - Parameter base: where in the caller's buffer `target` is.
    func put(_ picks: UnsafeBufferPointer<UInt32>?, base: Int, _ target: UnsafeMutablePointer<UInt8>, _ ranges: UnsafeMutablePointer<ByteRange>) -> Int {
        let next = arena.array(of: Int.self, count: values.count)
        next.initialize(repeating: 0)
        let pieces = shapes.bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
        let count = picks?.count ?? shapes.shapeOf.count
        let firstPieces = arena.array(of: Int.self, count: shapes.shapes.count)
        for (shape, all) in shapes.shapes.enumerated() { firstPieces[shape] = all.firstPiece }
        return values.withUnsafeBufferPointer { values in
            shapes.shapeOf.withUnsafeBufferPointer { shapeOf in
                var at = 0
                for index in 0..<count {
                    let start = at
                    let row = picks.map { Int($0[index]) } ?? index
                    var step = firstPieces[Int(shapeOf[row])]
                    while true {
                        let (piece, column) = (steps[step], Int(steps[step].column))
                        if piece.pieceCount > 0, let pieces {
                            memcpy(target + at, pieces + Int(piece.piece), Int(piece.pieceCount))
                            at &+= Int(piece.pieceCount)
                        }
                        if column < 0 { break }
                        let value = next[column]
                        next[column] = value &+ 1
                        if piece.hasLength {
                            at &+= putWithLength(values[column], value, target + at)
                        } else {
                            at &+= values[column].put(value, at: target + at)
                        }
                        step &+= 1
                    }
                    ranges[index] = ByteRange(offset: UInt32(truncatingIfNeeded: base &+ start), count: UInt32(truncatingIfNeeded: at &- start))
                }
                return at
            }
        }
    }

    private func putWithLength(_ values: TextValues, _ index: Int, _ target: UnsafeMutablePointer<UInt8>) -> Int {
        let count = values.put(index, at: target + 5)
        var rest = count
        var size = 0
        while rest >= 0x80 {
            target[size] = UInt8(truncatingIfNeeded: rest) | 0x80
            rest >>= 7
            size += 1
        }
        target[size] = UInt8(rest)
        size += 1
        memmove(target + size, target + 5, count)
        return size + count
    }
}
