// The columns within a block, each decoder alone. The first byte says how many values to ask for; what was decoded must encode and decode to itself.
import ObsCore
import ObsEncoding
import ObsStore
@testable import ObsSegment

let columnTargets: [FuzzTarget] = [
    FuzzTarget("column-integers") { bytes in
        let values = try column(bytes) { (cursor: inout ByteCursor, count) throws(ObsError) in try IntegerCodec.decode(&cursor, count: count) }
        var encoded: [UInt8] = []
        IntegerCodec.append(values, to: &encoded)
        let again = required { try decoding(encoded) { (cursor: inout ByteCursor) throws(ObsError) in try IntegerCodec.decode(&cursor, count: values.count) } }
        precondition(again == values)
    },
    FuzzTarget("column-floats") { bytes in
        let values = try column(bytes) { (cursor: inout ByteCursor, count) throws(ObsError) in try FloatCodec.decode(&cursor, count: count) }
        var encoded: [UInt8] = []
        FloatCodec.append(values, to: &encoded)
        let again = required { try decoding(encoded) { (cursor: inout ByteCursor) throws(ObsError) in try FloatCodec.decode(&cursor, count: values.count) } }
        precondition(again.map(\.bitPattern) == values.map(\.bitPattern))
    },
    FuzzTarget("column-statistics") { bytes in
        let chunks = statisticsChunks(bytes.first.map(Int.init) ?? 0)
        let summaries = try column(bytes) { (cursor: inout ByteCursor, _) throws(ObsError) in try ChunkStatistics.decode(&cursor, chunks) }
        for (chunk, summary) in zip(chunks, summaries) { precondition(summary.count + summary.staleCount <= chunk.samples) }
        var encoded: [UInt8] = []
        ChunkStatistics.append(chunks, summaries, to: &encoded)
        let again = required { try decoding(encoded) { (cursor: inout ByteCursor) throws(ObsError) in try ChunkStatistics.decode(&cursor, chunks) } }
        precondition(again.map(\.count) == summaries.map(\.count) && again.map(\.known) == summaries.map(\.known))
    },
    FuzzTarget("column-histograms") { bytes in
        let decoded = try histograms(bytes)
        precondition(required { try histogramsAgain(decoded) } == decoded)
    },
    FuzzTarget("column-strings") { bytes in
        var text: [UInt8] = []
        let ranges = try column(bytes) { (cursor: inout ByteCursor, count) throws(ObsError) in
            try StringColumn.decode(&cursor, count: count, into: &text)
        }
        var encoded: [UInt8] = []
        StringColumn.append(ranges, of: text, to: &encoded)
        var textAgain: [UInt8] = []
        let again = required {
            try decoding(encoded) { (cursor: inout ByteCursor) throws(ObsError) in
                try StringColumn.decode(&cursor, count: ranges.count, into: &textAgain)
            }
        }
        precondition(again.map { Array(textAgain[$0.range]) } == ranges.map { Array(text[$0.range]) })
    },
    FuzzTarget("column-texts") { bytes in
        guard let count = bytes.first.map(Int.init) else { return }
        var text: [UInt8] = []
        let times = (0..<count).map { Int64($0) * 1_000_000 }
        let decoded = try? Array(bytes.dropFirst()).withUnsafeBytes { try TextColumn.decode($0, count: count, times: times, bytesMax: 1 << 20, into: &text) }
        if let decoded { textsComeBack(decoded.map { Array(text[$0.range]) }, .lines, times) }
    },
    FuzzTarget("texts") { bytes in
        guard let kind = bytes.first else { return }
        let lines = bytes.dropFirst().split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { Array($0) }
        // Each more than once: what comes back otherwise would show in a dictionary or a shape.
        let texts = lines + lines.reversed() + lines.prefix(3)
        let contents: [TextColumn.Content] = [.lines, .attributes, .events, .links]
        textsComeBack(texts, contents[Int(kind & 1 | kind >> 6 & 2)], kind & 2 == 0 ? [] : texts.indices.map { Int64($0) << Int64(kind >> 2 & 31) })
    },
    FuzzTarget("text-view") { bytes in
        guard bytes.count > 3 else { return }
        let count = Int(bytes[0])
        let view = try TextView(Array(bytes.dropFirst(3)), count: count, times: (0..<count).map { Int64($0) * 1_000_000 }, bytesMax: 1 << 20)
        var some = RowSet(count: count)
        for row in stride(from: 0, to: count, by: 1 + Int(bytes[1] & 7)) { some.insert(row) }
        var text: [UInt8] = []
        var needles = [Array(bytes[(Int(bytes[1]) % bytes.count)...].prefix(Int(bytes[2] & 15)))]
        if let ranges = try? view.texts(of: some, into: &text), let range = ranges.max(by: { $0.count < $1.count }) {
            needles.append(Array(text[range.range].dropFirst(Int(bytes[1])).prefix(1 + Int(bytes[2] >> 4))))
        }
        for needle in needles { _ = try? view.rows(containing: needle, ignoringCase: bytes[1] & 8 != 0, among: some) }
    },
    FuzzTarget("text-filter") { bytes in
        let filter = try TextFilter(bytes)
        for needle in ["absentword", "0123456789abcdef", "0123456789abcdef0123456789abcdef", "2026-11-23T00:00", "abc12345"] {
            _ = filter.mayContain(Array(needle.utf8), ignoringCase: true)
        }
    },
    FuzzTarget("text-fields") { bytes in
        guard let kind = bytes.first else { return }
        let lines = bytes.dropFirst().split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).map { Array($0) }
        fieldsAreFound(lines + lines.reversed() + lines.prefix(3), kind & 1 == 0 ? .lines : .attributes, kind & 2 == 0 ? 1 : 8)
    },
    FuzzTarget("field-statistics") { bytes in
        let known = try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in try FieldStatistics(&cursor, rows: 1000) }
        for source in [FieldSource.line, .attributes] {
            for field in known.fields(source).fields {
                for test in fieldTests(Array("500".utf8)) { if let counts = field.values.counts(test) { precondition(counts.passing <= counts.having) } }
                _ = field.values.excludes(.compares(.less, .number(.double(.nan))))
            }
        }
    },
    FuzzTarget("column-trace-ids") { bytes in
        let ids = try column(bytes) { (cursor: inout ByteCursor, count) throws(ObsError) in try TraceIDColumn.decode(&cursor, count: count) }
        var encoded: [UInt8] = []
        TraceIDColumn.append(ids, to: &encoded)
        let again = required { try decoding(encoded) { (cursor: inout ByteCursor) throws(ObsError) in try TraceIDColumn.decode(&cursor, count: ids.count) } }
        precondition(again == ids)
    },
    FuzzTarget("front-coded") { bytes in
        var text: [UInt8] = []
        let ranges = try column(bytes) { (cursor: inout ByteCursor, count) throws(ObsError) in try cursor.frontCoded(count: count, into: &text) }
        for range in ranges { _ = text[range.range] }
    },
    FuzzTarget("chunk-block") { bytes in
        guard let index = bytes.first else { return }
        let block = try ChunkBlock(Array(bytes.dropFirst()))
        for index in [0, 1, Int(index)] {
            _ = try? block.column(index) { (cursor: inout ByteCursor) throws(ObsError) in try IntegerCodec.decode(&cursor, count: 3) }
        }
    },
    FuzzTarget("posting-list") { bytes in
        var series = SeriesBits(count: 70_000)
        try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) in try series.insert(&cursor) }
        precondition(series.ordinals.allSatisfy { $0 < 70_000 })
    },
    FuzzTarget("frame") { bytes in _ = try Frame.content(of: bytes) },
]

