internal import ObsCompress
internal import ObsCore

/// Which slots a column's texts may be cut into, from coarse to fine.
enum TextRules {
    /// Lines: JSON objects, or words.
    case lines
    /// Attribute lists, spans' events and links.
    case attributes, events, links
    /// Values of JSON.
    case words
    /// Words.
    case runs
    /// Runs: none.
    case none

    var finer: TextRules {
        switch self {
        case .lines, .attributes, .events, .links: .words
        case .words: .runs
        case .runs, .none: .none
        }
    }
}

struct TextColumnWriter: ~Copyable {
    typealias Texts = UnsafeBufferPointer<ByteRange>

    private let bytes: TextBytes
    /// Of rows, as the whole column counts them; empty when they have none.
    private let times: UnsafeBufferPointer<Int64>
    private var plan: [UInt8] = []
    private var streams: StreamWriter
    // Room that is used again and again: no column's is large, and there are hundreds.
    private var numbers = Buffer<Int64>()
    private var packed = Buffer<UInt8>()
    private var stream: [UInt8] = []
    private var look = TextLook()
    private let filter: TextFilterWriter?
    private let fields: FieldStatisticsWriter?
    /// Whether the next column is that of all rows; whether its values are to be summed up, and what they came to.
    private var isRoot = true
    private var isAsked = false
    private var summary = ColumnSummary.none

    init(
        _ bytes: UnsafeRawBufferPointer, times: UnsafeBufferPointer<Int64>, level: Int, _ zstd: ZstdContext, filter: TextFilterWriter? = nil,
        fields: FieldStatisticsWriter? = nil
    ) {
        self.filter = filter
        self.fields = fields
        self.bytes = TextBytes(bytes)
        self.times = times
        streams = StreamWriter(level: level, zstd)
    }

    /// Writes the column of all rows.
    consuming func write(_ texts: Texts, rule: TextRules, into output: inout [UInt8]) {
        var rows = Buffer<UInt32>(capacity: times.count)
        for row in times.indices { rows.append(UInt32(row)) }
        column(texts, rows: times.isEmpty ? nil : rows.all, rule: rule)
        streams.finish(plan: plan, into: &output)
    }

    private mutating func begin(_ form: TextColumn.Form) { plan.append(form.rawValue) }

    private mutating func integers(_ numbers: UnsafeBufferPointer<Int64>) {
        stream.removeAll(keepingCapacity: true)
        let planes = IntegerCodec.append(numbers, to: &stream)
        stream.withUnsafeBytes { streams.add($0, planes: planes) }
    }

    /// What is in `numbers`.
    private mutating func integers() { integers(numbers.all) }

    // MARK: The choice

    /// - Parameter rows: of the texts, where those have times.
    private mutating func column(_ texts: Texts, rows: UnsafeBufferPointer<UInt32>?, rule: TextRules, kind: ValueKind = .text) {
        guard let first = texts.first else { return }
        let fields = isRoot ? fields : nil
        let isAsked = isAsked
        (isRoot, self.isAsked, summary) = (false, false, .none)
        if texts.allSatisfy({ bytes.isSame($0, first) }) {
            begin(.constant)
            plan.appendText(bytes.text(first))
            filter?.vocabulary(bytes.text(first))
            fields?.text(bytes.text(first), rows: texts.count)
            if isAsked, first.count <= FieldStatisticsWriter.valueBytesMax { summary = .values([(Array(bytes.text(first)), texts.count)]) }
            return
        }
        var rule = rule
        switch kind {
        case .text: break
        case .attributes: rule = .attributes
        case .opaque: rule = .none
        case .int64, .float64, .instant: return fixed(texts, rows, kind, isAsked: isAsked)
        }
        look.take(texts, bytes)
        let (isFew, isLikely, canBeHex) = (look.isFew, look.isLikely, look.canBeHex)
        if look.canBeIntegers, let format = IntegerText.parse(texts, bytes, into: &numbers) {
            if isAsked { sumUp(format, isFew: isFew) }
            if clock(rows, width: format.width, scale: 0) || isFew && !isNarrow && dictionary(texts, rule, isAsked: isAsked) { return }
            begin(.integers)
            plan.appendVarint(UInt64(format.width))
            filter?.numbers(numbers.all, digits: format.width == IntegerText.unsigned ? 20 : format.width)
            return integers()
        }
        if look.canBeDecimals, let format = DecimalText.parse(texts, bytes, into: &numbers) {
            if isAsked { sumUp(scale: format.scale) }
            if format.ending == .fixed && clock(rows, width: 0, scale: format.scale) || isFew && dictionary(texts, rule, isAsked: isAsked) { return }
            begin(.decimals)
            plan.appendVarint(UInt64(format.scale))
            plan.append(format.ending.rawValue)
            filter?.numbers(numbers.all, digits: format.scale + 1)
            return integers()
        }
        if isFew, dictionary(texts, rule, isAsked: isAsked, fields) { return }
        if let rows, let format = TimeText.parse(texts, bytes, into: &numbers) {
            begin(.times)
            plan.appendVarint(UInt64(format.digits))
            filter?.times(digits: format.digits)
            for row in 0..<rows.count { numbers[row] = numbers[row] &- format.number(ofNanos: times[Int(rows[row])]) }
            return integers()
        }
        if canBeHex, let format = HexText.parse(texts, bytes, into: &packed) {
            begin(.hex)
            plan.appendVarint(UInt64(format.digits))
            plan.append(format.isUpper ? 1 : 0)
            filter?.hex(texts, format, bytes)
            return streams.add(UnsafeRawBufferPointer(packed.all))
        }
        if isLikely, dictionary(texts, rule, isAsked: isAsked, fields) { return }
        if rule != .none, shapes(texts, rows: rows, rule, fields) { return }
        fields?.texts(texts, bytes) { _ in 1 }
        plain(texts)
    }

