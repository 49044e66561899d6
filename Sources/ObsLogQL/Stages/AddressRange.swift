internal import Glibc
internal import ObsCore

/// `ip("192.168.0.0/16")`, `ip("10.0.0.1-10.0.0.9")`, `ip("::1")`: an inclusive range of addresses of one family.
struct AddressRange: Sendable {
    /// Network order, 4 or 16 bytes.
    private let low: [UInt8]
    private let high: [UInt8]

    init(_ text: String) throws(ObsError) {
        let invalid = parseError("ip: invalid pattern \(quoted(text))")
        if let slash = text.firstIndex(of: "/") {
            guard let address = Self.parse(text[..<slash]), let bits = Int(text[text.index(after: slash)...]), (0...address.count * 8).contains(bits) else {
                throw invalid
            }
            var low = address
            var high = address
            for index in address.indices {
                let keep = max(0, min(8, bits - index * 8))
                let mask = keep == 8 ? 0xff : ~(UInt8(0xff) >> UInt8(keep))
                low[index] &= mask
                high[index] |= ~mask
            }
            (self.low, self.high) = (low, high)
        } else if let dash = text.firstIndex(of: "-") {
            guard let low = Self.parse(text[..<dash]), let high = Self.parse(text[text.index(after: dash)...]), low.count == high.count else { throw invalid }
            (self.low, self.high) = (low, high)
        } else {
            guard let address = Self.parse(text) else { throw invalid }
            (low, high) = (address, address)
        }
    }

    private static func parse(_ text: some StringProtocol) -> [UInt8]? {
        let text = text.trimmingBlanks
        for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
            var bytes = [UInt8](repeating: 0, count: count)
            if inet_pton(family, text, &bytes) == 1 { return bytes }
        }
        return nil
    }

    func holds(_ text: UnsafeRawBufferPointer) -> Bool {
        guard text.count < 64, let address = Self.parse(String(decoding: text, as: UTF8.self)), address.count == low.count else { return false }
        return !address.lexicographicallyPrecedes(low) && !high.lexicographicallyPrecedes(address)
    }

    /// Whether some address within the text is in the range.
    func isIn(_ line: UnsafeRawBufferPointer) -> Bool {
        var at = 0
        while at < line.count {
            let word = line[at...].prefix { hexValue($0) != nil || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: ":") }
            if word.count >= 2, word.contains(where: { $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: ":") }) {
                if holds(UnsafeRawBufferPointer(rebasing: word)) { return true }
                // `10.0.0.1:8080` and `10.0.0.1.`
                let bare = word.prefix { $0 != UInt8(ascii: ":") }
                if bare.count < word.count, holds(UnsafeRawBufferPointer(rebasing: bare)) { return true }
                if let last = word.last, last == UInt8(ascii: ".") || last == UInt8(ascii: ":"), holds(UnsafeRawBufferPointer(rebasing: word.dropLast())) {
                    return true
                }
            }
            at = word.endIndex + 1
        }
        return false
    }
}

extension StringProtocol {
    fileprivate var trimmingBlanks: String { String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()) }
}
