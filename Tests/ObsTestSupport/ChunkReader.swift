package import ObsCore

/// Reads chunks of Prometheus' TSDB encodings: what a client of remote read does. Bytes must be well-formed.
package struct ChunkReader {
    private let bytes: [UInt8]
    private var at = 0

    package init(_ bytes: [UInt8]) { self.bytes = bytes }

    private mutating func bits(_ count: Int) -> UInt64 {
        var value: UInt64 = 0
        for _ in 0..<count {
            value = value << 1 | UInt64(bytes[at / 8] >> UInt8(7 - at % 8) & 1)
            at += 1
        }
        return value
    }

    /// `count` bits, of which the upper half are negative numbers but for the very first.
    private mutating func signed(_ count: Int) -> Int64 {
        let raw = bits(count)
        if count < 64, raw > 1 << UInt64(count - 1) { return Int64(raw) - 1 << Int64(count) }
        return Int64(bitPattern: raw)
    }

    private mutating func ones(atMost count: Int) -> Int {
        var found = 0
        while found < count, bits(1) == 1 { found += 1 }
        return found
    }

    private mutating func varint() -> UInt64 {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let byte = bits(8)
            value |= (byte & 0x7f) << shift
            if byte < 0x80 { return value }
            shift += 7
        }
    }

    private struct XOR {
        var last: UInt64 = 0
        var leading = 0
        var trailing = 0
        var isFirst = true
    }

    private mutating func next(_ column: inout XOR) -> UInt64 {
        if column.isFirst {
            column.isFirst = false
            column.last = bits(64)
            return column.last
        }
        if bits(1) == 0 { return column.last }
        if bits(1) == 1 {
            column.leading = Int(bits(5))
            let count = Int(bits(6))
            column.trailing = 64 - column.leading - (count == 0 ? 64 : count)
        }
        column.last ^= bits(64 - column.leading - column.trailing) << UInt64(column.trailing)
        return column.last
    }

    /// Of an XOR chunk.
    package mutating func samples() -> (times: [Int64], values: [Double]) {
        var samples: (times: [Int64], values: [Double]) = ([], [])
        var value = XOR()
        var time: Int64 = 0
        var delta: Int64 = 0
        for row in 0..<Int(bits(16)) {
            switch row {
            case 0:
                let raw = varint()
                time = Int64(bitPattern: raw >> 1) ^ -Int64(bitPattern: raw & 1)
            case 1:
                delta = Int64(bitPattern: varint())
                time += delta
            default:
                switch ones(atMost: 4) {
                case 0: break
                case 1: delta += signed(14)
                case 2: delta += signed(17)
                case 3: delta += signed(20)
                default: delta += signed(64)
                }
                time += delta
            }
            samples.times.append(time)
            samples.values.append(Double(bitPattern: next(&value)))
        }
        return samples
    }

    // MARK: Histograms

    private static let widths = [0, 3, 6, 9, 12, 18, 25, 56, 64]
    private mutating func varbit() -> Int64 {
        let ones = ones(atMost: 8)
        return ones == 0 ? 0 : signed(Self.widths[ones])
    }
    private mutating func varbitUnsigned() -> UInt64 {
        let ones = ones(atMost: 8)
        return ones == 0 ? 0 : bits(Self.widths[ones])
    }

    private mutating func spans() -> [BucketSpan] {
        (0..<varbitUnsigned()).map { _ in
            let length = UInt32(varbitUnsigned())
            return BucketSpan(offset: Int32(varbit()), length: length)
        }
    }

    private mutating func layout(isFloat: Bool) -> HistogramLayout {
        let width: Double
        switch bits(8) {
        case 0: width = 0
        case 255: width = Double(bitPattern: bits(64))
        case let exponent: width = Double(sign: .plus, exponent: Int(exponent) - 244, significand: 1)
        }
        let schema = Int8(varbit())
        let positive = spans()
        let negative = spans()
        var bounds: [Double] = []
        if schema == HistogramLayout.customSchema {
            for _ in 0..<varbitUnsigned() {
                let thousandths = varbitUnsigned()
                bounds.append(thousandths == 0 ? Double(bitPattern: bits(64)) : Double(thousandths - 1) / 1000)
            }
        }
        return HistogramLayout(schema: schema, isFloat: isFloat, zeroThreshold: width, positive: positive, negative: negative, customBounds: bounds)
    }

    /// Of a chunk of histograms; resets as a reader takes them.
    package mutating func histograms(isFloat: Bool) -> HistogramColumns {
        var rows = HistogramColumns()
        let count = Int(bits(16))
        let header = bits(8)
        let layout = layout(isFloat: isFloat)
        let number = rows.intern(layout)
        var time = (last: Int64(0), delta: Int64(0))
        var columns = [(last: Int64, delta: Int64)](repeating: (0, 0), count: 2 + layout.bucketCount)
        var floats = [XOR](repeating: XOR(), count: 3 + layout.bucketCount)
        func advance(_ column: inout (last: Int64, delta: Int64), _ change: Int64, isFirst: Bool) -> Int64 {
            if isFirst {
                column.last = change
            } else {
                column.delta += change
                column.last += column.delta
            }
            return column.last
        }
        for row in 0..<count {
            let isFirst = row == 0
            let when = advance(&time, varbit(), isFirst: isFirst)
            var counts: [UInt64] = []
            let sum: UInt64
            if isFloat {
                counts = [next(&floats[0]), next(&floats[1])]
                sum = next(&floats[2])
            } else {
                for place in 0..<2 {
                    let change = isFirst ? Int64(bitPattern: varbitUnsigned()) : varbit()
                    counts.append(UInt64(bitPattern: advance(&columns[place], change, isFirst: isFirst)))
                }
                sum = next(&floats[2])
            }
            var buckets: [UInt64] = []
            var total: Int64 = 0
            for place in 0..<layout.bucketCount {
                if isFloat {
                    buckets.append(next(&floats[3 + place]))
                } else {
                    if place == layout.positiveCount { total = 0 }
                    total += advance(&columns[2 + place], varbit(), isFirst: isFirst)
                    buckets.append(UInt64(bitPattern: total))
                }
            }
            let reset: CounterReset = header == 0xc0 ? .gauge : row > 0 ? .noReset : header == 0x80 ? .reset : header == 0x40 ? .noReset : .unknown
            rows.append(
                timeMillis: when, layout: number, reset: reset, count: counts[0], zeroCount: counts[1], sum: Double(bitPattern: sum), buckets: buckets)
        }
        return rows
    }
}
