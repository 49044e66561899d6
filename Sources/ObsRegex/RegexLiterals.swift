// What a pattern says about the texts it can match, without matching: a search that looks for these literals first asks RE2 about few lines.
internal import CRE2
internal import ObsCore

extension Regex {
    /// Literals of a pattern: every text some part of which matches contains, ignoring the case of ASCII letters, at least one of each of these sets.
    /// Empty when nothing can be said. In lower case.
    package var literals: [[[UInt8]]] {
        var found = Found()
        var text = pattern
        let isKnown = text.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) {
                obs_re2_literals($0.baseAddress, $0.count, isCaseInsensitive, dotMatchesNewline, Self.literalBytesMin, &found, addLiteral)
            }
        }
        guard isKnown else { return [] }
        // Only ASCII is compared regardless of case. Letters beyond have their own folding, about which nothing is said here.
        guard (found.required + found.others).allSatisfy({ $0.allSatisfy { $0 < 0x80 } }) else { return [] }
        let folds = isCaseInsensitive || pattern.contains("(?")
        let required = found.required.map { folds ? Self.withLookalikes([$0]) : [$0] }
        if found.others.isEmpty { return required }
        // Those that are not required by themselves say something only when none is.
        return required.isEmpty ? [folds ? Self.withLookalikes(found.others) : found.others] : required
    }

    /// Shorter literals are in too many texts.
    private static let literalBytesMin: Int32 = 3

    /// The Kelvin sign and the long s, which fold to ASCII letters.
    private static func withLookalikes(_ literals: [[UInt8]]) -> [[UInt8]] {
        var all = literals
        if literals.contains(where: { $0.contains(UInt8(ascii: "k")) }) { all.append(Array("\u{212A}".utf8)) }
        if literals.contains(where: { $0.contains(UInt8(ascii: "s")) }) { all.append(Array("\u{17F}".utf8)) }
        return all
    }

    fileprivate struct Found {
        var required: [[UInt8]] = []
        var others: [[UInt8]] = []
    }
}

private func addLiteral(_ context: UnsafeMutableRawPointer?, _ literal: UnsafePointer<CChar>?, _ length: Int, _ isRequired: Bool) {
    guard let found = context?.assumingMemoryBound(to: Regex.Found.self) else { return }
    let bytes = Array(UnsafeRawBufferPointer(start: literal, count: length))
    if isRequired { found.pointee.required.append(bytes) } else { found.pointee.others.append(bytes) }
}
