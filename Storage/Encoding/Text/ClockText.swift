internal import ObsCore

/// Numbers that are parts of the row's time: the hour, minute or second of a date that was cut into its digits, seconds since 1970. Most dates in lines are the time of
/// their record, so that nothing of them is left to store. What is stored is the difference to the part, mostly 0.
struct ClockText {
    enum Part: UInt8, CaseIterable {
        /// Within the day.
        case hour = 0
        /// Within the hour.
        case minute
        /// Within the minute, with `digits` behind the dot.
        case second
        /// Digits behind the second, `digits` of them.
        case fraction
        /// Since 1970, with `digits` behind the dot or, for an integer, without one: seconds, milliseconds, microseconds.
        case epoch
        /// `hhmmss` as one number.
        case digitsOfDay
    }
    var part: Part
    /// Of a second, 0...9.
    var digits: Int

    private static let powers: [Int64] = [1, 10, 100, 1000, 10000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000]

    /// The part of a time.
    @inline(__always)
    func number(ofNanos nanos: Int64) -> Int64 {
        switch part {
        case .hour: return floorDivide(nanos, 3_600_000_000_000) % 24
        case .minute: return floorDivide(nanos, 60_000_000_000) % 60
        case .second: return digits == 0 ? floorDivide(nanos, 1_000_000_000) % 60 : units(nanos) % (60 &* Self.powers[digits])
        case .fraction: return units(nanos) % Self.powers[digits]
        case .epoch: return units(nanos)
        case .digitsOfDay:
            let ofDay = floorDivide(nanos, 1_000_000_000) % 86400
            return ofDay / 3600 &* 10000 &+ ofDay / 60 % 60 &* 100 &+ ofDay % 60
        }
    }

    private func units(_ nanos: Int64) -> Int64 { floorDivide(nanos, Self.powers[9 - digits]) }

    /// What numbers so written may be a part of.
    /// - Parameters:
    ///   - scale: digits behind the dot.
    ///   - largest: of some of the numbers.
    private static func candidates(width: Int, scale: Int, largest: Int64) -> [ClockText] {
        if scale > 0 { return largest < 60 * powers[scale] ? [ClockText(part: .second, digits: scale)] : [ClockText(part: .epoch, digits: scale)] }
        switch (width, largest) {
        case (0, 1_000_000_000...): return [0, 3, 6, 9].map { ClockText(part: .epoch, digits: $0) }
        case (0, 0...59), (2, 0...59): return [.second, .minute, .hour].map { ClockText(part: $0, digits: 0) }
        case (6, 0...235959): return [ClockText(part: .digitsOfDay, digits: 0), ClockText(part: .fraction, digits: 6)]
        case (1...9, _): return [ClockText(part: .fraction, digits: width)]
        case (0, 0...235959): return [ClockText(part: .digitsOfDay, digits: 0)]
        default: return []
        }
    }

    /// The part most of the numbers are; nil when they are none.
    static func find(_ numbers: UnsafeBufferPointer<Int64>, width: Int, scale: Int, times: (Int) -> Int64) -> ClockText? {
        guard numbers.count >= 4 else { return nil }
        let rows = Array(stride(from: 0, to: numbers.count, by: max(1, numbers.count / 32)))
        guard let largest = rows.map({ numbers[$0] }).max() else { return nil }
        return candidates(width: width, scale: scale, largest: largest).first { part in
            rows.count { numbers[$0] == part.number(ofNanos: times($0)) } * 4 >= rows.count * 3
        }
    }
}