    /// Whether the numbers are so near each other that no dictionary of them takes less.
    private var isNarrow: Bool {
        var (low, high) = (numbers[0], numbers[0])
        for number in numbers.all { (low, high) = (min(low, number), max(high, number)) }
        return high &- low < 256 && high &- low >= 0
    }

    /// False when the numbers are no part of their rows' times.
    private mutating func clock(_ rows: UnsafeBufferPointer<UInt32>?, width: Int, scale: Int) -> Bool {
        guard let rows, let part = ClockText.find(numbers.all, width: width, scale: scale, times: { times[Int(rows[$0])] }) else { return false }
        begin(.clock)
        plan.append(part.part.rawValue)
        plan.appendVarint(UInt64(part.digits))
        plan.appendVarint(UInt64(width))
        plan.appendVarint(UInt64(scale))
        filter?.numbers(numbers.all, digits: max(width, scale + 1))
        for row in 0..<rows.count { numbers[row] = numbers[row] &- part.number(ofNanos: times[Int(rows[row])]) }
        integers()
        return true
    }

    /// Values of eight bytes.
    private mutating func fixed(_ texts: Texts, _ rows: UnsafeBufferPointer<UInt32>?, _ kind: ValueKind, isAsked: Bool) {
        numbers.resize(texts.count)
        for (row, text) in texts.enumerated() { numbers[row] = Int64(bitPattern: bytes.eight(Int(text.offset))) }
        if isAsked { sumUp(kind) }
        if kind == .float64 {
            begin(.float64)
            stream.removeAll(keepingCapacity: true)
            FloatCodec.append(numbers.all.map { Double(bitPattern: UInt64(bitPattern: $0)) }, to: &stream)
            return stream.withUnsafeBytes { streams.add($0) }
        }
        if kind == .instant, let rows {
            begin(.instants)
            for row in 0..<rows.count { numbers[row] = numbers[row] &- times[Int(rows[row])] }
        } else {
            begin(.int64)
        }
        integers()
    }

    // MARK: Sums

    /// The least and the greatest of what is in `numbers`.
    private var bounds: (least: Int64, greatest: Int64) {
        var (least, greatest) = (numbers[0], numbers[0])
        for number in numbers.all { (least, greatest) = (min(least, number), max(greatest, number)) }
        return (least, greatest)
    }

    private mutating func sumUp(scale: Int) {
        let (least, greatest) = bounds
        summary = .integers(least: least, greatest: greatest, scale: scale)
    }

    private mutating func sumUp(_ format: IntegerText, isFew: Bool) {
        // Those past a signed number have no order here.
        if format.width == IntegerText.unsigned { return }
        sumUp(scale: 0)
        guard isFew, let few = fewNumbers() else { return }
        summary = .values(
            few.map { number, rows in
                var text: [UInt8] = []
                format.append(number, to: &text)
                return (text, rows)
            })
    }

