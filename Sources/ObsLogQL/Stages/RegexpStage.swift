internal import ObsCore
internal import ObsRegex

/// `| regexp "(?P<method>\\w+) …"`: each named group that took part becomes a label. No match adds nothing.
struct RegexpStage: Stage {
    private let regex: Regex
    private let names: [[UInt8]?]

    init(_ pattern: String) throws(ObsError) {
        regex = try Regex(goGroups(pattern))
        names = regex.groupNames.map { $0.map { Array($0.utf8) } }
        let named = names.compactMap { $0 }
        if named.isEmpty { throw parseError("at least one named capture must be supplied") }
        for (index, name) in named.enumerated() where named[..<index].contains(name) {
            throw parseError("duplicate extracted label name '\(String(decoding: name, as: UTF8.self))'")
        }
    }

    func process(_ row: Row) -> Bool {
        let line = row.line
        guard let groups = regex.captures(in: line, anchored: false) else { return true }
        for (index, name) in names.enumerated() {
            if let name, let range = groups[index + 1] { row.addParsed(name, UnsafeRawBufferPointer(rebasing: line[range])) }
        }
        return true
    }
}

/// Go also takes `(?<name>…)`, which this RE2 only knows as `(?P<name>…)`.
func goGroups(_ pattern: String) -> String {
    let bytes = Array(pattern.utf8)
    var result: [UInt8] = []
    var at = 0
    while at < bytes.count {
        if bytes[at] == UInt8(ascii: "\\"), at + 1 < bytes.count {
            result += bytes[at...at + 1]
            at += 2
            continue
        }
        result.append(bytes[at])
        if bytes[at...].starts(with: "(?<".utf8), at + 3 < bytes.count, isLetter(bytes[at + 3]) {
            result += Array("?P".utf8)
            at += 1
        }
        at += 1
    }
    return String(decoding: result, as: UTF8.self)
}
