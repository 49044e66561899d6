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

    /// Ordinals of the series that satisfy all matchers of at least one selector, ascending: which is label order.
    func select(_ selectors: [[LabelMatcher]]) throws(ObsError) -> [Int] {
        if selectors.count == 1 { return try select(selectors[0]).ordinals }
        var selected = SeriesBits(count: seriesCount)
        for selector in selectors { selected.unite(try select(selector)) }
        return selected.ordinals
    }

    private func select(_ matchers: [LabelMatcher]) throws(ObsError) -> SeriesBits {
        var selected = SeriesBits(count: seriesCount, filled: true)
        for matcher in matchers {
            var hit = SeriesBits(count: seriesCount)
            // A matcher that takes "" takes every series without the label: then those with a value it refuses are what is taken away.
            let takesAbsent = matcher.matchesEmpty
            if let name = find(Array(matcher.name.utf8)) {
                switch matcher.operation {
                case .equal where !takesAbsent, .notEqual where takesAbsent: try addEqual(name, Array(matcher.value.utf8), to: &hit)
                default: try addWhere(name, to: &hit) { matcher.matches($0) != takesAbsent }
                }
            }
            if takesAbsent { selected.subtract(hit) } else { selected.intersect(hit) }
            if selected.isEmpty { break }
        }
        return selected
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

    /// Walks the values of a label in order, those of the wanted ranks, until `body` returns false; pages without one are not read.
    func forEachValue(_ name: Name, where isWanted: (Int) -> Bool, _ body: (UnsafeRawBufferPointer) -> Bool) throws(ObsError) {
        for page in name.pages {
            let wanted = (0..<page.values).filter { isWanted(page.firstRank + $0) }
            if wanted.isEmpty { continue }
            let values = try values(page)
            let goesOn = values.bytes.withUnsafeBytes { bytes in
                wanted.allSatisfy { body(UnsafeRawBufferPointer(rebasing: bytes[values.ranges[$0].range])) }
            }
            if !goesOn { return }
        }
    }

    /// Appends a value given by its rank.
    func appendValue(_ name: Int, rank: Int, to output: inout [UInt8]) throws(ObsError) {
        let (first, values) = try values(name, rank: rank)
        output.appendText(values.bytes[values.ranges[rank - first].range])
    }

    /// The page that holds the value of a rank, and the rank of its first value.
    func values(_ name: Int, rank: Int) throws(ObsError) -> (first: Int, values: Values) {
        guard name < names.count, rank < names[name].valueCount else { throw ObsError(.corrupt, "label value \(rank) does not exist", place: file.path) }
        let pages = names[name].pages
        let page = pages[partitioningIndex(pages.count) { pages[$0].firstRank + pages[$0].values > rank }]
        return (page.firstRank, try values(page))
    }

    private func addEqual(_ name: Name, _ value: [UInt8], to hit: inout SeriesBits) throws(ObsError) {
        let after = partitioningIndex(name.pages.count) { value.lexicographicallyPrecedes(name.pages[$0].first) }
        guard after > 0 else { return }
        let page = name.pages[after - 1]
        let values = try values(page)
        let index = values.bytes.withUnsafeBytes { all in
            value.withUnsafeBytes { value in
                let index = partitioningIndex(page.values) { compareBytes(UnsafeRawBufferPointer(rebasing: all[values.ranges[$0].range]), value) >= 0 }
                return index < page.values && compareBytes(UnsafeRawBufferPointer(rebasing: all[values.ranges[index].range]), value) == 0 ? index : nil
            }
        }
        if let index { try addPostings(page, to: &hit) { $0 == index } }
    }

    private func addWhere(_ name: Name, to hit: inout SeriesBits, _ wanted: (UnsafeRawBufferPointer) -> Bool) throws(ObsError) {
        for page in name.pages {
            let values = try values(page)
            let chosen = values.bytes.withUnsafeBytes { all in values.ranges.map { wanted(UnsafeRawBufferPointer(rebasing: all[$0.range])) } }
            if chosen.contains(true) { try addPostings(page, to: &hit) { chosen[$0] } }
        }
    }

    private func addPostings(_ page: Page, to hit: inout SeriesBits, _ wanted: (Int) -> Bool) throws(ObsError) {
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
                    if wanted(index) { try hit.insert(&list) }
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
            let values = try readValues(page)
            return (values, values.bytes.count + values.ranges.count * 8)
        }
    }

    /// Reads a page past the cache.
    func readValues(_ page: Page) throws(ObsError) -> Values {
        try file.decode(page.valuesPlace) { (cursor: inout ByteCursor) throws(ObsError) -> Values in
            var bytes: [UInt8] = []
            let ranges = try cursor.frontCoded(count: page.values, into: &bytes)
            return Values(bytes: bytes, ranges: ranges)
        }
    }
}

/// The first index of a sorted list of `count` for which `isAfter` holds; `count` when there is none.
private func partitioningIndex(_ count: Int, _ isAfter: (Int) -> Bool) -> Int {
    var low = 0
    var high = count
    while low < high {
        let middle = (low + high) / 2
        if isAfter(middle) { high = middle } else { low = middle + 1 }
    }
    return low
}
