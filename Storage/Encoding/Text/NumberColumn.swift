internal import ObsCore

/// A column of numbers compared as such: what a walk over the values as they are printed would find.
struct NumberColumn {
    private enum Kind {
        case integers, unsigned
        /// Digits behind the dot.
        case decimals(Int)
        case doubles
    }
    private let kind: Kind

    /// Nil when values have to be printed.
    init?(_ format: NumberText, _ form: FieldForm) {
        let isText = form == .jsonString || form == .jsonWord || form == .text
        switch (format, form) {
        case (.integer(let integer), _) where isText: kind = integer.width == IntegerText.unsigned ? .unsigned : .integers
        case (.clock(_, let integer, let decimal), _) where isText:
            kind = decimal.scale > 0 ? .decimals(decimal.scale) : integer.width == IntegerText.unsigned ? .unsigned : .integers
        case (.decimal(let decimal), _) where isText: kind = decimal.scale > 0 ? .decimals(decimal.scale) : .integers
        case (.int64, .int): kind = .integers
        case (.float64, .double): kind = .doubles
        default: return nil
        }
    }

    /// Which values stand in an order to a number; nil when they are too long to be compared as they are stored.
    func rows(_ numbers: UnsafeBufferPointer<Int64>, _ order: FieldTest.Order, _ wanted: FieldNumber) -> RowSet? {
        switch kind {
        case .integers: return rows(numbers, within: order.integers(wanted))
        case .unsigned:
            return rows(numbers) { number in
                number >= 0 ? FieldNumber.compare(.integer(number), wanted) : FieldNumber.compare(.double(Double(UInt64(bitPattern: number))), wanted)
            } where: {
                order.holds($0)
            }
        case .doubles:
            return rows(numbers) {
                FieldNumber.compare(.double(Double(bitPattern: UInt64(bitPattern: $0))), wanted)
            } where: {
                order.holds($0)
            }
        case .decimals(let scale):
            var all: UInt64 = 0
            for number in numbers { all |= number.magnitude }
            // Past it the division is not what reading the digits gives.
            guard all < 1 << 53 else { return nil }
            var power = 1.0
            for _ in 0..<scale { power *= 10 }
            return rows(numbers) {
                FieldNumber.compare(.double(Double($0) / power), wanted)
            } where: {
                order.holds($0)
            }
        }
    }

    private func rows(_ numbers: UnsafeBufferPointer<Int64>, within range: ClosedRange<Int64>?) -> RowSet {
        var result = RowSet(count: numbers.count)
        guard let range else { return result }
        let (low, high) = (range.lowerBound, range.upperBound)
        for row in 0..<numbers.count where numbers[row] >= low && numbers[row] <= high { result.insert(row) }
        return result
    }

    @inline(__always)
    private func rows(_ numbers: UnsafeBufferPointer<Int64>, _ compare: (Int64) -> Int?, where holds: (Int) -> Bool) -> RowSet {
        var result = RowSet(count: numbers.count)
        for row in 0..<numbers.count { if let order = compare(numbers[row]), holds(order) { result.insert(row) } }
        return result
    }
}

extension FieldTest.Order {
    /// The integers that stand so to a number; nil for none.
    func integers(_ wanted: FieldNumber) -> ClosedRange<Int64>? {
        switch wanted {
        case .integer(let number):
            switch self {
            case .equal: return number...number
            case .less: return number == .min ? nil : .min...(number - 1)
            case .lessOrEqual: return .min...number
            case .greater: return number == .max ? nil : (number + 1)...(.max)
            case .greaterOrEqual: return number...(.max)
            }
        case .double(let number):
            if number.isNaN { return nil }
            let isWhole = number == number.rounded(.down)
            if number >= 0x1p63 { return self == .less || self == .lessOrEqual ? .min ... .max : nil }
            if number < -0x1p63 { return self == .greater || self == .greaterOrEqual ? .min ... .max : nil }
            let floor = Int64(number.rounded(.down))
            if isWhole { return integers(.integer(floor)) }
            switch self {
            case .equal: return nil
            case .less, .lessOrEqual: return .min...floor
            case .greater, .greaterOrEqual: return floor == .max ? nil : (floor + 1)...(.max)
            }
        }
    }
}
