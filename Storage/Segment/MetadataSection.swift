internal import ObsCore
internal import ObsEncoding
internal import ObsStore

// What is known of metric families, as it was when the segment was flushed: `varint families · (text name · type u8 · text unit · text help) × families`, by name.
// Every segment of a flush has it whole; a merge keeps of each family what the newest of its inputs has.

enum MetadataSection {
    static func encode(_ families: MetricFamilies) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.appendVarint(UInt64(families.count))
        for (name, entry) in families.sorted {
            bytes.appendText(name)
            bytes.append(entry.type.rawValue)
            bytes.appendText(entry.unit)
            bytes.appendText(entry.help)
        }
        return bytes
    }

    static func decode(_ cursor: inout ByteCursor) throws(ObsError) -> MetricFamilies {
        var families = MetricFamilies()
        for _ in 0..<(try cursor.count(max: cursor.remaining)) {
            let name = Array(try cursor.text())
            // A type of later days is none we know.
            let type = MetricType(rawValue: try cursor.u8()) ?? .unknown
            families.set(name, MetricFamilies.Entry(type: type, unit: Array(try cursor.text()), help: Array(try cursor.text())))
        }
        return families
    }
}
