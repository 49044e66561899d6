internal import ObsCore

extension Regex {
    /// Fills a template as Go's `Regexp.Expand` does: `$name`, `${name}`, numbers for groups, `$$` for a dollar; a name is the longest run of letters, digits
    /// and underscores; what names no group, or a group that took no part, becomes nothing. Nil when the pattern does not match the whole of `text`.
    package func expand(_ template: String, matchingWhole text: String) -> String? {
        let bytes = Array(text.utf8)
        let groups = bytes.withUnsafeBytes { captures(in: $0, anchored: true) }
        guard let groups else { return nil }
        var result: [UInt8] = []
        expand(Array(template.utf8), bytes, groups, into: &result)
        return String(decoding: result, as: UTF8.self)
    }

    /// Every match in `text` replaced by the filled template, as Go's `ReplaceAllString`.
    package func replaceAll(in text: String, with template: String) -> String {
        let bytes = Array(text.utf8)
        let template = Array(template.utf8)
        var result: [UInt8] = []
        var start = 0
        while start <= bytes.count {
            let rest = Array(bytes[start...])
            guard let groups = rest.withUnsafeBytes({ captures(in: $0, anchored: false) }), let match = groups.first ?? nil else { break }
            result += rest[..<match.lowerBound]
            expand(template, rest, groups, into: &result)
            var end = start + match.upperBound
            if match.isEmpty {
                if end < bytes.count { result.append(bytes[end]) }
                end += 1
            }
            start = end
        }
        if start < bytes.count { result += bytes[start...] }
        return String(decoding: result, as: UTF8.self)
    }

    private func expand(_ template: [UInt8], _ text: [UInt8], _ groups: [Range<Int>?], into result: inout [UInt8]) {
        let dollar = UInt8(ascii: "$")
        var at = 0
        while at < template.count {
            guard template[at] == dollar else {
                result.append(template[at])
                at += 1
                continue
            }
            at += 1
            if at < template.count, template[at] == dollar {
                result.append(dollar)
                at += 1
            } else if let (name, next) = groupName(template, at) {
                if let range = group(named: name, of: groups) { result += text[range] }
                at = next
            } else {
                result.append(dollar)
            }
        }
    }

    /// The name after a dollar and where the template goes on.
    private func groupName(_ template: [UInt8], _ start: Int) -> (String, Int)? {
        let braced = start < template.count && template[start] == UInt8(ascii: "{")
        let first = braced ? start + 1 : start
        var end = first
        while end < template.count, isWord(template[end]) { end += 1 }
        guard end > first else { return nil }
        if braced, end >= template.count || template[end] != UInt8(ascii: "}") { return nil }
        return (String(decoding: template[first..<end], as: UTF8.self), braced ? end + 1 : end)
    }

    private func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"): true
        default: false
        }
    }

    private func group(named name: String, of groups: [Range<Int>?]) -> Range<Int>? {
        if let number = Int(name) { return number < groups.count ? groups[number] : nil }
        for (index, groupName) in groupNames.enumerated() where groupName == name {
            if let range = groups[index + 1] { return range }
        }
        return nil
    }
}
