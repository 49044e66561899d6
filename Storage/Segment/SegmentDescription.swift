package import ObsCore
package import ObsDisk
internal import ObsEncoding

/// A segment file taken apart, for people: what lies where and what it weighs.
package struct SegmentDescription: Sendable {
    /// A section or a block.
    package struct Part: Sendable {
        package var name: String
        package var offset: Int
        package var bytes: Int
        /// 0 where it has no rows of its own.
        package var rows: Int
        package var minTime: Int64?
        package var maxTime: Int64?
    }
    package var info: SegmentInfo
    package var version: Int
    package var footerOffset: Int
    package var sections: [Part] = []
    package var blocks: [Part] = []
    /// Stored bytes by column of events; of metrics by kind of block.
    package var columns: [(name: String, bytes: Int)] = []
}

/// - Throws: `.corrupt` when the segment does not open.
package func describeSegment(_ fileSystem: any FileSystem, _ path: String) throws(ObsError) -> SegmentDescription {
    let file = try SegmentFile(fileSystem, path, cache: BlockCache(bytesMax: 0))
    var description = SegmentDescription(info: file.info, version: file.version, footerOffset: file.dataEnd)
    for section in file.footer.sections {
        let name = SectionKind(rawValue: section.kind).map { "\($0)" } ?? "kind \(section.kind)"
        description.sections.append(SegmentDescription.Part(name: name, offset: section.place.offset, bytes: section.place.length, rows: 0))
    }
    switch file.info.signal {
    case .metrics: try MetricSegmentReader.open(fileSystem, path).describe(&description)
    case .logs:
        let reader = try LogSegmentReader.open(fileSystem, path)
        describe(reader.blocks.map { ($0.places, $0.rows, $0.minNanos, $0.maxNanos) }, LogColumn.allCases.map { "\($0)" }, &description)
    case .traces:
        let reader = try SpanSegmentReader.open(fileSystem, path)
        describe(reader.blocks.map { ($0.places, $0.rows, $0.minStartNanos, $0.maxStartNanos) }, SpanColumn.allCases.map { "\($0)" }, &description)
    }
    return description
}

private func describe(
    _ blocks: [(places: EventBlockPlaces, rows: Int, minTime: Int64, maxTime: Int64)], _ columns: [String], _ description: inout SegmentDescription
) {
    var bytes = [Int](repeating: 0, count: columns.count)
    for (number, block) in blocks.enumerated() {
        description.blocks.append(
            SegmentDescription.Part(
                name: "\(number)", offset: block.places.offset, bytes: block.places.bytes, rows: block.rows, minTime: block.minTime, maxTime: block.maxTime))
        for (column, length) in block.places.lengths.prefix(columns.count).enumerated() { bytes[column] += length }
    }
    description.columns = zip(columns, bytes).map { ($0, $1) }
}

extension MetricSegmentReader {
    fileprivate func describe(_ description: inout SegmentDescription) throws(ObsError) {
        for (kind, places) in [("time", timeBlocks), ("value", valueBlocks)] {
            for (number, place) in places.enumerated() {
                description.blocks.append(SegmentDescription.Part(name: "\(kind) \(number)", offset: place.offset, bytes: place.length, rows: 0))
            }
            description.columns.append(("\(kind)s", places.reduce(0) { $0 + $1.length }))
        }
        description.columns.append(("statistics", table.statisticsBytes))
        let blocks = description.columns.reduce(0) { $0 + $1.bytes }
        description.columns.append(("series and labels", description.footerOffset - SegmentLayout.headerBytes - blocks))
    }
}
