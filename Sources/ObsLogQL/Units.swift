internal import Glibc
internal import ObsCore

private func withLeadingZero(_ digits: ArraySlice<UInt8>) -> String {
    "0" + String(decoding: digits, as: UTF8.self) + (digits.last == UInt8(ascii: ".") ? "0" : "")
}

/// A size as humans write it: `10KB`, `1.5MiB`, `42B`, `42`; decimal units are powers of 1000. Nil for anything else.
func parseByteSize(_ text: some StringProtocol) -> Double? {
    let bytes = Array(text.utf8)
    let digits = bytes.prefix { isDigit($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: ",") }
    guard digits.contains(where: isDigit), let value = Double(withLeadingZero(digits.filter { $0 != UInt8(ascii: ",") }[...])) else { return nil }
    let unit = String(decoding: bytes.dropFirst(digits.count), as: UTF8.self).filter { $0 != " " }.lowercased()
    let scale: Double
    switch unit {
    case "", "b": scale = 1
    case "k", "kb": scale = 1e3
    case "ki", "kib": scale = 1024
    case "m", "mb": scale = 1e6
    case "mi", "mib": scale = 1_048_576
    case "g", "gb": scale = 1e9
    case "gi", "gib": scale = 1_073_741_824
    case "t", "tb": scale = 1e12
    case "ti", "tib": scale = 1_099_511_627_776
    case "p", "pb": scale = 1e15
    case "pi", "pib": scale = 1_125_899_906_842_624
    case "e", "eb": scale = 1e18
    case "ei", "eib": scale = 1_152_921_504_606_846_976
    default: return nil
    }
    return value * scale
}

/// A number as Go's `strconv.ParseFloat` takes it. `strtod` reads the bytes in place; its hexadecimal and `nan(…)` forms are let pass, its leading blanks are not.
func parseNumber(_ text: UnsafeRawBufferPointer) -> Double? {
    guard let first = text.first, first > 0x20, text.count < 64 else { return nil }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer -> Double? in
        guard let base = buffer.baseAddress else { return nil }
        for index in 0..<text.count { buffer[index] = CChar(bitPattern: text[index]) }
        buffer[text.count] = 0
        var end: UnsafeMutablePointer<CChar>?
        let value = strtod(base, &end)
        return end == base + text.count ? value : nil
    }
}

/// `1h30m` from nanoseconds, for canonical query text.
func formatNanos(_ nanos: Int64) -> String {
    if nanos % nanosPerMilli == 0 { return formatDuration(millis: nanos / nanosPerMilli) }
    if nanos % 1000 == 0 { return "\(nanos / 1000)us" }
    return "\(nanos)ns"
}