private func column<R>(_ bytes: [UInt8], _ decode: (inout ByteCursor, Int) throws(ObsError) -> R) throws(ObsError) -> R {
    try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> R in
        let count = Int(try cursor.u8())
        return try decode(&cursor, count < 200 ? count : (count - 199) * 97)
    }
}

/// Layouts, then runs of rows.
private func histograms(_ bytes: [UInt8]) throws(ObsError) -> HistogramColumns {
    try decoding(bytes) { (cursor: inout ByteCursor) throws(ObsError) -> HistogramColumns in
        var layouts: [HistogramLayout] = []
        for _ in 0..<(try cursor.count(max: cursor.remaining)) { layouts.append(try HistogramCodec.decodeLayout(&cursor)) }
        var histograms = HistogramColumns()
        while !cursor.isAtEnd {
            try HistogramCodec.decode(&cursor, count: try cursor.count(max: HistogramCodec.rowsMax), layouts: layouts, into: &histograms)
        }
        for row in 0..<histograms.count { _ = histograms.fault(ofRow: row) }
        return histograms
    }
}

private func histogramsAgain(_ decoded: HistogramColumns) throws(ObsError) -> HistogramColumns {
    var encoded: [UInt8] = []
    encoded.appendVarint(UInt64(decoded.layouts.count))
    for layout in decoded.layouts { HistogramCodec.append(layout, to: &encoded) }
    for rows in HistogramCodec.runs(decoded) {
        encoded.appendVarint(UInt64(rows.count))
        HistogramCodec.append(decoded, rows: rows, layouts: decoded.layouts.indices.map { Int64($0) }, to: &encoded)
    }
    return try histograms(encoded)
}

