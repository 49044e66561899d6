internal import ObsCore
internal import ObsDisk
internal import ObsEncoding

// The container all three signals share (FORMAT.md, "Segment"):
//
//   header   "OBSSEG" · version u16
//   frames   blocks, then footer sections: each checksummed and compressed by itself (ObsEncoding/Frame), back to back, no gaps
//   footer   one frame: what the segment is (SegmentInfo) and where its sections lie
//   trailer  footer offset u64 · footer length u64 · checksum u64 · "OBSSEG" · version u16
//
// Opening reads the trailer and the footer, usually in one pread; sections and blocks are read when asked for. A file that does not end in a trailer
// was never finished. Because frames follow each other without gaps, `verify` walks the file knowing nothing of signals, and because the
// footer keeps a hash chained over all frame checksums, the trailer's checksum stands for the whole file.

package enum SegmentLimits {
    /// Names (metric names, services) the footer and the catalogue list; with more, the segment must be asked. A catalogue row stays under some 30 kB.
    package static let namesMax = 1024
    /// Rows of an event block a writer makes: enough for each column to compress, few enough that one stream's newest lines cost little.
    package static let blockRowsMax = 8192
    /// And of one a reader takes.
    package static let blockRowsReadMax = 65_536
    /// A block of as many rows ends with its stream, and a merge copies it as it is where nothing comes between its rows.
    package static let blockRowsMin = 2048
    /// Bytes of text after which an event block is cut: bounds what one read holds.
    package static let blockBytesMax = 8 << 20
    /// Samples of a chunk: a longer series is several chunks, so that a short range decodes little.
    package static let chunkSamplesMax = 1024
    /// Samples of a value or time block: large enough for zstd, small enough for the read of one series.
    package static let blockSamplesMax = 16_384
    /// Chunks of a block: their lengths are summed to find one.
    package static let blockChunksMax = 2048
    /// Series of a page of the series table.
    package static let pageSeriesMax = 1024
    /// Values of a page of the label index.
    package static let pageValuesMax = 1024
    /// Bytes of posting lists after which a page of the label index ends early.
    package static let pagePostingsBytesMax = 256 << 10
    /// Series below which a posting list is not even tried as a Roaring set, whose headers alone are as long.
    package static let roaringSeriesMin = 16
    /// Timestamps a writer remembers to find equal time columns (8 bytes each).
    package static let rememberedTimesMax = 1 << 20
}

enum SegmentLayout {
    /// The newest version, which is written, and read with all before. 2: posting lists of metrics may be Roaring sets, lines and attributes are texts.
    /// 3: chunks of metrics have statistics, numbers in texts may be parts of the row's time.
    /// Blocks of events may overlap in time, spans lie by time and their trace filters together.
    /// The index of log blocks counts rows by stream and severity, and says what is in no line.
    static let version: UInt16 = 3

    private static let magic: [UInt8] = Array("OBSSEG".utf8)
    /// Header, and the end of the trailer.
    static func header(_ version: UInt16) -> [UInt8] { magic + [UInt8(truncatingIfNeeded: version), UInt8(truncatingIfNeeded: version >> 8)] }

    /// The version that a header names; nil when it is none.
    static func version(header: [UInt8]) -> UInt16? {
        guard header.count == headerBytes, header.starts(with: magic) else { return nil }
        return UInt16(header[6]) | UInt16(header[7]) << 8
    }

    static let headerBytes = 8
    static let trailerBytes = 32
    /// What opening reads from the end of the file at once.
    static let tailBytes = 16 << 10

    /// zstd level: fast for what a merge will soon rewrite.
    static func compressionLevel(segmentLevel: Int) -> Int { segmentLevel == 0 ? 1 : 3 }

    static func signalNumber(_ signal: Signal) -> UInt8 {
        switch signal {
        case .metrics: 1
        case .logs: 2
        case .traces: 3
        }
    }

    static func signal(_ number: UInt8) throws(ObsError) -> Signal {
        switch number {
        case 1: return .metrics
        case 2: return .logs
        case 3: return .traces
        default: throw ObsError(.corrupt, "unknown signal \(number)")
        }
    }
}

/// Where a frame lies in its file.
struct FramePlace: Sendable, Equatable {
    var offset: Int
    var length: Int
    static let none = FramePlace(offset: 0, length: 0)
    var isNone: Bool { length == 0 }
}

