// Which texts contain something, found where it is stored. A text is piece, value, piece, value, ..., piece. What is looked for lies within a piece, then it is in all
// rows of the shape; or within a value, then the value's column is asked, which may have shapes itself; or across borders between them. Across borders it is cut
// there: what stands to the left must be what a value ends with, or a piece; between two borders there is a whole piece or a whole value; what stands to the right
// is what a value or a piece begins with. Pieces are known, so few ways to cut are left, and each of them asks columns for values that begin or end with,
// or are, a part of the needle.
//
// So four questions are asked of a column (`TextProbe.Place`), by shapes as well as by whoever asks first; their answers are sets of its values and are kept while the
// search lasts. A dictionary is asked once for each of its texts. Numbers are not even read where the probe has bytes they are never written with.
internal import Glibc
internal import ObsCore

/// A part of the needle, and where in a text it must be.
struct TextProbe: Hashable {
    enum Place: UInt8 { case anywhere, start, end, whole }
    var from: Int
    var to: Int
    var place: Place

    var count: Int { to - from }
    var isAtStart: Bool { place == .start || place == .whole }
    var isAtEnd: Bool { place == .end || place == .whole }
}

/// One search in one view.
final class TextSearch {
    let view: TextView
    let composer: TextComposer
    let needle: UnsafeBufferPointer<UInt8>
    /// Texts are compared in lower case, the needle is given so.
    let foldsCase: Bool
    private struct Key: Hashable {
        var node: Int
        var probe: TextProbe
    }
    private var known: [Key: RowSet] = [:]
    private var places: [Int: TextShapes.Places] = [:]
    /// Pieces in lower case, by node.
    private var folded: [Int: UnsafeRawBufferPointer] = [:]
    private var plainTexts: [Int: (bytes: UnsafeRawBufferPointer, starts: UnsafePointer<UInt32>)] = [:]
    /// Ways to cut that were looked at.
    var cuts = 0
    /// More, and the texts are put together: only texts made for it have so many.
    static let cutsMax = 50_000

    init(_ view: TextView, _ needle: [UInt8], foldsCase: Bool) {
        self.view = view
        self.foldsCase = foldsCase
        composer = TextComposer(view)
        let copy = composer.arena.array(of: UInt8.self, count: needle.count)
        _ = copy.initialize(from: needle)
        self.needle = UnsafeBufferPointer(copy)
    }

