internal import ObsCore

/// Which slots a column's texts may be cut into, from coarse to fine.
enum TextRules {
    /// Lines: JSON objects, or words.
    case lines
    /// Attribute lists.
    case attributes
    /// Values of JSON.
    case words
    /// Words.
    case runs
    /// Runs: none.
    case none

    var finer: TextRules {
        switch self {
        case .lines, .attributes: .words
        case .words: .runs
        case .runs, .none: .none
        }
    }
}

struct TextColumnWriter {
    private let bytes: UnsafeRawBufferPointer
    private var plan: [UInt8] = []
    private var streams: [(bytes: [UInt8], planeBytes: Int)] = []
    private let level: Int
    private var slots = Slots()

    init(_ bytes: UnsafeRawBufferPointer, level: Int) {
        self.bytes = bytes
        self.level = level
    }

    consuming func finish(into output: inout [UInt8]) {
        var writer = StreamWriter(level: level)
        writer.add(plan)
        for stream in streams { writer.add(stream.bytes, planeBytes: stream.planeBytes) }
        writer.finish(into: &output)
    }

    private mutating func begin(_ form: TextColumn.Form) { plan.append(form.rawValue) }

    private mutating func integers(_ numbers: [Int64]) {
        var stream: [UInt8] = []
        let planeBytes = IntegerCodec.append(numbers, to: &stream)
        streams.append((stream, planeBytes))
    }

