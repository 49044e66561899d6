// What a field's value is in each row of a column of texts, found where it is stored. The shapes are asked first, one walk each (ObsCore/FieldWalk): which have the
// field, and in which slot. Then the column of that slot is asked which of its values pass: a dictionary once for each of its texts, a column of numbers as
// numbers, any other value by value. No text is put together but of rows whose shape does not say, which are those that are no JSON as others write it: a key in a
// slot, a string of several.
//
// The answers are those a walk over the texts gives, always: what a slot can hold is known from how texts are cut (`SlotRule`), what a column of numbers holds from
// how they are printed.
package import ObsCore

/// Values of a field, row by row.
package struct FieldValues: Sendable {
    /// Texts of the different values.
    package var texts: [[UInt8]] = []
    /// Of each row, the number of its value and 1 more; 0 where the field is missing, or has no text.
    package var ofRow: [UInt32]

    package init(count: Int) { ofRow = [UInt32](repeating: 0, count: count) }
}

extension TextView {
    /// The rows of `among` whose field passes a test.
    package func rows(where path: FieldPath, of source: FieldSource, pass test: FieldTest, among: RowSet) throws(ObsError) -> RowSet {
        guard let root, !among.isEmpty else { return RowSet(count: count) }
        precondition(among.count == count, "BUG: rows of \(among.count), of \(count)")
        return try TextFields(self, path, source, test).rows(root, rows, among: among).intersection(among)
    }

    /// The values of a field; of rows that are not of `among` they may be missing.
    package func values(of path: FieldPath, _ source: FieldSource, among: RowSet) throws(ObsError) -> FieldValues {
        guard let root, !among.isEmpty else { return FieldValues(count: count) }
        precondition(among.count == count, "BUG: rows of \(among.count), of \(count)")
        let fields = TextFields(self, path, source, .exists)
        var values = FieldValues(count: count)
        values.ofRow = try fields.numbers(root, rows, among: among)
        values.texts = (0..<fields.texts.count).map { Array(fields.texts.bytes[fields.texts.range($0)]) }
        return values
    }
}

/// One question about a field.
final class TextFields {
    private let view: TextView
    private let path: FieldPath
    private let source: FieldSource
    private let test: FieldTest
    /// For what values are equal to.
    private let search: TextSearch
    private let escapes: TextSearch
    private var composer: TextComposer { search.composer }
    /// Texts of values that were numbered.
    private(set) var texts = ByteInterner()

    init(_ view: TextView, _ path: FieldPath, _ source: FieldSource, _ test: FieldTest) {
        self.view = view
        self.path = path
        self.source = source
        self.test = test
        if case .compares(.equal, .text(let wanted)) = test {
            search = TextSearch(view, wanted, foldsCase: false)
        } else {
            search = TextSearch(view, [], foldsCase: false)
        }
        escapes = TextSearch(view, [UInt8(ascii: "\\")], foldsCase: false)
    }