    func bytes(_ probe: TextProbe) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: needle[probe.from..<probe.to])) }

    /// Rows of the column of all rows.
    func rows(_ root: TextNode, _ rows: ColumnRows, among: RowSet) throws(ObsError) -> RowSet {
        let probe = TextProbe(from: 0, to: needle.count, place: .anywhere)
        if case .shapes = root.form { return try inShapes(root, rows, probe, among: among) }
        return try hits(root, rows, probe)
    }

    /// Values of a column that have the probe.
    func hits(_ node: TextNode, _ rows: ColumnRows, _ probe: TextProbe) throws(ObsError) -> RowSet {
        guard node.mayHave(bytes(probe), probe.place, foldsCase: foldsCase) else { return RowSet(count: rows.count) }
        let key = Key(node: node.number, probe: probe)
        if let answer = known[key] { return answer }
        let answer = try ask(node, rows, probe)
        known[key] = answer
        return answer
    }

    private func ask(_ node: TextNode, _ rows: ColumnRows, _ probe: TextProbe) throws(ObsError) -> RowSet {
        switch node.form {
        case .constant(let range):
            let text = fold(UnsafeRawBufferPointer(rebasing: try view.streams.stream(0)[range]))
            return Self.has(text, bytes(probe), probe.place) ? RowSet(all: rows.count) : RowSet(count: rows.count)
        case .dictionary(let texts, let distinct, let stream):
            guard distinct <= rows.count else { throw ObsError(.corrupt, "\(distinct) different texts of \(rows.count)") }
            let entries = try hits(texts, ColumnRows(count: distinct, times: .none), probe)
            var result = RowSet(count: rows.count)
            if entries.isEmpty { return result }
            let indices = try composer.indices(stream, count: rows.count, below: distinct)
            if entries.isAll { return RowSet(all: rows.count) }
            for row in 0..<rows.count where entries.contains(Int(truncatingIfNeeded: indices[row])) { result.insert(row) }
            return result
        case .shapes: return try inShapes(node, rows, probe, among: nil)
        case .number(.integer(let format), let stream) where probe.place == .whole:
            // No need to print them all.
            var wanted: [UInt8] = []
            guard let (magnitude, _, negative) = IntegerText.integer(TextBytes(bytes(probe)), 0, probe.count) else { return RowSet(count: rows.count) }
            let number = negative ? 0 &- Int64(bitPattern: magnitude) : Int64(bitPattern: magnitude)
            format.append(number, to: &wanted)
            var result = RowSet(count: rows.count)
            guard wanted.elementsEqual(bytes(probe)) else { return result }
            let numbers = try composer.integers(stream, count: rows.count)
            for row in 0..<rows.count where numbers[row] == number { result.insert(row) }
            return result
        case .hex(let format, let stream) where probe.place == .anywhere && probe.count >= 3 || probe.count == format.digits:
            return try inHex(format, try composer.hex(format, stream, rows), rows, bytes(probe))
        case .plain, .number, .hex: return try inPlain(node, rows, probe)
        }
    }

    static func has(_ text: UnsafeRawBufferPointer, _ wanted: UnsafeRawBufferPointer, _ place: TextProbe.Place) -> Bool {
        guard wanted.count <= text.count else { return false }
        guard wanted.count > 0, let base = text.baseAddress, let bytes = wanted.baseAddress else { return place != .whole || text.isEmpty }
        switch place {
        case .anywhere: return ByteSearch(wanted).first(in: text) != nil
        case .start: return memcmp(base, bytes, wanted.count) == 0
        case .end: return memcmp(base + (text.count - wanted.count), bytes, wanted.count) == 0
        case .whole: return wanted.count == text.count && memcmp(base, bytes, wanted.count) == 0
        }
    }

    // MARK: Texts back to back

    private func inPlain(_ node: TextNode, _ rows: ColumnRows, _ probe: TextProbe) throws(ObsError) -> RowSet {
        var texts = try composer.plain(node, rows)
        if foldsCase {
            if let known = plainTexts[node.number] {
                texts = known
            } else {
                texts.bytes = fold(texts.bytes)
                plainTexts[node.number] = texts
            }
        }
        let wanted = bytes(probe)
        var result = RowSet(count: rows.count)
        let starts = texts.starts
        guard wanted.count > 0, let base = texts.bytes.baseAddress, let bytes = wanted.baseAddress else {
            if probe.place != .whole { return RowSet(all: rows.count) }
            for row in 0..<rows.count where starts[row] == starts[row + 1] { result.insert(row) }
            return result
        }
        if probe.place == .anywhere {
            var at = 0
            var row = 0
            let search = ByteSearch(wanted)
            while let offset = search.first(in: texts.bytes, from: at) {
                while Int(starts[row + 1]) <= offset { row += 1 }
                // Across two texts it is in none.
                if offset + wanted.count <= Int(starts[row + 1]) {
                    result.insert(row)
                    at = Int(starts[row + 1])
                } else {
                    at = offset + 1
                }
            }
            return result
        }
        let first = wanted[0]
        for row in 0..<rows.count {
            let start = Int(starts[row])
            let count = Int(starts[row &+ 1]) &- start
            guard count >= wanted.count, probe.place != .whole || count == wanted.count else { continue }
            let at = probe.place == .end ? start &+ count &- wanted.count : start
            if texts.bytes[at] == first, memcmp(base + at, bytes, wanted.count) == 0 { result.insert(row) }
        }
        return result
    }

    /// Digits two to a byte, not printed but where bytes are as the needle's would be, wherever in a byte it begins.
    private func inHex(_ format: HexText, _ packed: UnsafeRawBufferPointer, _ rows: ColumnRows, _ wanted: UnsafeRawBufferPointer) throws(ObsError) -> RowSet {
        var result = RowSet(count: rows.count)
        let printed = composer.arena.array(of: UInt8.self, count: format.digits)
        guard let text = printed.baseAddress, let base = packed.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return result }
        for first in 0...1 where wanted.count - first >= 2 {
            let pairs = (wanted.count - first) / 2
            let bytes = composer.arena.array(of: UInt8.self, count: pairs)
            for pair in 0..<pairs { bytes[pair] = Self.nibble(wanted[first + pair * 2]) << 4 | Self.nibble(wanted[first + pair * 2 + 1]) }
            let search = ByteSearch(UnsafeRawBufferPointer(bytes))
            var at = 0
            while let offset = search.first(in: packed, from: at) {
                let row = offset / format.byteCount
                _ = format.put(base + row * format.byteCount, at: text)
                let isHit = Self.has(fold(UnsafeRawBufferPointer(printed)), wanted, .anywhere)
                if isHit { result.insert(row) }
                at = isHit ? (row + 1) * format.byteCount : offset + 1
            }
        }
        return result
    }

    /// Of a digit; what else may be there is found when it is printed.
    private static func nibble(_ digit: UInt8) -> UInt8 { digit <= UInt8(ascii: "9") ? digit & 15 : (digit & 15) &+ 9 }

    /// In lower case, where that is asked for.
    private func fold(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        guard foldsCase else { return bytes }
        let copy = composer.arena.array(of: UInt8.self, count: bytes.count)
        for index in 0..<bytes.count { copy[index] = lowerCased(bytes[index]) }
        return UnsafeRawBufferPointer(copy)
    }

    // MARK: Shapes

    private func inShapes(_ node: TextNode, _ rows: ColumnRows, _ probe: TextProbe, among: RowSet?) throws(ObsError) -> RowSet {
        guard case .shapes(_, _, _, let columns) = node.form else { return RowSet(count: rows.count) }
        let shapes = try view.shapes(node, rows, arena: composer)
        let pieces = folded[node.number] ?? fold(shapes.bytes)
        folded[node.number] = pieces
        var walk = ShapeWalk(self, shapes, pieces, columns, rows, probe)
        var isWanted = [Bool](repeating: true, count: shapes.shapes.count)
        if let among, !among.isAll {
            isWanted = [Bool](repeating: false, count: shapes.shapes.count)
            among.forEach { isWanted[Int(shapes.shapeOf[$0])] = true }
        }
        for shape in shapes.shapes.indices where isWanted[shape] { try walk.shape(shape) }
        return try collect(walk.found, node, shapes, columns, rows, probe, among: among)
    }

    func places(_ node: TextNode, _ shapes: TextShapes, _ column: Int) -> TextShapes.Places {
        let key = node.number << 32 | column
        if let known = places[key] { return known }
        let made = shapes.places(column)
        places[key] = made
        return made
    }

    private func collect(
        _ found: ShapeWalk.Found, _ node: TextNode, _ shapes: TextShapes, _ columns: [TextNode], _ rows: ColumnRows, _ probe: TextProbe, among: RowSet?
    ) throws(ObsError) -> RowSet {
        var result = RowSet(count: rows.count)
        if found.all.contains(true) {
            for (row, shape) in shapes.shapeOf.enumerated() where found.all[Int(shape)] { result.insert(row) }
        }
        for (key, places) in found.single {
            let hits = try hits(columns[key.column], rows.column(key.column, of: shapes), key.probe)
            if !hits.isEmpty { insert(hits, node, shapes, key.column, places.isEverywhere ? nil : places.slots, into: &result) }
        }
        for chain in found.chains {
            var rest: RowSet?
            for link in chain.links {
                let column = Int(shapes.slots[shapes.shapes[chain.shape].slots.lowerBound + link.slot].column)
                var linked = RowSet(count: rows.count)
                let hits = try hits(columns[column], rows.column(column, of: shapes), link.probe)
                insert(hits, node, shapes, column, [chain.shape << 8 | link.slot], into: &linked)
                rest = rest?.intersection(linked) ?? linked
                if rest?.isEmpty == true { break }
            }
            if let rest { result.formUnion(rest) }
        }
        if found.isOpen.contains(true) { try putTogether(found.isOpen, node, shapes, rows, probe, among: among, into: &result) }
        return result
    }

    /// Rows whose value in one of the slots (shape and slot in one number; nil: in any) is among the hits.
    func insert(_ hits: RowSet, _ node: TextNode, _ shapes: TextShapes, _ column: Int, _ slots: Set<Int>?, into result: inout RowSet) {
        let places = places(node, shapes, column)
        guard let slots else {
            if places.rows.isEmpty { return result.formUnion(hits) }
            return hits.forEach { result.insert(Int(places.rows[$0])) }
        }
        // Which shapes have a slot that counts, where each has but one of the column.
        let shapeCounts = shapesThatCount(shapes, slots)
        hits.forEach { value in
            let row = places.rows.isEmpty ? value : Int(places.rows[value])
            let shape = Int(shapes.shapeOf[row])
            if shapeCounts[shape], places.slots.isEmpty || slots.contains(shape << 8 | Int(places.slots[value])) { result.insert(row) }
        }
    }

    /// Calls `body` with each of a column's values in one of the slots, and its row.
    func forEachPlace(_ node: TextNode, _ shapes: TextShapes, _ column: Int, _ slots: Set<Int>, _ body: (_ value: Int, _ row: Int) -> Void) {
        let places = places(node, shapes, column)
        let shapeCounts = shapesThatCount(shapes, slots)
        for value in 0..<shapes.counts[column] {
            let row = places.rows.isEmpty ? value : Int(places.rows[value])
            let shape = Int(shapes.shapeOf[row])
            if shapeCounts[shape], places.slots.isEmpty || slots.contains(shape << 8 | Int(places.slots[value])) { body(value, row) }
        }
    }

    private func shapesThatCount(_ shapes: TextShapes, _ slots: Set<Int>) -> [Bool] {
        var counts = [Bool](repeating: false, count: shapes.shapes.count)
        for slot in slots { counts[slot >> 8] = true }
        return counts
    }

    /// What could not be settled otherwise.
    private func putTogether(
        _ isOpen: [Bool], _ node: TextNode, _ shapes: TextShapes, _ rows: ColumnRows, _ probe: TextProbe, among: RowSet?, into result: inout RowSet
    ) throws(ObsError) {
        var open: [UInt32] = []
        for (row, shape) in shapes.shapeOf.enumerated() where isOpen[Int(shape)] && !result.contains(row) && among?.contains(row) != false {
            open.append(UInt32(row))
        }
        guard !open.isEmpty else { return }
        let picks = composer.arena.array(of: UInt32.self, count: open.count)
        _ = picks.initialize(from: open)
        let texts = try composer.ranges(node, rows, UnsafeBufferPointer(picks))
        for (index, row) in open.enumerated() {
            let range = texts.ranges[index]
            let text = fold(UnsafeRawBufferPointer(start: texts.bytes + Int(range.offset), count: Int(range.count)))
            if Self.has(text, bytes(probe), probe.place) { result.insert(Int(row)) }
        }
    }
}