    private func text(_ range: ByteRange) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[range.range]) }

    // MARK: The choice

    mutating func column(_ values: [ByteRange], times: [Int64] = [], rule: TextRules, kind: ValueKind = .text) {
        guard let first = values.first else { return }
        let constant = text(first)
        if values.allSatisfy({ $0.count == first.count && ($0.offset == first.offset || compareBytes(text($0), constant) == 0) }) {
            begin(.constant)
            plan.appendText(constant)
            return
        }
        if kind != .text { return fixed(values, kind) }
        let repeats = Repetition(values, bytes)
        if repeats.isFew, dictionary(values, rule) { return }
        if numbers(values) { return }
        if !times.isEmpty, let (format, instants) = TimeText.parse(values, bytes) {
            begin(.times)
            plan.appendVarint(UInt64(format.digits))
            return integers(zip(instants, times).map { $0 &- format.number(ofNanos: $1) })
        }
        if let (format, packed) = HexText.parse(values, bytes) {
            begin(.hex)
            plan.appendVarint(UInt64(format.digits))
            plan.append(format.isUpper ? 1 : 0)
            streams.append((packed, 0))
            return
        }
        if repeats.isLikely, dictionary(values, rule) { return }
        if rule != .none, shapes(values, times: times, rule) { return }
        plain(values)
    }

    private mutating func numbers(_ values: [ByteRange]) -> Bool {
        if let (format, numbers) = IntegerText.parse(values, bytes) {
            begin(.integers)
            plan.appendVarint(UInt64(format.width))
            integers(numbers)
            return true
        }
        if let (format, numbers) = DecimalText.parse(values, bytes) {
            begin(.decimals)
            plan.appendVarint(UInt64(format.scale))
            plan.append(format.ending.rawValue)
            integers(numbers)
            return true
        }
        return false
    }

    /// Values of eight bytes.
    private mutating func fixed(_ values: [ByteRange], _ kind: ValueKind) {
        let numbers = values.map { Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: Int($0.offset), as: Int64.self)) }
        if kind == .int64 {
            begin(.int64)
            integers(numbers)
        } else {
            begin(.float64)
            var stream: [UInt8] = []
            FloatCodec.append(numbers.map { Double(bitPattern: UInt64(bitPattern: $0)) }, to: &stream)
            streams.append((stream, 0))
        }
    }

    private mutating func plain(_ values: [ByteRange]) {
        begin(.plain)
        integers(values.map { Int64($0.count) })
        var all: [UInt8] = []
        all.reserveCapacity(values.reduce(0) { $0 + Int($1.count) })
        for value in values { all.append(contentsOf: text(value)) }
        streams.append((all, 0))
    }

    // MARK: Dictionary

    /// What a look at some of the values says about how often they repeat.
    private struct Repetition {
        /// So few different ones that nothing is smaller than a dictionary.
        var isFew = false
        var isLikely = false

        init(_ values: [ByteRange], _ bytes: UnsafeRawBufferPointer) {
            // Spread over the column: neighbours are more alike than the rest.
            let step = max(1, values.count / 256)
            var seen = ByteInterner()
            var looked = 0
            for row in stride(from: 0, to: values.count, by: step) {
                _ = seen.intern(UnsafeRawBufferPointer(rebasing: bytes[values[row].range]))
                looked += 1
            }
            isFew = seen.count <= 64 && seen.count * 4 <= looked
            isLikely = seen.count * 4 <= looked * 3
        }
    }

    /// False when the values repeat too little.
    private mutating func dictionary(_ values: [ByteRange], _ rule: TextRules) -> Bool {
        var numbers = [Int64](repeating: 0, count: values.count)
        var seen = ByteInterner()
        var firsts: [ByteRange] = []
        for (row, value) in values.enumerated() {
            let number = seen.intern(text(value))
            if number == firsts.count { firsts.append(value) }
            numbers[row] = Int64(number)
            if row & 1023 == 1023, seen.count * 4 > (row + 1) * 3 { return false }
        }
        guard seen.count * 2 <= values.count else { return false }
        begin(.dictionary)
        plan.appendVarint(UInt64(firsts.count))
        // In the order they first came: what is frequent has a small number.
        column(firsts, rule: rule)
        integers(numbers)
        return true
    }

    // MARK: Shapes

    /// Shapes with fewer rows share one column for all their slots.
    private static let ownColumnRows = 32
    /// Texts of shapes with fewer rows are tried again with every word a slot.
    private static let shapeRowsMin = 4
    private static let columnsMax = 1000

    /// False when the texts have too little in common.
    private mutating func shapes(_ values: [ByteRange], times: [Int64], _ rule: TextRules) -> Bool {
        var table = ShapeTable()
        let shapeOf = cut(values, rule, &table)
        guard table.count * 2 <= values.count, table.slotCount > 0 else { return false }
        let columns = ShapeColumns(table, shapeOf, ownColumnRows: Self.ownColumnRows, columnsMax: Self.columnsMax)
        begin(.shapes)
        plan.appendVarint(UInt64(table.count))
        plan.appendVarint(UInt64(columns.count))
        streams.append((columns.encodedShapes(table), 0))
        integers(shapeOf.map(Int64.init))
        for column in 0..<columns.count {
            let (slots, rows) = columns.values(column)
            let isTime = !times.isEmpty && (slots.first.map { $0.count >= 20 && $0.count <= 30 } ?? false)
            self.column(slots, times: isTime ? rows.map { times[Int($0)] } : [], rule: rule.finer, kind: columns.kind(column))
        }
        return true
    }

    /// Cuts every text, those whose shape is rare once more and finer. Gives the shape of each row.
    private mutating func cut(_ values: [ByteRange], _ rule: TextRules, _ table: inout ShapeTable) -> [Int] {
        ByteClass.table.withUnsafeBufferPointer { classes in
            guard let classes = classes.baseAddress else { return [] }
            var coarse = ShapeTable()
            let coarseOf = values.map { value in
                let text = text(value)
                let slotRule = Self.slotRule(rule, text)
                slotRule.find(in: text, classes, &slots)
                return coarse.add(value, text, slotRule, slots)
            }
            guard rule == .lines || rule == .words, coarse.hasRare(Self.shapeRowsMin) else {
                table = coarse
                return coarseOf
            }
            var fine = ShapeTable()
            let fineOf = values.indices.map { row in
                if coarse.rows(coarseOf[row]) >= Self.shapeRowsMin { return -1 }
                let text = text(values[row])
                SlotRule.allWords.find(in: text, classes, &slots)
                return fine.add(values[row], text, .allWords, slots)
            }
            // The rows once more, in order, each with the shape that fits it.
            var coarseSlots = 0
            var fineSlots = 0
            return values.indices.map { row in
                let coarseStart = coarseSlots
                coarseSlots += coarse.slotCount(coarseOf[row])
                guard fineOf[row] >= 0 else { return table.add(from: coarse, coarseOf[row], slots: coarseStart..<coarseSlots) }
                let fineStart = fineSlots
                fineSlots += fine.slotCount(fineOf[row])
                if fine.rows(fineOf[row]) >= Self.shapeRowsMin { return table.add(from: fine, fineOf[row], slots: fineStart..<fineSlots) }
                let text = text(values[row])
                SlotRule.whole.find(in: text, classes, &slots)
                return table.add(values[row], text, .whole, slots)
            }
        }
    }

    private static func slotRule(_ rule: TextRules, _ text: UnsafeRawBufferPointer) -> SlotRule {
        switch rule {
        case .lines: text.first == UInt8(ascii: "{") && text.last == UInt8(ascii: "}") ? .json : .words
        case .attributes: .attributes
        case .words: .words
        case .runs, .none: .runs
        }
    }
}