    private func constant(_ range: Range<Int>) throws(ObsError) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: try view.streams.stream(0)[range])
    }

    // MARK: Texts that have the field

    /// Texts whose field passes.
    /// - Parameter among: nil for all; of others it may be wrong.
    func rows(_ node: TextNode, _ rows: ColumnRows, among: RowSet?) throws(ObsError) -> RowSet {
        switch node.form {
        case .constant(let range): return test.passes(path, in: try constant(range), source) ? RowSet(all: rows.count) : RowSet(count: rows.count)
        case .dictionary(let texts, let distinct, let stream):
            return try spread(distinct, stream, rows) { count throws(ObsError) in try self.rows(texts, count, among: nil) }
        case .plain:
            let texts = try composer.plain(node, rows)
            var result = RowSet(count: rows.count)
            for row in 0..<rows.count where among?.contains(row) != false {
                if test.passes(path, in: UnsafeRawBufferPointer(rebasing: texts.bytes[Int(texts.starts[row])..<Int(texts.starts[row + 1])]), source) {
                    result.insert(row)
                }
            }
            return result
        // Written with other bytes than any text with a field.
        case .number, .hex: return RowSet(count: rows.count)
        case .shapes: return try inShapes(node, rows, among: among)
        }
    }

    /// A dictionary's answer from that of its texts.
    private func spread(
        _ distinct: Int, _ stream: Int, _ rows: ColumnRows, _ ask: (ColumnRows) throws(ObsError) -> RowSet
    ) throws(ObsError) -> RowSet {
        guard distinct <= rows.count else { throw ObsError(.corrupt, "\(distinct) different texts of \(rows.count)") }
        let entries = try ask(ColumnRows(count: distinct, times: .none))
        var result = RowSet(count: rows.count)
        if entries.isEmpty { return result }
        let indices = try composer.indices(stream, count: rows.count, below: distinct)
        if entries.isAll { return RowSet(all: rows.count) }
        for row in 0..<rows.count where entries.contains(Int(truncatingIfNeeded: indices[row])) { result.insert(row) }
        return result
    }

    private struct SlotColumn: Hashable {
        var column: Int
        var form: FieldForm
    }

    /// Where shapes have the field.
    private struct Located {
        /// Shapes whose rows must be looked at.
        var open: [Bool]
        var isAnyOpen = false
        /// Of shapes in which the value is the same in all rows, or is an object or an array.
        var fixed: [(shape: Int, place: FieldPlace)] = []
        /// Of each column, the slots: shape << 8 | slot.
        var slots: [SlotColumn: Set<Int>] = [:]
    }

    private func locate(_ shapes: TextShapes, among: RowSet?) -> Located {
        var located = Located(open: .init(repeating: false, count: shapes.shapes.count))
        var isWanted = [Bool](repeating: true, count: shapes.shapes.count)
        if let among, !among.isAll {
            isWanted = [Bool](repeating: false, count: shapes.shapes.count)
            among.forEach { isWanted[Int(shapes.shapeOf[$0])] = true }
        }
        for shape in shapes.shapes.indices where isWanted[shape] {
            switch path.find(in: shapes.text(shape), source) {
            case .missing: break
            case .unknown:
                located.open[shape] = true
                located.isAnyOpen = true
            case .at(let place):
                switch place.value {
                case .bytes, .container: located.fixed.append((shape, place))
                case .slot(let slot):
                    let column = Int(shapes.slots[shapes.shapes[shape].slots.lowerBound + slot].column)
                    located.slots[SlotColumn(column: column, form: place.form), default: []].insert(shape << 8 | slot)
                case .parts:
                    located.open[shape] = true
                    located.isAnyOpen = true
                }
            }
        }
        return located
    }

    private func inShapes(_ node: TextNode, _ rows: ColumnRows, among: RowSet?) throws(ObsError) -> RowSet {
        guard case .shapes(_, _, _, let columns) = node.form else { return RowSet(count: rows.count) }
        let shapes = try view.shapes(node, rows, arena: composer)
        let located = locate(shapes, among: among)
        var result = RowSet(count: rows.count)
        var passing = [Bool](repeating: false, count: shapes.shapes.count)
        for (shape, place) in located.fixed { passing[shape] = passes(place, shapes.bytes) }
        if passing.contains(true) { for (row, shape) in shapes.shapeOf.enumerated() where passing[Int(shape)] { result.insert(row) } }
        for (key, slots) in located.slots {
            let of = rows.column(key.column, of: shapes)
            let picks = picks(shapes, key.column, node, among)
            let hits = try values(columns[key.column], of, key.form, picks)
            if !hits.isEmpty { search.insert(hits, node, shapes, key.column, slots, into: &result) }
        }
        if located.isAnyOpen {
            try look(located.open, node, shapes, rows, among) { row, text in if test.passes(path, in: text, source) { result.insert(row) } }
        }
        return result
    }

    private func passes(_ place: FieldPlace, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard case .bytes(let range) = place.value else { return test.isExists }
        return test.passes(place.form, UnsafeRawBufferPointer(rebasing: bytes[range]))
    }

    /// Texts of rows whose shape does not say.
    private func look(
        _ open: [Bool], _ node: TextNode, _ shapes: TextShapes, _ rows: ColumnRows, _ among: RowSet?, _ body: (Int, UnsafeRawBufferPointer) -> Void
    ) throws(ObsError) {
        var wanted: [UInt32] = []
        for (row, shape) in shapes.shapeOf.enumerated() where open[Int(shape)] && among?.contains(row) != false { wanted.append(UInt32(row)) }
        guard !wanted.isEmpty else { return }
        let picks = composer.arena.array(of: UInt32.self, count: wanted.count)
        _ = picks.initialize(from: wanted)
        let texts = try composer.ranges(node, rows, UnsafeBufferPointer(picks))
        for (index, row) in wanted.enumerated() {
            body(Int(row), UnsafeRawBufferPointer(start: texts.bytes + Int(texts.ranges[index].offset), count: Int(texts.ranges[index].count)))
        }
    }

    /// A column's values that rows of `among` have, where those are few; nil for all.
    private func picks(_ shapes: TextShapes, _ column: Int, _ node: TextNode, _ among: RowSet?) -> TextComposer.Picks? {
        guard let among, among.population * 8 < among.count else { return nil }
        let places = search.places(node, shapes, column)
        let values =
            places.rows.isEmpty ? among.rows.map { UInt32($0) } : places.rows.indices.filter { among.contains(Int(places.rows[$0])) }.map { UInt32($0) }
        let picks = composer.arena.array(of: UInt32.self, count: values.count)
        _ = picks.initialize(from: values)
        return UnsafeBufferPointer(picks)
    }

    // MARK: Values

    /// Values of a column that pass.
    /// - Parameter picks: those that are asked about, ascending; nil for all.
    private func values(_ node: TextNode, _ rows: ColumnRows, _ form: FieldForm, _ picks: TextComposer.Picks?) throws(ObsError) -> RowSet {
        switch node.form {
        case .constant(let range): return test.passes(form, try constant(range)) ? RowSet(all: rows.count) : RowSet(count: rows.count)
        case .dictionary(let texts, let distinct, let stream):
            return try spread(distinct, stream, rows) { count throws(ObsError) in try self.values(texts, count, form, nil) }
        case .number(let format, let stream):
            if case .compares(let order, .number(let wanted)) = test, let kind = NumberColumn(format, form) {
                let numbers = try composer.numbers(format, stream, rows)
                if let found = kind.rows(UnsafeBufferPointer(numbers), order, wanted) { return found }
            }
        default: break
        }
        if test.isExists, form != .jsonWord || node.hasNoWords { return RowSet(all: rows.count) }
        if let found = try equals(node, rows, form) { return found }
        return try eachValue(node, rows, form, picks)
    }

    /// Values that are a text; nil where it is not as simple as that.
    private func equals(_ node: TextNode, _ rows: ColumnRows, _ form: FieldForm) throws(ObsError) -> RowSet? {
        guard case .compares(.equal, .text(let wanted)) = test, !wanted.isEmpty, form == .jsonString || form == .jsonWord || form == .text else { return nil }
        var found = RowSet(count: rows.count)
        if wanted.withUnsafeBytes({ form.isNull($0) }) { return found }
        found = try search.hits(node, rows, TextProbe(from: 0, to: wanted.count, place: .whole))
        guard form == .jsonString else { return found }
        let escaped = try escapes.hits(node, rows, TextProbe(from: 0, to: 1, place: .anywhere))
        if escaped.isEmpty { return found }
        found.subtract(escaped)
        let picks = composer.arena.array(of: UInt32.self, count: escaped.population)
        for (index, value) in escaped.rows.enumerated() { picks[index] = UInt32(value) }
        return found.union(try eachValue(node, rows, form, UnsafeBufferPointer(picks)))
    }

    private func eachValue(_ node: TextNode, _ rows: ColumnRows, _ form: FieldForm, _ picks: TextComposer.Picks?) throws(ObsError) -> RowSet {
        var result = RowSet(count: rows.count)
        if let picks, picks.isEmpty { return result }
        let values = try composer.ranges(node, rows, picks)
        for index in 0..<values.ranges.count {
            let range = values.ranges[index]
            let value = UnsafeRawBufferPointer(start: values.bytes + Int(range.offset), count: Int(range.count))
            if test.passes(form, value) { result.insert(picks.map { Int($0[index]) } ?? index) }
        }
        return result
    }

    // MARK: Numbers of values

    /// Of each text, its field's value: the number among `texts` and 1 more, 0 for none.
    func numbers(_ node: TextNode, _ rows: ColumnRows, among: RowSet?) throws(ObsError) -> [UInt32] {
        switch node.form {
        case .constant(let range): return .init(repeating: number(in: try constant(range)), count: rows.count)
        case .dictionary(let texts, let distinct, let stream):
            return try spread(distinct, stream, rows) { count throws(ObsError) in try self.numbers(texts, count, among: nil) }
        case .plain:
            let texts = try composer.plain(node, rows)
            return (0..<rows.count).map { row in
                number(in: UnsafeRawBufferPointer(rebasing: texts.bytes[Int(texts.starts[row])..<Int(texts.starts[row + 1])]))
            }
        case .number, .hex: return .init(repeating: 0, count: rows.count)
        case .shapes(_, _, _, let columns):
            let shapes = try view.shapes(node, rows, arena: composer)
            let located = locate(shapes, among: among)
            var result = [UInt32](repeating: 0, count: rows.count)
            var fixed = [UInt32](repeating: 0, count: shapes.shapes.count)
            for (shape, place) in located.fixed {
                if case .bytes(let range) = place.value { fixed[shape] = number(place.form, UnsafeRawBufferPointer(rebasing: shapes.bytes[range])) }
            }
            for (row, shape) in shapes.shapeOf.enumerated() { result[row] = fixed[Int(shape)] }
            for (key, slots) in located.slots {
                let numbers = try numbers(ofValues: columns[key.column], rows.column(key.column, of: shapes), key.form)
                search.forEachPlace(node, shapes, key.column, slots) { value, row in result[row] = numbers[value] }
            }
            if located.isAnyOpen { try look(located.open, node, shapes, rows, among) { row, text in result[row] = number(in: text) } }
            return result
        }
    }

    private func spread(
        _ distinct: Int, _ stream: Int, _ rows: ColumnRows, _ ask: (ColumnRows) throws(ObsError) -> [UInt32]
    ) throws(ObsError) -> [UInt32] {
        guard distinct <= rows.count else { throw ObsError(.corrupt, "\(distinct) different texts of \(rows.count)") }
        let entries = try ask(ColumnRows(count: distinct, times: .none))
        let indices = try composer.indices(stream, count: rows.count, below: distinct)
        return (0..<rows.count).map { entries[Int(truncatingIfNeeded: indices[$0])] }
    }

    private func number(in text: UnsafeRawBufferPointer) -> UInt32 { path.withValue(in: text, source) { number($0, $1) } ?? 0 }

    private func number(_ form: FieldForm, _ value: UnsafeRawBufferPointer) -> UInt32 {
        if form.isNull(value) { return 0 }
        return form.withText(value) { UInt32(texts.intern($0) + 1) }
    }

    private func numbers(ofValues node: TextNode, _ rows: ColumnRows, _ form: FieldForm) throws(ObsError) -> [UInt32] {
        switch node.form {
        case .constant(let range): return .init(repeating: number(form, try constant(range)), count: rows.count)
        case .dictionary(let texts, let distinct, let stream):
            return try spread(distinct, stream, rows) { count throws(ObsError) in try self.numbers(ofValues: texts, count, form) }
        default:
            let values = try composer.ranges(node, rows, nil)
            return values.ranges.map { number(form, UnsafeRawBufferPointer(start: values.bytes + Int($0.offset), count: Int($0.count))) }
        }
    }
}

extension TextNode {
    /// Whether no value can be a word of letters, such as `null`.
    fileprivate var hasNoWords: Bool {
        switch form {
        case .number, .hex: true
        case .constant, .plain, .dictionary, .shapes: false
        }
    }
}

extension TextShapes {
    /// A shape as walks see it.
    func text(_ shape: Int) -> ShapedText {
        let (slots, first) = (shapes[shape].slots, shapes[shape].firstPiece)
        return ShapedText(bytes, pieces: pieces[first...first + slots.count], hasLength: self.slots[slots].map(\.hasLength))
    }
}