    private mutating func sumUp(_ kind: ValueKind) {
        if kind == .float64 {
            var (least, greatest) = (Double.infinity, -Double.infinity)
            for number in numbers.all {
                let value = Double(bitPattern: UInt64(bitPattern: number))
                if !value.isNaN { (least, greatest) = (min(least, value), max(greatest, value)) }
            }
            if least <= greatest { summary = .doubles(least: least, greatest: greatest) }
            return
        }
        sumUp(scale: 0)
        guard let few = fewNumbers() else { return }
        summary = .values(
            few.map { number, rows in
                var payload: [UInt8] = []
                payload.appendLittleEndian(number)
                return (payload, rows)
            })
    }

    /// Rows of each of what is in `numbers`; nil when they are many, or far from each other.
    private func fewNumbers() -> [(number: Int64, rows: Int)]? {
        guard case .integers(let least, let greatest, _) = summary, greatest &- least >= 0, greatest &- least < 1024 else { return nil }
        var counts = [UInt32](repeating: 0, count: Int(greatest - least) + 1)
        for number in numbers.all { counts[Int(number &- least)] &+= 1 }
        let few = counts.indices.filter { counts[$0] > 0 }
        return few.count <= FieldStatistics.valuesMax ? few.map { (least + Int64($0), Int(counts[$0])) } : nil
    }

    /// What is in a dictionary: rows of each text if they are few, numbers if they are some.
    private func sum(_ seen: UnsafeBufferPointer<ByteRange>, _ indices: UnsafeBufferPointer<Int64>) -> ColumnSummary {
        guard let first = seen.first, seen.count <= 512 else { return .none }
        let isNumber = FieldNumber(bytes.text(first)) != nil
        guard seen.count <= FieldStatistics.valuesMax || isNumber, seen.allSatisfy({ $0.count <= FieldStatisticsWriter.valueBytesMax }) else { return .none }
        var counts = [Int](repeating: 0, count: seen.count)
        for index in indices { counts[Int(index)] &+= 1 }
        return .values(zip(seen, counts).map { (Array(bytes.text($0)), $1) })
    }

    private mutating func plain(_ texts: Texts) {
        begin(.plain)
        filter?.plain(texts, bytes)
        numbers.resize(texts.count)
        for (row, text) in texts.enumerated() { numbers[row] = Int64(text.count) }
        integers()
        stream.removeAll(keepingCapacity: true)
        for text in texts { stream.append(contentsOf: bytes.text(text)) }
        stream.withUnsafeBytes { streams.add($0) }
    }

    // MARK: Dictionary

    /// False when the texts repeat too little.
    private mutating func dictionary(_ texts: Texts, _ rule: TextRules, isAsked: Bool = false, _ fields: FieldStatisticsWriter? = nil) -> Bool {
        var indices = Buffer<Int64>(capacity: texts.count)
        var seen = TextDictionary(bytes)
        var before: (text: ByteRange, number: Int) = (.empty, -1)
        for text in texts {
            if before.number < 0 || !bytes.isSame(text, before.text) { before = (text, seen.number(of: text)) }
            indices.append(Int64(before.number))
            if indices.count & 1023 == 0, seen.texts.count * 4 > indices.count * 3 { return false }
        }
        guard seen.texts.count * 2 <= texts.count else { return false }
        begin(.dictionary)
        plan.appendVarint(UInt64(seen.texts.count))
        // In the order they first came: what is frequent has a small number.
        column(seen.texts.all, rows: nil, rule: rule)
        integers(indices.all)
        if let fields {
            var counts = [Int](repeating: 0, count: seen.texts.count)
            for index in indices.all { counts[Int(index)] &+= 1 }
            fields.texts(seen.texts.all, bytes) { counts[$0] }
        }
        summary = isAsked ? sum(seen.texts.all, indices.all) : .none
        return true
    }

    // MARK: Shapes

    /// Shapes with fewer rows share one column for all their slots.
    private static let ownColumnRows = 32
    private static let columnsMax = 1000

