internal import Glibc
internal import ObsCore

/// Finds the ways a probe can lie in texts of a shape, see `TextSearch`.
struct ShapeWalk {
    struct Link {
        var slot: Int
        var probe: TextProbe
    }
    struct SingleKey: Hashable {
        var column: Int
        var probe: TextProbe
    }
    struct Found {
        /// Shapes all of whose rows have the probe.
        var all: [Bool]
        /// Shapes whose rows must be put together.
        var isOpen: [Bool]
        /// Rows with a value like this have the probe, where the value is in one of these slots: shape << 8 | slot.
        var single: [SingleKey: (slots: Set<Int>, isEverywhere: Bool)] = [:]
        /// Rows of a shape with all of these values have it.
        var chains: [(shape: Int, links: [Link])] = []
    }
    private let search: TextSearch
    private let shapes: TextShapes
    private let pieces: UnsafeRawBufferPointer
    private let columns: [TextNode]
    private let rows: ColumnRows
    private let probe: TextProbe
    private let needle: UnsafeRawBufferPointer
    /// Whether a piece can have all of it.
    private let isInPieces: Bool
    private(set) var found: Found

    init(_ search: TextSearch, _ shapes: TextShapes, _ pieces: UnsafeRawBufferPointer, _ columns: [TextNode], _ rows: ColumnRows, _ probe: TextProbe) {
        self.search = search
        self.shapes = shapes
        self.pieces = pieces
        self.columns = columns
        self.rows = rows
        self.probe = probe
        needle = search.bytes(probe)
        isInPieces = TextSearch.has(pieces, needle, .anywhere)
        found = Found(all: .init(repeating: false, count: shapes.shapes.count), isOpen: .init(repeating: false, count: shapes.shapes.count))
        if probe.place == .anywhere {
            // Within a value, whichever slot it is in.
            for column in columns.indices {
                let inside = TextProbe(from: probe.from, to: probe.to, place: .anywhere)
                if columns[column].mayHave(needle, .anywhere, foldsCase: search.foldsCase) {
                    found.single[SingleKey(column: column, probe: inside)] = ([], true)
                }
            }
        }
    }

    mutating func shape(_ shape: Int) throws(ObsError) {
        let slots = shapes.shapes[shape].slots.count
        if slots == 0 {
            found.all[shape] = TextSearch.has(piece(shape, 0), needle, probe.place)
            return
        }
        if probe.isAtStart {
            let first = piece(shape, 0)
            if needle.count < first.count || needle.count == first.count && !probe.isAtEnd {
                if !probe.isAtEnd, TextSearch.has(first, needle, .start) { found.all[shape] = true }
            } else if isAt(0, first) {
                try value(shape, 0, first.count, [])
            }
            return
        }
        if try insidePieces(shape, slots) { return }
        try acrossBorders(shape, slots)
    }