extension TextNode {
    /// Bytes that occur in numbers and such.
    private static let integer: UInt8 = 1
    private static let decimal: UInt8 = 2
    private static let hex: UInt8 = 4
    private static let time: UInt8 = 8
    private static let classes: [UInt8] = (0..<256).map { byte in
        switch UInt8(byte) {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): integer | decimal | hex | time
        case UInt8(ascii: "-"): integer | decimal | time
        case UInt8(ascii: "."): decimal | time
        case UInt8(ascii: "a")...UInt8(ascii: "f"), UInt8(ascii: "A")...UInt8(ascii: "F"): hex
        case UInt8(ascii: ":"), UInt8(ascii: "T"), UInt8(ascii: "Z"), UInt8(ascii: "t"), UInt8(ascii: "z"): time
        default: 0
        }
    }

    /// False: no value can have this, by what it is made of and how long it is. Nothing is read for it.
    func mayHave(_ bytes: UnsafeRawBufferPointer, _ place: TextProbe.Place, foldsCase: Bool) -> Bool {
        func fits(_ kind: UInt8, _ countMax: Int, isOneLength: Bool = false) -> Bool {
            guard bytes.count <= countMax, place != .whole || !isOneLength || bytes.count == countMax else { return false }
            return bytes.allSatisfy { Self.classes[Int($0)] & kind != 0 }
        }
        switch form {
        case .number(.integer(let format), _): return fits(Self.integer, max(format.width, 20))
        case .number(.decimal(let format), _): return fits(Self.decimal, 22 + format.scale)
        case .number(.clock(_, let integer, _), _): return fits(Self.decimal, max(integer.width, 32))
        case .number(.time(let format), _): return fits(Self.time, format.digits > 0 ? 21 + format.digits : 20, isOneLength: true)
        case .number(.int64, _), .number(.float64, _), .number(.instant, _): return bytes.count <= 8
        case .hex(let format, _): return fits(Self.hex, format.digits, isOneLength: true)
        case .constant(let range): return bytes.count <= range.count
        case .plain, .dictionary, .shapes: return true
        }
    }
}