    /// False when the texts have too little in common.
    private mutating func shapes(_ texts: Texts, rows: UnsafeBufferPointer<UInt32>?, _ rule: TextRules, _ fields: FieldStatisticsWriter?) -> Bool {
        let shaped = ShapedRows(texts, bytes, rule)
        guard shaped.shapes.count * 2 <= texts.count, shaped.slotCount > 0 else { return false }
        let columns = ShapeColumns(shaped, rows: rows, ownColumnRows: Self.ownColumnRows, columnsMax: Self.columnsMax)
        begin(.shapes)
        plan.appendVarint(UInt64(shaped.shapes.count))
        plan.appendVarint(UInt64(columns.count))
        columns.encodedShapes(shaped).withUnsafeBytes { streams.add($0) }
        if let filter { for shape in shaped.shapes { for piece in shaped.table.pieces(shape) { filter.vocabulary(piece) } } }
        numbers.resize(texts.count)
        for row in 0..<texts.count { numbers[row] = Int64(shaped.shapeOf[row]) }
        integers()
        fields?.take(shaped, columns, texts)
        for column in 0..<columns.count {
            let (slots, rows) = columns.values(column)
            isAsked = fields?.wants(column) ?? false
            self.column(slots, rows: rows, rule: rule.finer, kind: columns.kind(column))
            fields?.take(summary, of: column)
        }
        summary = .none
        return true
    }
}

/// Gives equal texts equal numbers, counted from 0 in the order they first came.
struct TextDictionary: ~Copyable {
    private let bytes: TextBytes
    /// The different ones.
    private(set) var texts = Buffer<ByteRange>()
    /// Hash over number + 1, 0 is free. A power of two long, at most half full.
    private var slots = [UInt64](repeating: 0, count: 64)

    init(_ bytes: TextBytes) { self.bytes = bytes }

    mutating func number(of text: ByteRange) -> Int {
        let hash = UInt64(bytes.hash(text))
        var mask = slots.count - 1
        var at = Int(hash) & mask
        while slots[at] != 0 {
            let number = Int(slots[at] & 0xffff_ffff) - 1
            if slots[at] >> 32 == hash, bytes.isSame(texts[number], text) { return number }
            at = (at + 1) & mask
        }
        if texts.count * 2 >= slots.count {
            slots = doubledSlots(slots)
            mask = slots.count - 1
            at = Int(hash) & mask
            while slots[at] != 0 { at = (at + 1) & mask }
        }
        texts.append(text)
        slots[at] = hash << 32 | UInt64(texts.count)
        return texts.count - 1
    }
}

/// What a look at some of a column's texts says about all.
struct TextLook {
    /// So few different ones that nothing is smaller than a dictionary.
    private(set) var isFew = false
    /// So many equal ones that a dictionary may pay.
    private(set) var isLikely = false
    private(set) var canBeIntegers = false
    private(set) var canBeDecimals = false
    private(set) var canBeHex = false
    private static let different = 1024
    /// Hashes of those seen.
    private var seen = [UInt32](repeating: 0, count: Self.different)

    mutating func take(_ texts: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes) {
        guard let first = texts.first else { return }
        let classes = ByteClass.table
        // Spread over the column: neighbours are more alike than the rest.
        let step = max(1, texts.count / 256)
        var (looked, distinct) = (0, 0)
        var kinds: UInt8 = 0
        var isOneWidth = true
        var isEmpty = false
        seen.withUnsafeMutableBufferPointer { seen in
            seen.update(repeating: 0)
            for row in stride(from: 0, to: texts.count, by: step) {
                let text = texts[row]
                let hash = bytes.hash(text) | 1
                var at = Int(hash >> 1) & (Self.different - 1)
                while seen[at] != 0, seen[at] != hash { at = (at + 1) & (Self.different - 1) }
                if seen[at] == 0 {
                    seen[at] = hash
                    distinct += 1
                    isOneWidth = isOneWidth && text.count == first.count
                    isEmpty = isEmpty || text.count == 0
                    if kinds & ByteClass.other == 0 { for place in text.range.prefix(HexText.digitsMax) { kinds |= classes[Int(bytes[place])] } }
                }
                looked += 1
            }
        }
        isFew = distinct <= 64 && distinct * 4 <= looked
        isLikely = distinct * 4 <= looked * 3
        let isNumber = kinds & (ByteClass.other | ByteClass.hexLetter) == 0 && !isEmpty
        canBeIntegers = isNumber && kinds & ByteClass.dot == 0
        canBeDecimals = isNumber && kinds & ByteClass.dot != 0
        canBeHex = isOneWidth && kinds & (ByteClass.other | ByteClass.dot | ByteClass.minus) == 0
    }
}