/// Numbers of footer sections are on disk: never renumber. A reader skips those it does not know.
enum SectionKind: UInt64, Sendable {
    /// Metrics: label names, and for each the pages of its values and postings.
    case labelIndex = 1
    /// Metrics: pages of the series table.
    case seriesTable = 2
    /// Metrics: places of time and value blocks.
    case chunkBlocks = 3
    /// Logs: canonical label sets of the streams.
    case streams = 4
    /// Logs, traces: block index.
    case eventBlocks = 5
    /// Merged segments: ids of those it replaces.
    case replaced = 6
    /// Traces: filters of all blocks.
    case traceFilters = 7
    /// Metrics: type, unit and help of metric families.
    case metadata = 8
    /// Logs: what is known of the fields of each block.
    case blockFields = 9
}

/// What the footer says.
struct SegmentFooter: Sendable {
    /// `bytes` and `checksum` are the container's, not the footer's.
    var info: SegmentInfo
    /// Chained over the checksums of all frames before the footer.
    var contentHash: UInt64
    var sections: [(kind: UInt64, place: FramePlace)]

    func place(_ kind: SectionKind) throws(ObsError) -> FramePlace {
        guard let section = sections.first(where: { $0.kind == kind.rawValue }) else { throw ObsError(.corrupt, "footer section \(kind) is missing") }
        return section.place
    }

    func encoded() -> [UInt8] {
        var bytes: [UInt8] = [SegmentLayout.signalNumber(info.signal)]
        bytes.appendText(Array(info.id.utf8))
        bytes.appendText(Array(info.tenant.name.utf8))
        bytes.appendVarint(UInt64(info.level))
        bytes.appendZigzag(info.minTime)
        bytes.appendZigzag(info.maxTime)
        bytes.appendVarint(UInt64(info.rows))
        bytes.appendVarint(UInt64(info.walRanges.count))
        for range in info.walRanges {
            bytes.appendVarint(range.first)
            bytes.appendVarint(range.last)
        }
        for list in [info.names, info.services] {
            bytes.appendVarint(UInt64(list.count))
            for name in list { bytes.appendText(Array(name.utf8)) }
        }
        bytes.appendLittleEndian(contentHash)
        bytes.appendVarint(UInt64(sections.count))
        for section in sections {
            bytes.appendVarint(section.kind)
            bytes.appendPlace(section.place)
        }
        return bytes
    }

    init(info: SegmentInfo, contentHash: UInt64, sections: [(kind: UInt64, place: FramePlace)]) {
        self.info = info
        self.contentHash = contentHash
        self.sections = sections
    }

    /// - Parameter end: offset of the footer: sections lie before.
    init(_ cursor: inout ByteCursor, fileBytes: Int, checksum: UInt64, end: Int) throws(ObsError) {
        let signal = try SegmentLayout.signal(try cursor.u8())
        let id = try cursor.string()
        let name = try cursor.string()
        guard let tenant = try? TenantID(name) else { throw ObsError(.corrupt, "footer names the tenant \(quoted(name))") }
        let level = try cursor.count(max: 255)
        let minTime = try cursor.zigzag()
        let maxTime = try cursor.zigzag()
        let rows = try cursor.varint()
        guard minTime <= maxTime, rows > 0, let rows = Int64(exactly: rows) else { throw ObsError(.corrupt, "footer describes an empty segment") }
        var ranges: [WALRange] = []
        for _ in 0..<(try cursor.count(max: cursor.remaining)) { ranges.append(WALRange(first: try cursor.varint(), last: try cursor.varint())) }
        var lists: [[String]] = [[], []]
        for index in 0..<2 {
            for _ in 0..<(try cursor.count(max: cursor.remaining)) { lists[index].append(try cursor.string()) }
        }
        contentHash = try cursor.u64()
        sections = []
        for _ in 0..<(try cursor.count(max: cursor.remaining)) { sections.append((try cursor.varint(), try cursor.place(before: end))) }
        try cursor.expectEnd()
        info = SegmentInfo(
            id: id, tenant: tenant, signal: signal, level: level, day: Self.day(of: minTime, signal), minTime: minTime, maxTime: maxTime, rows: rows,
            bytes: Int64(fileBytes), walRanges: ranges, checksum: checksum, names: lists[0], services: lists[1])
    }

    static func day(of time: Int64, _ signal: Signal) -> Int {
        // Not floorDivide: it subtracts before it divides and would overflow at Int64.min.
        let unit = signal == .metrics ? millisPerDay : nanosPerDay
        return Int(time / unit) - (time % unit < 0 ? 1 : 0)
    }
}

extension [UInt8] {
    mutating func appendPlace(_ place: FramePlace) {
        appendVarint(UInt64(place.offset))
        appendVarint(UInt64(place.length))
    }
}

extension ByteCursor {
    /// A place that ends at or before `end`.
    mutating func place(before end: Int) throws(ObsError) -> FramePlace {
        let offset = try count(max: end)
        return FramePlace(offset: offset, length: try count(max: end - offset))
    }
}
