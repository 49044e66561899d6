internal import ObsCore

/// A set of hashes that may say yes to one in 256 it does not have, and never no to one it has: a binary fuse filter of 8 bits (Graf and Lemire, 2022), which takes some
/// 9 to 10.5 bits a hash. Every hash has three places, one in each of three neighbouring segments; what is there makes its fingerprint by exclusive or. It is
/// built backwards: a place only one hash has left can be given whatever makes that hash right, so it is taken out and the next one looked for.
///
/// ```
/// varint keys · attempt u8 · fingerprints, as many as the keys ask for
/// ```
struct FuseFilter: Sendable {
    private let layout: Layout
    private let seed: UInt64
    private let fingerprints: [UInt8]

    /// What the number of keys says about the filter.
    private struct Layout {
        var segmentLength: Int
        var segments: Int
        var count: Int { (segments + 2) * segmentLength }

        init(keys: Int) {
            // The paper's formulas in integers: the segment is 2^⌊log(n) / log(3.33) + 2.25⌋, the size between 1.125 and 1.5 times the keys.
            let log = FuseFilter.log2(keys)
            segmentLength = 1 << min(18, Int(log / 1.735_5 + 2.25))
            let factor = keys <= 1 ? 1.5 : max(1.125, 0.875 + 0.25 * 19.93 / log)
            let capacity = Int(Double(keys) * factor) + 1
            segments = max(1, (capacity + segmentLength - 1) / segmentLength - 2)
        }

        @inline(__always)
        func places(_ hash: UInt64) -> (Int, Int, Int) {
            let first = Int(hash.multipliedFullWidth(by: UInt64(segments &* segmentLength)).high)
            let mask = segmentLength &- 1
            let second = (first &+ segmentLength) ^ (Int(truncatingIfNeeded: hash >> 18) & mask)
            let third = (first &+ 2 &* segmentLength) ^ (Int(truncatingIfNeeded: hash) & mask)
            return (first, second, third)
        }
    }

    /// Of a number past 0, exact enough to be the same everywhere: by halving and squaring.
    private static func log2(_ number: Int) -> Double {
        guard number > 1 else { return 0 }
        let whole = Int.bitWidth - 1 - number.leadingZeroBitCount
        var rest = Double(number) / Double(1 << whole)
        var result = Double(whole)
        var bit = 0.5
        for _ in 0..<24 {
            rest *= rest
            if rest >= 2 {
                rest /= 2
                result += bit
            }
            bit /= 2
        }
        return result
    }

    private static let attemptsMax = 64
    static let keysMax = 1 << 20

    private static func seed(_ attempt: Int) -> UInt64 { UInt64(attempt + 1) &* 0x9e37_79b9_7f4a_7c15 }

    @inline(__always)
    private static func mix(_ key: UInt64, _ seed: UInt64) -> UInt64 {
        var hash = key &+ seed
        hash ^= hash >> 33
        hash = hash &* 0xff51_afd7_ed55_8ccd
        hash ^= hash >> 33
        hash = hash &* 0xc4ce_b9fe_1a85_ec53
        return hash ^ hash >> 33
    }

    @inline(__always)
    private static func fingerprint(_ hash: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: hash ^ hash >> 32) }

    /// Appends a filter of the keys. False, and nothing is appended, when they are too many or none can be built, which chance hardly ever brings about.
    static func append(_ keys: [UInt64], to output: inout [UInt8]) -> Bool {
        let keys = distinct(keys)
        guard keys.count <= keysMax else { return false }
        let layout = Layout(keys: keys.count)
        for attempt in 0..<attemptsMax {
            guard let fingerprints = build(keys, layout, seed(attempt)) else { continue }
            output.appendVarint(UInt64(keys.count))
            output.append(UInt8(attempt))
            output.append(contentsOf: fingerprints)
            return true
        }
        return false
    }

    private static func distinct(_ keys: [UInt64]) -> [UInt64] {
        var slots = 64
        while slots < keys.count * 2 { slots *= 2 }
        let table = Buffer<UInt64>(repeating: 0, count: slots)
        var result: [UInt64] = []
        result.reserveCapacity(keys.count)
        var hasZero = false
        for key in keys {
            if key == 0 {
                hasZero = true
                continue
            }
            var at = Int(truncatingIfNeeded: mix(key, 0)) & (slots - 1)
            while table[at] != 0, table[at] != key { at = (at + 1) & (slots - 1) }
            if table[at] == 0 {
                table[at] = key
                result.append(key)
            }
        }
        return hasZero ? result + [0] : result
    }

    private static func build(_ keys: [UInt64], _ layout: Layout, _ seed: UInt64) -> [UInt8]? {
        let count = layout.count
        // Of every place, how many hashes have it and the exclusive or of them.
        let counts = Buffer<UInt32>(repeating: 0, count: count)
        let hashes = Buffer<UInt64>(repeating: 0, count: count)
        func add(_ place: Int, _ hash: UInt64) {
            counts[place] = counts[place] &+ 1
            hashes[place] = hashes[place] ^ hash
        }
        for key in keys {
            let hash = mix(key, seed)
            let (a, b, c) = layout.places(hash)
            add(a, hash)
            add(b, hash)
            add(c, hash)
        }
        var alone = Buffer<UInt32>(capacity: count)
        for place in 0..<count where counts[place] == 1 { alone.append(UInt32(place)) }
        var order = Buffer<UInt64>(capacity: keys.count)
        var places = Buffer<UInt32>(capacity: keys.count)
        func remove(_ place: Int, _ hash: UInt64) {
            counts[place] = counts[place] &- 1
            hashes[place] = hashes[place] ^ hash
            if counts[place] == 1 { alone.append(UInt32(place)) }
        }
        var next = 0
        while next < alone.count {
            let place = Int(alone[next])
            next += 1
            guard counts[place] == 1 else { continue }
            let hash = hashes[place]
            order.append(hash)
            places.append(UInt32(place))
            let (a, b, c) = layout.places(hash)
            remove(a, hash)
            remove(b, hash)
            remove(c, hash)
        }
        guard order.count == keys.count else { return nil }
        var fingerprints = [UInt8](repeating: 0, count: count)
        for index in stride(from: keys.count - 1, through: 0, by: -1) {
            let hash = order[index]
            let (a, b, c) = layout.places(hash)
            // Its own place is still 0.
            fingerprints[Int(places[index])] = fingerprint(hash) ^ fingerprints[a] ^ fingerprints[b] ^ fingerprints[c]
        }
        return fingerprints
    }

    init(_ cursor: inout ByteCursor) throws(ObsError) {
        let keys = try cursor.count(max: Self.keysMax)
        layout = Layout(keys: keys)
        let attempt = Int(try cursor.u8())
        seed = Self.seed(attempt)
        fingerprints = Array(try cursor.take(layout.count))
    }

    var byteSize: Int { fingerprints.count }

    func mayContain(_ key: UInt64) -> Bool {
        let hash = Self.mix(key, seed)
        let (a, b, c) = layout.places(hash)
        return Self.fingerprint(hash) == fingerprints[a] ^ fingerprints[b] ^ fingerprints[c]
    }
}
