// Collects what `FieldStatistics` says while columns are packed. Nothing is looked at row by row: a shape's fields are found once for all its rows, and the values of
// a slot's column are known where they are packed, as a dictionary whose rows are counted or as numbers whose least and greatest are found (`ColumnSummary`).
//
// That answers for a field when all its places are in columns that are its alone. Where they are not (two objects with a key of the same name, a key written
// twice), or its values are texts of all sorts, nothing is said of the field. Rows whose shape does not say which fields they have are walked over as texts, when
// they are few; when they are many, or there are more fields than can be listed, what is said is not complete.
package import ObsCore

/// What packing a column tells of its values.
enum ColumnSummary {
    case none
    /// The different values as they are in texts (of int64 columns the eight bytes), and how many rows have each.
    case values([(payload: [UInt8], rows: Int)])
    /// Numbers printed with digits behind the dot, or eight bytes each.
    case integers(least: Int64, greatest: Int64, scale: Int)
    case doubles(least: Double, greatest: Double)
}

package final class FieldStatisticsWriter {
    /// Longer values are not worth a place in the index.
    static let valueBytesMax = 64
    /// Of all values of lines, or of attributes.
    private static let valuesBytesMax = 1024
    /// Fields of all shapes together; more have blocks of texts that no two of are alike.
    private static let placesMax = 8192
    /// Texts that are walked over.
    private static let textsMax = 256

    private struct Tally {
        var path: FieldPath
        /// Text of each value, and its rows; nil once they are too many, or unknown.
        var counts: [[UInt8]: Int]? = [:]
        var least: FieldNumber?
        var greatest: FieldNumber?
        /// Whether all numbers are within.
        var isBounded = true
        /// Of the shape or text that it was met in last.
        var met = -1

        mutating func setUnknown() {
            counts = nil
            isBounded = false
        }

        mutating func add(_ form: FieldForm, _ payload: UnsafeRawBufferPointer, rows: Int) {
            if form.isNull(payload) { return }
            let number = form.number(payload)
            if let number { widen(number) }
            guard counts != nil else { return }
            // What is no number as a text would be compared otherwise.
            if form == .double, case .double(let value) = number ?? .integer(0), !value.isFinite { return counts = nil }
            let text = form.text(payload)
            guard text.count <= FieldStatisticsWriter.valueBytesMax else { return counts = nil }
            counts?[text, default: 0] += rows
            if counts?.count ?? 0 > FieldStatistics.valuesMax { counts = nil }
        }

        mutating func widen(_ number: FieldNumber) {
            if case .double(let value) = number, value.isNaN { return }
            if least.map({ FieldNumber.compare(number, $0) ?? 0 < 0 }) ?? true { least = number }
            if greatest.map({ FieldNumber.compare(number, $0) ?? 0 > 0 }) ?? true { greatest = number }
        }

        mutating func add(_ summary: ColumnSummary, _ form: FieldForm) {
            switch summary {
            case .none: setUnknown()
            case .values(let values): for value in values { value.payload.withUnsafeBytes { add(form, $0, rows: value.rows) } }
            case .integers(let least, let greatest, let scale):
                counts = nil
                guard scale > 0 else {
                    widen(.integer(least))
                    return widen(.integer(greatest))
                }
                // Past it a double is not what reading the digits gives.
                guard max(least.magnitude, greatest.magnitude) < 1 << 53 else { return isBounded = false }
                var power = 1.0
                for _ in 0..<scale { power *= 10 }
                widen(.double(Double(least) / power))
                widen(.double(Double(greatest) / power))
            case .doubles(let least, let greatest):
                counts = nil
                widen(.double(least))
                widen(.double(greatest))
            }
        }
    }

    /// A source's fields.
    private struct Fields {
        var tallies: [Tally] = []
        var numbers = ByteInterner()
        /// Nothing is known of what was not looked at.
        var isComplete = false
        var hasBytes = false
        var places = 0
    }
    private var lines = Fields()
    private var attributes = Fields()
    /// Of the column that is being packed.
    private var source = FieldSource.line
    private var current = Fields()
    private var met = 0
    /// Whose values each column holds, if they are one field's only.
    private var owners: [(tally: Int, form: FieldForm)?] = []

    package init() {}

    // MARK: A column of texts

    func begin(_ content: TextColumn.Content) {
        source = content == .attributes ? .attributes : .line
        current = Fields(isComplete: true)
        owners = []
    }

    func end() { if source == .line { lines = current } else { attributes = current } }

    /// No row has a text.
    package func nothing(_ content: TextColumn.Content) {
        begin(content)
        end()
    }

    /// Nothing can be said of some rows.
    func leaveOut() {
        current.isComplete = false
        for index in current.tallies.indices { current.tallies[index].setUnknown() }
    }

    /// - Parameter rows: that have the text.
    func text(_ text: UnsafeRawBufferPointer, rows: Int) {
        met += 1
        walk(ShapedText(text)) { tally, place, writer in
            guard case .bytes(let range) = place.value else { return writer.current.tallies[tally].setUnknown() }
            writer.current.tallies[tally].add(place.form, UnsafeRawBufferPointer(rebasing: text[range]), rows: rows)
        }
    }

    /// Texts, and how many rows have each; nil for one.
    func texts(_ texts: UnsafeBufferPointer<ByteRange>, _ bytes: TextBytes, rows: (Int) -> Int) {
        guard texts.count <= Self.textsMax else { return leaveOut() }
        for (index, text) in texts.enumerated() { self.text(bytes.text(text), rows: rows(index)) }
    }

    /// Calls `body` with each field of a text, the first of each name. False when the text does not say.
    private func walk(_ text: ShapedText, _ body: (Int, FieldPlace, FieldStatisticsWriter) -> Void) {
        switch source {
        case .line:
            var walk = JSONFieldWalk(text)
            while let place = walk.next() { if let tally = meet(walk.keys, text.bytes) { body(tally, place, self) } }
        case .attributes:
            var walk = AttributeWalk(text)
            while let place = walk.next() {
                current.hasBytes = current.hasBytes || place.form == .bytes
                if let tally = meet([walk.key], text.bytes) { body(tally, place, self) }
            }
        }
    }

    private func isUnknown(_ text: ShapedText) -> Bool {
        switch source {
        case .line:
            var walk = JSONFieldWalk(text)
            while walk.next() != nil {}
            return walk.isUnknown
        case .attributes:
            var walk = AttributeWalk(text)
            while walk.next() != nil {}
            return walk.isUnknown
        }
    }

    /// The tally of a field; nil when it was met in this text before, or cannot be kept.
    private func meet(_ keys: [Range<Int>], _ bytes: UnsafeRawBufferPointer) -> Int? {
        current.places += 1
        if current.places > Self.placesMax { current.isComplete = false }
        var name: [UInt8] = []
        for key in keys {
            let key = UnsafeRawBufferPointer(rebasing: bytes[key])
            if source == .line, key.contains(UInt8(ascii: "\\")) { name.appendText(FieldForm.jsonString.text(key)) } else { name.appendText(key) }
        }
        let number = current.numbers.intern(name)
        if number == current.tallies.count {
            guard number < FieldStatistics.fieldsMax else {
                current.isComplete = false
                // Its number is taken: later ones would be off.
                current.tallies.append(Tally(path: FieldPath(keys: []), counts: nil, isBounded: false, met: met))
                return nil
            }
            let path =
                source == .line
                ? keys.map { FieldForm.jsonString.text(UnsafeRawBufferPointer(rebasing: bytes[$0])) } : keys.map { Array(bytes[$0]) }
            current.tallies.append(Tally(path: FieldPath(keys: path)))
        }
        guard number < FieldStatistics.fieldsMax, current.tallies[number].met != met else { return nil }
        current.tallies[number].met = met
        return number
    }

    // MARK: Shapes

    /// Finds the fields of all shapes, and which columns hold their values.
    func take(_ shaped: borrowing ShapedRows, _ columns: borrowing ShapeColumns, _ texts: UnsafeBufferPointer<ByteRange>) {
        owners = .init(repeating: nil, count: columns.count)
        /// Slots of each column, those of them that are a field's, and the field.
        var slots = [Int](repeating: 0, count: columns.count)
        var owned = [(places: Int, tally: Int, form: FieldForm)](repeating: (0, -1, .text), count: columns.count)
        var isOpen = [Bool](repeating: false, count: shaped.shapes.count)
        var openRows = 0
        var bytes: [UInt8] = []
        for (shape, number) in shaped.shapes.enumerated() {
            let pieces = shaped.table.pieces(number)
            let hasLength = pieces.dropLast().enumerated().map { shaped.table.rule(number).hasLength(slot: $0, type: $1.last ?? 0) }
            for slot in hasLength.indices { slots[columns.column(shape, slot)] += 1 }
            if source == .line, let first = pieces[0].first, first > 0x20, first != UInt8(ascii: "{") { continue }
            bytes.removeAll(keepingCapacity: true)
            var ranges: [Range<Int>] = []
            for piece in pieces {
                bytes.append(contentsOf: piece)
                ranges.append((bytes.count - piece.count)..<bytes.count)
            }
            met += 1
            guard current.places <= Self.placesMax else { return leaveOut() }
            bytes.withUnsafeBytes { bytes in
                let text = ShapedText(bytes, pieces: ranges[...], hasLength: hasLength)
                if isUnknown(text) {
                    isOpen[shape] = true
                    openRows += shaped.table.rows(number)
                    return
                }
                walk(text) { tally, place, writer in
                    switch place.value {
                    case .parts, .container: writer.current.tallies[tally].setUnknown()
                    case .bytes(let range):
                        writer.current.tallies[tally].add(place.form, UnsafeRawBufferPointer(rebasing: bytes[range]), rows: shaped.table.rows(number))
                    case .slot(let slot):
                        let column = columns.column(shape, slot)
                        if owned[column].places == 0 { (owned[column].tally, owned[column].form) = (tally, place.form) }
                        owned[column].places += 1
                        if owned[column].tally != tally || owned[column].form != place.form { owned[column].places = .min }
                        // Until the column says more.
                        if owned[column].places < 0 { writer.current.tallies[tally].setUnknown() }
                    }
                }
            }
        }
        if openRows > Self.textsMax { return leaveOut() }
        for column in 0..<columns.count where owned[column].places != 0 {
            if owned[column].places == slots[column] {
                owners[column] = (owned[column].tally, owned[column].form)
            } else {
                current.tallies[owned[column].tally].setUnknown()
            }
        }
        if openRows > 0 { for row in 0..<texts.count where isOpen[Int(shaped.shapeOf[row])] { text(shaped.table.bytes.text(texts[row]), rows: 1) } }
    }

    func wants(_ column: Int) -> Bool {
        guard column < owners.count, let owner = owners[column] else { return false }
        return current.tallies[owner.tally].counts != nil || current.tallies[owner.tally].isBounded
    }

    func take(_ summary: ColumnSummary, of column: Int) {
        if column < owners.count, let owner = owners[column] { current.tallies[owner.tally].add(summary, owner.form) }
    }

    // MARK: The end

    /// Whether all attributes were looked at and none is of bytes, which are compared by another text than is stored.
    package var attributesAreTexts: Bool { attributes.isComplete && !attributes.hasBytes }

    package consuming func finish() -> [UInt8] {
        var bytes: [UInt8] = []
        for fields in [lines, attributes] { append(fields, to: &bytes) }
        // Nothing known of anything is nothing.
        return bytes == [0, 0] ? [] : bytes
    }

    private func append(_ fields: Fields, to bytes: inout [UInt8]) {
        let listed = fields.tallies.prefix(FieldStatistics.fieldsMax)
        bytes.appendVarint(UInt64(listed.count) << 1 | (fields.isComplete ? 1 : 0))
        var room = Self.valuesBytesMax
        for tally in listed {
            bytes.appendVarint(UInt64(tally.path.keys.count))
            for key in tally.path.keys { bytes.appendText(key) }
            append(tally, &room, to: &bytes)
        }
    }

    private func append(_ tally: Tally, _ room: inout Int, to bytes: inout [UInt8]) {
        if let counts = tally.counts {
            let size = counts.reduce(0) { $0 + $1.key.count + 3 }
            if size <= room {
                room -= size
                bytes.append(1)
                bytes.appendVarint(UInt64(counts.count))
                for (text, rows) in counts.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
                    bytes.appendText(text)
                    bytes.appendVarint(UInt64(rows))
                }
                return
            }
        }
        switch (tally.isBounded, tally.least, tally.greatest) {
        case (true, .integer(let least), .integer(let greatest)):
            bytes.append(2)
            bytes.appendZigzag(least)
            bytes.appendVarint(UInt64(bitPattern: greatest) &- UInt64(bitPattern: least))
        case (true, let least?, let greatest?):
            // As doubles both may lie within by a little.
            bytes.append(3)
            bytes.appendLittleEndian(Self.double(least, .down).bitPattern)
            bytes.appendLittleEndian(Self.double(greatest, .up).bitPattern)
        default: bytes.append(0)
        }
    }

    private static func double(_ number: FieldNumber, _ rule: FloatingPointRoundingRule) -> Double {
        switch number {
        case .double(let value): return value
        case .integer(let value):
            let near = Double(value)
            guard let order = FieldNumber.compare(.double(near), number), order != 0 else { return near }
            return rule == .down ? (order > 0 ? near.nextDown : near) : order < 0 ? near.nextUp : near
        }
    }
}
