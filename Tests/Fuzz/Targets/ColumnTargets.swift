// The columns within a block, each decoder alone. The first byte says how many values to ask for; what was decoded must encode and decode to itself.
import ObsCore
import ObsEncoding
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
