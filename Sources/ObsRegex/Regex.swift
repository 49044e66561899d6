// The one door to RE2. Patterns come from users, so matching is linear in the text whatever they write; the dialect is the
// one Prometheus and Loki document (RE2's). Swift's own Regex is thirty times slower and is never used in a data path.
internal import CRE2
package import ObsCore

/// A compiled RE2 pattern. Safe to use from several threads at once.
package final class Regex: @unchecked Sendable {  // RE2 objects are immutable and documented as thread-safe
    private let compiled: OpaquePointer
    package let pattern: String
    let isCaseInsensitive: Bool
    let dotMatchesNewline: Bool

    /// - Parameters:
    ///   - dotMatchesNewline: Prometheus' matchers let `.` match a newline; Loki's line filters do too.
    /// - Throws: `.badInput` with RE2's own message.
    package init(_ pattern: String, caseInsensitive: Bool = false, dotMatchesNewline: Bool = true) throws(ObsError) {
        var message = [CChar](repeating: 0, count: 256)
        var text = pattern
        let compiled = text.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) {
                obs_re2_compile($0.baseAddress, $0.count, caseInsensitive, dotMatchesNewline, &message, message.count)
            }
        }
        guard let compiled else {
            let end = message.firstIndex(of: 0) ?? message.count
            let reason = String(decoding: message[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            throw ObsError(.badInput, "error parsing regexp: \(reason): `\(pattern)`")
        }
        self.compiled = compiled
        self.pattern = pattern
        isCaseInsensitive = caseInsensitive
        self.dotMatchesNewline = dotMatchesNewline
    }

    deinit { obs_re2_free(compiled) }

    /// Whether the whole of `text` matches (a label matcher).
    package func matchesWhole(_ text: UnsafeRawBufferPointer) -> Bool { match(text, anchored: true, groups: nil, count: 0) }

    /// Whether some part of `text` matches (a line filter).
    package func matchesPart(_ text: UnsafeRawBufferPointer) -> Bool { match(text, anchored: false, groups: nil, count: 0) }

    package func matchesWhole(_ text: String) -> Bool {
        var copy = text
        return copy.withUTF8 { matchesWhole(UnsafeRawBufferPointer($0)) }
    }

    package func matchesPart(_ text: String) -> Bool {
        var copy = text
        return copy.withUTF8 { matchesPart(UnsafeRawBufferPointer($0)) }
    }

    /// Number of capturing groups, the whole match not counted.
    package var groupCount: Int { Int(obs_re2_group_count(compiled)) }

    /// Names of the groups 1...groupCount; nil where a group has none.
    package var groupNames: [String?] {
        (0..<groupCount).map { index in
            var name = [CChar](repeating: 0, count: 256)
            guard obs_re2_group_name(compiled, Int32(index + 1), &name, name.count) else { return nil }
            let end = name.firstIndex(of: 0) ?? name.count
            return String(decoding: name[..<end].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        }
    }

    /// Byte ranges within `text` of group 0 (the match) and every capturing group; nil when nothing matches.
    /// A group that took no part is nil.
    package func captures(in text: UnsafeRawBufferPointer, anchored: Bool) -> [Range<Int>?]? {
        let count = groupCount + 1
        return withUnsafeTemporaryAllocation(of: obs_re2_span.self, capacity: count) { spans in
            guard match(text, anchored: anchored, groups: spans.baseAddress, count: count) else { return nil }
            return (0..<count).map { index in
                guard let data = spans[index].data, let base = text.baseAddress else { return spans[index].data == nil ? nil : 0..<0 }
                let start = UnsafeRawPointer(data) - base
                return start..<(start + spans[index].length)
            }
        }
    }

    private func match(_ text: UnsafeRawBufferPointer, anchored: Bool, groups: UnsafeMutablePointer<obs_re2_span>?, count: Int) -> Bool {
        // RE2 wants a non-null pointer even for an empty text.
        guard let base = text.baseAddress else {
            return withUnsafeTemporaryAllocation(byteCount: 1, alignment: 1) {
                obs_re2_match(compiled, $0.baseAddress, 0, anchored, groups, Int32(count))
            }
        }
        return obs_re2_match(compiled, base.assumingMemoryBound(to: CChar.self), text.count, anchored, groups, Int32(count))
    }
}
