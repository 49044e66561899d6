internal import ObsCore

/// Reads a column; counterpart of `TextColumnWriter`.
struct TextColumnReader {
    private let streams: StreamReader
    private var nextStream = 1
    /// What the buffer may come to.
    private let bytesMax: Int

    init(streams: StreamReader, bytesMax: Int) {
        self.streams = streams
        self.bytesMax = min(bytesMax, Int(UInt32.max))
    }

    func expectEnd() throws(ObsError) {
        if nextStream != streams.count { throw ObsError(.corrupt, "\(streams.count - nextStream) streams too many") }
    }

    private mutating func stream() throws(ObsError) -> [UInt8] {
        nextStream += 1
        return try streams.stream(nextStream - 1)
    }

    private mutating func integers(_ count: Int) throws(ObsError) -> [Int64] {
        let bytes = try stream()
        return try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> [Int64] in
            let numbers = try IntegerCodec.decode(&cursor, count: count)
            try cursor.expectEnd()
            return numbers
        }
    }

    /// Numbers below `limit`.
    private mutating func indices(_ count: Int, below limit: Int) throws(ObsError) -> [Int64] {
        let numbers = try integers(count)
        guard numbers.allSatisfy({ $0 >= 0 && $0 < limit }) else { throw ObsError(.corrupt, "index past \(limit)") }
        return numbers
    }

    private func room(_ bytes: [UInt8], for more: Int) throws(ObsError) {
        guard more <= bytesMax - bytes.count else { throw ObsError(.corrupt, "texts of more than \(bytesMax) bytes") }
    }

    mutating func column(
        _ plan: inout ByteCursor, count: Int, times: [Int64], depth: Int, into bytes: inout [UInt8]
    ) throws(ObsError) -> [ByteRange] {
        if count == 0 { return [] }
        guard depth <= TextColumn.depthMax else { throw ObsError(.corrupt, "columns nested deeper than \(TextColumn.depthMax)") }
        let tag = try plan.u8()
        guard let form = TextColumn.Form(rawValue: tag) else { throw ObsError(.corrupt, "unknown text encoding \(tag)") }
        switch form {
        case .constant:
            let text = try plan.text()
            try room(bytes, for: text.count)
            return [ByteRange](repeating: bytes.intern(text), count: count)
        case .plain: return try plain(count, into: &bytes)
        case .dictionary:
            let distinct = try plan.count(max: count)
            let texts = try column(&plan, count: distinct, times: [], depth: depth + 1, into: &bytes)
            return try indices(count, below: distinct).map { texts[Int($0)] }
        case .integers:
            let format = IntegerText(width: try plan.count(max: IntegerText.digitsMax))
            let numbers = try integers(count)
            return try printed(numbers, into: &bytes, bytesEach: 20) { format.append($0, to: &$1) }
        case .decimals:
            let scale = try plan.count(max: DecimalText.scaleMax)
            guard let ending = DecimalText.Ending(rawValue: try plan.u8()) else { throw ObsError(.corrupt, "unknown ending of decimals") }
            let format = DecimalText(scale: scale, ending: ending)
            let numbers = try integers(count)
            return try printed(numbers, into: &bytes, bytesEach: 32) { format.append($0, to: &$1) }
        case .hex: return try hex(&plan, count, into: &bytes)
        case .times:
            let format = TimeText(digits: try plan.count(max: 9))
            guard times.count == count else { throw ObsError(.corrupt, "times of rows without a time") }
            var numbers = try integers(count)
            for row in 0..<count { numbers[row] &+= format.number(ofNanos: times[row]) }
            return try printed(numbers, into: &bytes, bytesEach: 40) { format.append($0, to: &$1) }
        case .int64:
            let numbers = try integers(count)
            return try printed(numbers, into: &bytes, bytesEach: 8) { $1.appendLittleEndian($0) }
        case .float64:
            let stream = try stream()
            let numbers = try decoding(stream) { (cursor: inout ByteCursor) throws(ObsError) -> [Double] in
                let numbers = try FloatCodec.decode(&cursor, count: count)
                try cursor.expectEnd()
                return numbers
            }
            return try printed(numbers.map { Int64(bitPattern: $0.bitPattern) }, into: &bytes, bytesEach: 8) { $1.appendLittleEndian($0) }
        case .clock:
            guard let part = ClockText.Part(rawValue: try plan.u8()) else { throw ObsError(.corrupt, "unknown part of a time") }
            let clock = ClockText(part: part, digits: try plan.count(max: 9))
            let integer = IntegerText(width: try plan.count(max: IntegerText.digitsMax))
            let decimal = DecimalText(scale: try plan.count(max: DecimalText.scaleMax), ending: .fixed)
            guard times.count == count else { throw ObsError(.corrupt, "times of rows without a time") }
            var numbers = try integers(count)
            for row in 0..<count { numbers[row] &+= clock.number(ofNanos: times[row]) }
            return try printed(numbers, into: &bytes, bytesEach: 32) { decimal.scale == 0 ? integer.append($0, to: &$1) : decimal.append($0, to: &$1) }
        case .shapes: return try shapes(&plan, count, times, depth, into: &bytes)
        }
    }

    private mutating func plain(_ count: Int, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        let lengths = try integers(count)
        let all = try stream()
        try room(bytes, for: all.count)
        var start = bytes.count
        bytes.append(contentsOf: all)
        var ranges: [ByteRange] = []
        ranges.reserveCapacity(count)
        for length in lengths {
            guard length >= 0, length <= Int64(bytes.count - start) else { throw ObsError(.corrupt, "text of \(length) bytes past the end") }
            ranges.append(ByteRange(offset: UInt32(start), count: UInt32(length)))
            start += Int(length)
        }
        guard start == bytes.count else { throw ObsError(.corrupt, "\(bytes.count - start) bytes of no text") }
        return ranges
    }

    private func printed(
        _ numbers: [Int64], into bytes: inout [UInt8], bytesEach: Int, _ print: (Int64, inout [UInt8]) -> Void
    ) throws(ObsError) -> [ByteRange] {
        try room(bytes, for: numbers.count * bytesEach)
        var ranges: [ByteRange] = []
        ranges.reserveCapacity(numbers.count)
        for number in numbers {
            let start = bytes.count
            print(number, &bytes)
            ranges.append(ByteRange(offset: UInt32(start), count: UInt32(bytes.count - start)))
        }
        return ranges
    }

    private mutating func hex(_ plan: inout ByteCursor, _ count: Int, into bytes: inout [UInt8]) throws(ObsError) -> [ByteRange] {
        let format = HexText(digits: try plan.count(max: HexText.digitsMax), isUpper: try plan.u8() != 0)
        let packed = try stream()
        guard packed.count == count * format.byteCount else { throw ObsError(.corrupt, "\(packed.count) bytes of hexadecimal digits") }
        try room(bytes, for: count * format.digits)
        return packed.withUnsafeBytes { packed in
            (0..<count).map { row in
                let start = bytes.count
                format.append(UnsafeRawBufferPointer(rebasing: packed[row * format.byteCount..<(row + 1) * format.byteCount]), to: &bytes)
                return ByteRange(offset: UInt32(start), count: UInt32(format.digits))
            }
        }
    }

    // MARK: Shapes

    /// Shapes of a column, as stored.
    private struct Shapes {
        struct Shape {
            /// In `columns`, of its slots.
            var columns: Range<Int>
            /// In `pieces`, one more than slots.
            var pieces: Range<Int>
        }
        var shapes: [Shape] = []
        var columns: [Int] = []
        /// Beside `columns`.
        var hasLength: [Bool] = []
        /// In the stream.
        var pieces: [Range<Int>] = []

        init(_ stream: [UInt8], count: Int, columnCount: Int) throws(ObsError) {
            var made = (shapes: [Shape](), columns: [Int](), hasLength: [Bool](), pieces: [Range<Int>]())
            try decoding(stream) { (cursor: inout ByteCursor) throws(ObsError) in
                for _ in 0..<count {
                    let slots = try cursor.count(max: Slots.max)
                    let firstColumn = made.columns.count
                    for _ in 0..<slots {
                        let tagged = try cursor.count(max: columnCount * 2)
                        let column = tagged >> 1
                        made.hasLength.append(tagged & 1 == 1)
                        guard column < columnCount else { throw ObsError(.corrupt, "slot in column \(column) of \(columnCount)") }
                        made.columns.append(column)
                    }
                    let firstPiece = made.pieces.count
                    for _ in 0...slots { made.pieces.append(0..<(try cursor.count(max: stream.count))) }
                    for piece in firstPiece..<made.pieces.count {
                        let start = cursor.position
                        _ = try cursor.take(made.pieces[piece].count)
                        made.pieces[piece] = start..<cursor.position
                    }
                    made.shapes.append(Shape(columns: firstColumn..<made.columns.count, pieces: firstPiece..<made.pieces.count))
                }
                try cursor.expectEnd()
            }
            (shapes, columns, hasLength, pieces) = made
        }
    }

    private mutating func shapes(
        _ plan: inout ByteCursor, _ count: Int, _ times: [Int64], _ depth: Int, into bytes: inout [UInt8]
    ) throws(ObsError) -> [ByteRange] {
        let shapeCount = try plan.count(max: count)
        let columnCount = try plan.count(max: count * Slots.max)
        let statics = try stream()
        let shapes = try Shapes(statics, count: shapeCount, columnCount: columnCount)
        let shapeOf = try indices(count, below: shapeCount)
        var rowCounts = [Int](repeating: 0, count: columnCount)
        var rowsOfShape = [Int](repeating: 0, count: shapeCount)
        for shape in shapeOf { rowsOfShape[Int(shape)] += 1 }
        for (shape, rows) in zip(shapes.shapes, rowsOfShape) { for column in shapes.columns[shape.columns] { rowCounts[column] += rows } }
        let timesOf = times.isEmpty ? [] : columnTimes(times, shapes, shapeOf, rowCounts)
        // Values are put together from a buffer of their own: it goes when they are.
        var parts: [UInt8] = []
        var values: [[ByteRange]] = []
        values.reserveCapacity(columnCount)
        for column in 0..<columnCount {
            let times = timesOf.isEmpty ? [] : timesOf[column]
            values.append(try self.column(&plan, count: rowCounts[column], times: times, depth: depth + 1, into: &parts))
        }
        return try composed(shapes, statics, shapeOf, values, parts, into: &bytes)
    }

    private func columnTimes(_ times: [Int64], _ shapes: Shapes, _ shapeOf: [Int64], _ rowCounts: [Int]) -> [[Int64]] {
        var timesOf = rowCounts.map { count -> [Int64] in
            var column: [Int64] = []
            column.reserveCapacity(count)
            return column
        }
        for (row, shape) in shapeOf.enumerated() { for column in shapes.columns[shapes.shapes[Int(shape)].columns] { timesOf[column].append(times[row]) } }
        return timesOf
    }

    private func composed(
        _ shapes: Shapes, _ statics: [UInt8], _ shapeOf: [Int64], _ values: [[ByteRange]], _ parts: [UInt8], into bytes: inout [UInt8]
    ) throws(ObsError) -> [ByteRange] {
        var next = [Int](repeating: 0, count: values.count)
        var ranges: [ByteRange] = []
        ranges.reserveCapacity(shapeOf.count)
        for shapeNumber in shapeOf {
            let shape = shapes.shapes[Int(shapeNumber)]
            let start = bytes.count
            for index in 0..<shape.columns.count {
                let column = shapes.columns[shape.columns.lowerBound + index]
                let value = values[column][next[column]]
                next[column] += 1
                bytes.append(contentsOf: statics[shapes.pieces[shape.pieces.lowerBound + index]])
                if shapes.hasLength[shape.columns.lowerBound + index] { bytes.appendVarint(UInt64(value.count)) }
                bytes.append(contentsOf: parts[value.range])
            }
            bytes.append(contentsOf: statics[shapes.pieces[shape.pieces.upperBound - 1]])
            guard bytes.count <= bytesMax else { throw ObsError(.corrupt, "texts of more than \(bytesMax) bytes") }
            ranges.append(ByteRange(offset: UInt32(start), count: UInt32(bytes.count - start)))
        }
        return ranges
    }
}