/// Packs and unpacks texts, which must be the same then; what is in one must be found in it.
private func textsComeBack(_ texts: [[UInt8]], _ content: TextColumn.Content, _ times: [Int64]) {
    var bytes: [UInt8] = []
    let ranges = texts.map { text in text.withUnsafeBytes { bytes.intern($0) } }
    var packed: [UInt8] = []
    var filterBytes: [UInt8] = []
    bytes.withUnsafeBytes { TextColumn.append(ranges, of: $0, as: content, times: times, level: 1, to: &packed, filter: &filterBytes) }
    let view = required { try TextView(packed, count: texts.count, times: times, bytesMax: 1 << 28) }
    let filter = required { try TextFilter(filterBytes) }
    var back: [UInt8] = []
    let again = required { try view.texts(of: nil, into: &back) }
    precondition(again.map { Array(back[$0.range]) } == texts)
    for (row, text) in texts.enumerated().prefix(4) where !text.isEmpty {
        let from = (row * 7 + text.count / 3) % text.count
        let needle = Array(text[from...].prefix(1 + text.count % 23))
        let found = required { try view.rows(containing: needle, ignoringCase: false, among: RowSet(all: texts.count)) }
        precondition(found.rows == texts.indices.filter { row in texts[row].indices.contains { texts[row][$0...].starts(with: needle) } })
        precondition(content == .attributes || filter.mayContain(needle, ignoringCase: false))
    }
}

private func fieldTests(_ value: [UInt8]) -> [FieldTest] {
    let number = value.withUnsafeBytes { FieldNumber($0) } ?? .integer(500)
    return [
        .exists, .compares(.equal, .text(value)), .compares(.less, .number(number)), .compares(.greaterOrEqual, .number(number)), .holds { $0.count & 1 == 1 },
    ]
}

/// Asks a column what a walk over its texts says, and compares what is said of its fields.
private func fieldsAreFound(_ texts: [[UInt8]], _ content: TextColumn.Content, _ repeats: Int) {
    let texts = Array(repeatElement(texts, count: repeats).joined())
    let source = content == .lines ? FieldSource.line : .attributes
    let statistics = FieldStatisticsWriter()
    var bytes: [UInt8] = []
    let ranges = texts.map { text in text.withUnsafeBytes { bytes.intern($0) } }
    var packed: [UInt8] = []
    var filter: [UInt8] = []
    bytes.withUnsafeBytes { TextColumn.append(ranges, of: $0, as: content, level: 1, to: &packed, filter: &filter, fields: statistics) }
    let view = required { try TextView(packed, count: texts.count, times: [], bytesMax: 1 << 28) }
    let written = statistics.finish()
    let known =
        written.isEmpty
        ? FieldStatistics()
        : required { try decoding(written) { (cursor: inout ByteCursor) throws(ObsError) in try FieldStatistics(&cursor, rows: texts.count) } }
    for path in [FieldPath("a"), FieldPath("b"), FieldPath("a", "b")] {
        let values = texts.map { text in text.withUnsafeBytes { path.withValue(in: $0, source) { $0.text($1) } } }
        for test in fieldTests(values.lazy.compactMap { $0 }.first ?? Array("x".utf8)) {
            let found = required { try view.rows(where: path, of: source, pass: test, among: RowSet(all: texts.count)) }
            precondition(found.rows == texts.indices.filter { row in texts[row].withUnsafeBytes { test.passes(path, in: $0, source) } })
            guard let said = known.values(of: path, source) else {
                precondition(found.isEmpty)
                continue
            }
            precondition(!said.excludes(test) || found.isEmpty)
            if let counts = said.counts(test) { precondition(counts.passing == found.population) }
        }
        let numbers = required { try view.values(of: path, source, among: RowSet(all: texts.count)) }
        for row in texts.indices { precondition((numbers.ofRow[row] == 0 ? nil : numbers.texts[Int(numbers.ofRow[row]) - 1]) == values[row]) }
    }
}

/// Chunks that a page of statistics is of.
func statisticsChunks(_ count: Int) -> [Chunk] {
    (0..<count).map {
        Chunk(
            minTime: Int64($0), maxTime: Int64($0) + 600_000, samples: 1 + $0 * 7 % 100, times: ColumnPlace(block: 0, index: 0),
            values: ColumnPlace(block: 0, index: 0))
    }
}

/// Pages of statistics of every shape.
func statisticsSeeds() -> [[UInt8]] {
    [1, 12, 90].map { count in
        let chunks = statisticsChunks(count)
        let summaries = chunks.enumerated().map { number, chunk in
            let times = (0..<chunk.samples).map { chunk.minTime + Int64($0 * 600_000 / max(1, chunk.samples - 1)) }
            let values = (0..<chunk.samples).map { index -> Double in
                switch number % 6 {
                case 0: return 2.5
                case 1: return Double(index * number)
                case 2: return Double(index * 37 % 11) / 10
                case 3: return Double(index % 40)
                case 4: return 1 / Double(index + 3)
                default: return index == 0 ? SpecialValue.stale : Double(index)
                }
            }
            return times.withUnsafeBufferPointer { times in values.withUnsafeBufferPointer { ChunkStatistics.make(times, $0) } }
        }
        var bytes = [UInt8(count)]
        ChunkStatistics.append(chunks, summaries, to: &bytes)
        return bytes
    }
}