    private func piece(_ shape: Int, _ index: Int) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: pieces[shapes.piece(shape, index)]) }

    /// Whether the needle goes on with these bytes.
    private func isAt(_ at: Int, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count <= needle.count - at else { return false }
        guard bytes.count > 0, let base = needle.baseAddress, let other = bytes.baseAddress else { return true }
        return memcmp(base + at, other, bytes.count) == 0
    }

    private mutating func insidePieces(_ shape: Int, _ slots: Int) throws(ObsError) -> Bool {
        guard isInPieces else { return false }
        if probe.isAtEnd {
            if TextSearch.has(piece(shape, slots), needle, .end) { found.all[shape] = true }
        } else {
            for index in 0...slots where TextSearch.has(piece(shape, index), needle, .anywhere) {
                found.all[shape] = true
                break
            }
        }
        return found.all[shape]
    }

    private mutating func acrossBorders(_ shape: Int, _ slots: Int) throws(ObsError) {
        let most = probe.isAtEnd ? needle.count : needle.count - 1
        for slot in 0..<slots {
            // From within the piece before the slot.
            let before = piece(shape, slot)
            if most >= 1, before.count >= 1 {
                for count in 1...max(1, min(before.count, most)) where before[before.count - 1] == needle[count - 1] {
                    if isAt(0, UnsafeRawBufferPointer(rebasing: before[(before.count - count)...])) { try value(shape, slot, count, []) }
                }
            }
            // From within the value.
            let behind = piece(shape, slot + 1)
            if most >= 1 {
                for count in 1...most where behind.isEmpty || count == needle.count || behind[0] == needle[count] {
                    try afterValue(shape, slot, count, [], TextProbe(from: probe.from, to: probe.from + count, place: .end))
                }
            }
            if shapes.slots[shapes.shapes[shape].slots.lowerBound + slot].hasLength { try fromLength(shape, slot) }
        }
    }

    /// From within the length in front of a value: its last bytes are what the needle begins with.
    private mutating func fromLength(_ shape: Int, _ slot: Int) throws(ObsError) {
        for count in 1...5 where count <= needle.count && needle[count - 1] < 0x80 && needle[..<(count - 1)].allSatisfy({ $0 >= 0x80 }) {
            // Letters of a folded needle may be the length's in another case: all the same, it is open.
            found.isOpen[shape] = true
        }
    }

    private func column(_ shape: Int, _ slot: Int) -> Int { Int(shapes.slots[shapes.shapes[shape].slots.lowerBound + slot].column) }

    private mutating func hasHits(_ shape: Int, _ slot: Int, _ probe: TextProbe) throws(ObsError) -> Bool {
        let column = column(shape, slot)
        guard columns[column].mayHave(search.bytes(probe), probe.place, foldsCase: search.foldsCase) else { return false }
        return !(try search.hits(columns[column], rows.column(column, of: shapes), probe).isEmpty)
    }

    /// The rest of the needle begins where a slot's value does.
    private mutating func value(_ shape: Int, _ slot: Int, _ at: Int, _ links: [Link]) throws(ObsError) {
        search.cuts += 1
        if shapes.slots[shapes.shapes[shape].slots.lowerBound + slot].hasLength || search.cuts > TextSearch.cutsMax {
            found.isOpen[shape] = true
            return
        }
        let from = probe.from + at
        if !probe.isAtEnd { emit(shape, links + [Link(slot: slot, probe: TextProbe(from: from, to: probe.to, place: .start))]) }
        let behind = piece(shape, slot + 1)
        for count in 0...needle.count - at {
            let next = at + count
            // The value ends here, and something of the needle is left for what is behind it.
            guard next < needle.count || probe.isAtEnd, behind.isEmpty || next == needle.count || behind[0] == needle[next] else { continue }
            try afterValue(shape, slot, next, links, TextProbe(from: from, to: from + count, place: .whole))
        }
    }

    /// A slot's value has what the link says, and the needle goes on behind it.
    private mutating func afterValue(_ shape: Int, _ slot: Int, _ at: Int, _ links: [Link], _ link: TextProbe) throws(ObsError) {
        let behind = piece(shape, slot + 1)
        let rest = needle.count - at
        let isLast = slot + 1 == shapes.shapes[shape].slots.count
        if rest < behind.count || rest == behind.count && (isLast || !probe.isAtEnd) {
            // The needle ends in this piece: with it, or within.
            guard !probe.isAtEnd || isLast && rest == behind.count else { return }
            guard rest == 0 || isAt(at, UnsafeRawBufferPointer(rebasing: behind[..<rest])) else { return }
            emit(shape, links + [Link(slot: slot, probe: link)])
        } else if !isLast, isAt(at, behind) {
            if try hasHits(shape, slot, link) { try value(shape, slot + 1, at + behind.count, links + [Link(slot: slot, probe: link)]) }
        }
    }

    private mutating func emit(_ shape: Int, _ links: [Link]) {
        guard
            links.allSatisfy({ columns[column(shape, $0.slot)].mayHave(search.bytes($0.probe), $0.probe.place, foldsCase: search.foldsCase) })
        else { return }
        if links.count == 1 {
            let key = SingleKey(column: column(shape, links[0].slot), probe: links[0].probe)
            if found.single[key]?.isEverywhere != true { found.single[key, default: ([], false)].slots.insert(shape << 8 | links[0].slot) }
        } else {
            found.chains.append((shape, links))
        }
    }
}
