internal import ObsCore
internal import ObsEncoding
internal import ObsStore

/// The reading half of LabelIndexWriter: matchers to series, numbers to values.
final class LabelIndex: Sendable {
    struct Page: Sendable {
        /// Rank of the first value.
        var firstRank: Int
        var values: Int
        var first: [UInt8]
        var valuesPlace: FramePlace
        var postingsPlace: FramePlace
    }

    struct Name: Sendable {
        var name: [UInt8]
        var valueCount: Int
        var pages: [Page]
    }

    let seriesCount: Int
    let names: [Name]
    private let file: SegmentFile

    init(_ file: SegmentFile) throws(ObsError) {
        self.file = file
        let place = try file.footer.place(.labelIndex)
        (seriesCount, names) = try file.decode(place) { (cursor: inout ByteCursor) throws(ObsError) -> (Int, [Name]) in
            let seriesCount = try cursor.count(max: Int(Int32.max))
            var names: [Name] = []
            for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                let name = Array(try cursor.text())
                let valueCount = try cursor.count(max: seriesCount)
                var pages: [Page] = []
                var rank = 0
                for _ in 0..<(try cursor.count(max: cursor.remaining)) {
                    let values = try cursor.count(max: SegmentLimits.pageValuesMax)
                    pages.append(
                        Page(
                            firstRank: rank, values: values, first: Array(try cursor.text()), valuesPlace: try cursor.place(before: place.offset),
                            postingsPlace: try cursor.place(before: place.offset)))
                    rank += values
                }
                guard rank == valueCount else { throw ObsError(.corrupt, "pages of a label hold \(rank) values, not \(valueCount)") }
                names.append(Name(name: name, valueCount: valueCount, pages: pages))
            }
            return (seriesCount, names)
        }
    }

    /// Ordinals of the series that satisfy all matchers, ascending: which is label order.
    func select(_ matchers: [LabelMatcher]) throws(ObsError) -> [Int] {
        var selected = SeriesSetBits(count: seriesCount, filled: true)
        for matcher in matchers {
            var hit = SeriesSetBits(count: seriesCount, filled: false)
            // A matcher that takes "" takes every series without the label: then those with a value it refuses are what is taken away.
            let takesAbsent = matcher.matchesEmpty
            if let name = find(Array(matcher.name.utf8)) {
                if matcher.operation == .equal, !takesAbsent {
                    try addEqual(name, Array(matcher.value.utf8), to: &hit)
                } else {
                    try addWhere(name, to: &hit) { matcher.matches($0) != takesAbsent }
                }
            }
            if takesAbsent { selected.subtract(hit) } else { selected.intersect(hit) }
            if selected.isEmpty { return [] }
        }
        return selected.ordinals
    }

    func find(_ name: [UInt8]) -> Name? {
        var low = 0
        var high = names.count
        while low < high {
            let middle = (low + high) / 2
            if names[middle].name.lexicographicallyPrecedes(name) { low = middle + 1 } else { high = middle }
        }
        return low < names.count && names[low].name == name ? names[low] : nil
    }

    /// All values of a label, sorted.
    func values(_ name: Name) throws(ObsError) -> [String] {
        var result: [String] = []
        result.reserveCapacity(name.valueCount)
        for page in name.pages {
            let values = try values(page)
            for range in values.ranges { result.append(values.bytes.string(range)) }
        }
        return result
    }

    /// Appends a value given by its rank.
    func appendValue(_ name: Int, rank: Int, to output: inout [UInt8]) throws(ObsError) {
        guard name < names.count, rank < names[name].valueCount else { throw ObsError(.corrupt, "label value \(rank) does not exist", place: file.path) }
        let pages = names[name].pages
        var low = 0
        var high = pages.count
        while low < high {
            let middle = (low + high) / 2
            if pages[middle].firstRank + pages[middle].values <= rank { low = middle + 1 } else { high = middle }
        }
        let page = pages[low]
        let values = try values(page)
        output.appendText(values.bytes[values.ranges[rank - page.firstRank].range])
    }

    private func addEqual(_ name: Name, _ value: [UInt8], to hit: inout SeriesSetBits) throws(ObsError) {
        guard let at = name.pages.lastIndex(where: { !value.lexicographicallyPrecedes($0.first) }) else { return }
        let page = name.pages[at]
        let values = try values(page)
        guard let index = values.ranges.firstIndex(where: { values.bytes[$0.range].elementsEqual(value) }) else { return }
        try addPostings(page, to: &hit) { $0 == index }
    }

    private func addWhere(_ name: Name, to hit: inout SeriesSetBits, _ wanted: (UnsafeRawBufferPointer) -> Bool) throws(ObsError) {
        for page in name.pages {
            let values = try values(page)
            let chosen = values.bytes.withUnsafeBytes { all in values.ranges.map { wanted(UnsafeRawBufferPointer(rebasing: all[$0.range])) } }
            if chosen.contains(true) { try addPostings(page, to: &hit) { chosen[$0] } }
        }
    }

    private func addPostings(_ page: Page, to hit: inout SeriesSetBits, _ wanted: (Int) -> Bool) throws(ObsError) {
        let postings = try file.cached(page.postingsPlace) { () throws(ObsError) -> (value: Block, bytes: Int) in
            let bytes = try file.read(page.postingsPlace)
            return (Block(bytes), bytes.count)
        }
        do throws(ObsError) {
            try decoding(postings.bytes) { (cursor: inout ByteCursor) throws(ObsError) in
                let lengths = try IntegerCodec.decode(&cursor, count: page.values)
                for (index, length) in lengths.enumerated() {
                    guard let length = Int(exactly: length) else { throw ObsError(.corrupt, "posting list of \(length) bytes") }
                    var list = ByteCursor(try cursor.take(length))
                    if wanted(index) { try hit.insertGaps(&list) }
                }
                try cursor.expectEnd()
            }
        } catch { throw error.located("\(file.path):\(page.postingsPlace.offset)") }
    }

    final class Values: Sendable {
        let bytes: [UInt8]
        let ranges: [ByteRange]
        init(bytes: [UInt8], ranges: [ByteRange]) {
            self.bytes = bytes
            self.ranges = ranges
        }
    }

    private func values(_ page: Page) throws(ObsError) -> Values {
        try file.cached(page.valuesPlace) { () throws(ObsError) -> (value: Values, bytes: Int) in
            let values = try file.decode(page.valuesPlace) { (cursor: inout ByteCursor) throws(ObsError) -> Values in
                var bytes: [UInt8] = []
                let ranges = try cursor.frontCoded(count: page.values, into: &bytes)
                return Values(bytes: bytes, ranges: ranges)
            }
            return (values, values.bytes.count + values.ranges.count * 8)
        }
    }
}

/// A set of series ordinals.
struct SeriesSetBits {
    private var words: [UInt64]
    private let count: Int

    init(count: Int, filled: Bool) {
        self.count = count
        words = [UInt64](repeating: filled ? .max : 0, count: (count + 63) / 64)
        if filled, count % 64 != 0 { words[words.count - 1] = (1 << UInt64(count % 64)) - 1 }
    }

    var isEmpty: Bool { words.allSatisfy { $0 == 0 } }

    mutating func intersect(_ other: SeriesSetBits) { for index in words.indices { words[index] &= other.words[index] } }
    mutating func subtract(_ other: SeriesSetBits) { for index in words.indices { words[index] &= ~other.words[index] } }

    /// Adds a posting list, see `LabelIndexWriter`.
    mutating func insertGaps(_ cursor: inout ByteCursor) throws(ObsError) {
        var next = 0
        for _ in 0..<(try cursor.count(max: count)) {
            let ordinal = next + (try cursor.count(max: count))
            guard ordinal < count else { throw ObsError(.corrupt, "series \(ordinal) of \(count) in a posting list") }
            words[ordinal >> 6] |= 1 << UInt64(ordinal & 63)
            next = ordinal + 1
        }
        try cursor.expectEnd()
    }

    var ordinals: [Int] {
        var result: [Int] = []
        for (index, word) in words.enumerated() where word != 0 {
            var rest = word
            while rest != 0 {
                result.append(index * 64 + rest.trailingZeroBitCount)
                rest &= rest &- 1
            }
        }
        return result
    }
}
