internal import Glibc
internal import ObsCore
internal import ObsRegex

/// Functions templates may call; Loki's list, from Go's text/template and sprig. `fromJson` is still to come.
let templateFunctionNames: Set<String> = [
    "__line__", "__timestamp__", "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "print", "printf", "lower", "upper", "title", "ToLower",
    "ToUpper",
    "trim", "trimAll", "trimPrefix", "trimSuffix", "Trim", "TrimLeft", "TrimRight", "TrimPrefix", "TrimSuffix", "TrimSpace", "trunc", "substr", "replace",
    "Replace", "default", "contains", "hasPrefix", "hasSuffix", "repeat", "indent", "nindent", "alignLeft", "alignRight", "b64enc", "b64dec", "urlencode",
    "urldecode", "regexReplaceAll", "regexReplaceAllLiteral", "count", "add", "sub", "mul", "div", "mod", "addf", "subf", "mulf", "divf", "max", "min", "maxf",
    "minf", "ceil", "floor", "round", "int", "float64", "bytes", "duration", "duration_seconds", "now", "date", "toDate", "toDateInZone", "unixEpoch",
    "unixEpochMillis",
    "unixEpochNanos", "unixToTime",
]

func callTemplateFunction(_ name: String, _ arguments: [TemplateValue]) throws(TemplateFailure) -> TemplateValue {
    func argument(_ index: Int) throws(TemplateFailure) -> TemplateValue {
        guard index < arguments.count else { throw TemplateFailure("wrong number of args for \(name): got \(arguments.count)") }
        return arguments[index]
    }
    func text(_ index: Int) throws(TemplateFailure) -> String { try argument(index).text }
    func integer(_ index: Int) throws(TemplateFailure) -> Int { Int(try argument(index).integer) }
    func number(_ index: Int) throws(TemplateFailure) -> Double { try argument(index).number }
    func fold(_ body: (Int64, Int64) -> (Int64, Bool)) throws(TemplateFailure) -> TemplateValue {
        var result = try argument(0).integer
        for value in arguments.dropFirst() {
            let (next, failed) = body(result, value.integer)
            if failed { throw TemplateFailure("error calling \(name): integer overflow or division by zero") }
            result = next
        }
        return .int(result)
    }
    func foldFloat(_ body: (Double, Double) -> Double) throws(TemplateFailure) -> TemplateValue {
        .float(try arguments.dropFirst().reduce(number(0)) { body($0, $1.number) })
    }

    switch name {
    // Logic
    case "not": return .bool(!(try argument(0).isTrue))
    case "eq":
        let first = try argument(0)
        return .bool(arguments.dropFirst().contains { compareTemplateValues(first, $0) == 0 })
    case "ne": return .bool(compareTemplateValues(try argument(0), try argument(1)) != 0)
    case "lt": return .bool(compareTemplateValues(try argument(0), try argument(1)) < 0)
    case "le": return .bool(compareTemplateValues(try argument(0), try argument(1)) <= 0)
    case "gt": return .bool(compareTemplateValues(try argument(0), try argument(1)) > 0)
    case "ge": return .bool(compareTemplateValues(try argument(0), try argument(1)) >= 0)
    case "default":
        let value = try argument(1)
        return value.isTrue ? value : try argument(0)
    // Text
    case "len": return .int(Int64(try text(0).utf8.count))
    case "print": return .string(arguments.map(\.text).joined())
    case "printf": return .string(try formatGoText(try text(0), Array(arguments.dropFirst())))
    case "lower", "ToLower": return .string(try text(0).lowercased())
    case "upper", "ToUpper": return .string(try text(0).uppercased())
    case "title": return .string(titled(try text(0)))
    case "trim", "TrimSpace": return .string(trimmed(try text(0), left: true, right: true) { $0.properties.isWhitespace })
    case "trimAll": return .string(try trimSet(try text(1), try text(0), left: true, right: true))
    case "Trim": return .string(try trimSet(try text(0), try text(1), left: true, right: true))
    case "TrimLeft": return .string(try trimSet(try text(0), try text(1), left: true, right: false))
    case "TrimRight": return .string(try trimSet(try text(0), try text(1), left: false, right: true))
    case "trimPrefix": return .string(dropPrefix(try text(1), try text(0)))
    case "TrimPrefix": return .string(dropPrefix(try text(0), try text(1)))
    case "trimSuffix": return .string(dropSuffix(try text(1), try text(0)))
    case "TrimSuffix": return .string(dropSuffix(try text(0), try text(1)))
    case "trunc":
        let scalars = Array(try text(1).unicodeScalars)
        let count = try integer(0)
        return .string(string(count >= 0 ? scalars.prefix(count) : scalars.suffix(count == .min ? .max : -count)))
    case "substr":
        let scalars = Array(try text(2).unicodeScalars)
        let from = max(0, try integer(0))
        let end = try integer(1)
        let upper = end < 0 || end > scalars.count ? scalars.count : end
        return .string(from >= upper ? "" : string(scalars[from..<upper]))
    case "replace": return .string(try replaced(try text(2), try text(0), try text(1), limit: .max))
    case "Replace":
        let limit = try integer(3)
        return .string(try replaced(try text(0), try text(1), try text(2), limit: limit < 0 ? .max : limit))
    case "contains": return .bool(ByteSearch(Array(try text(0).utf8)).first(in: try text(1)) != nil)
    case "hasPrefix": return .bool(try text(1).utf8.starts(with: try text(0).utf8))
    case "hasSuffix": return .bool(try text(1).utf8.reversed().starts(with: try text(0).utf8.reversed()))
    case "repeat":
        let count = max(0, try integer(0))
        let unit = try text(1)
        guard unit.utf8.count.multipliedReportingOverflow(by: count).partialValue <= Template.outputBytesMax, count <= Template.outputBytesMax else {
            throw TemplateFailure("error calling repeat: output is too long")
        }
        return .string(String(repeating: unit, count: count))
    case "indent", "nindent":
        let width = min(max(0, try integer(0)), 1000)
        let pad = String(repeating: " ", count: width)
        let body = pad + (try replaced(try text(1), "\n", "\n" + pad, limit: .max))
        return .string(name == "nindent" ? "\n" + body : body)
    case "alignLeft", "alignRight":
        let width = min(max(0, try integer(0)), Template.outputBytesMax)
        let scalars = Array(try text(1).unicodeScalars)
        if scalars.count >= width { return .string(string(name == "alignLeft" ? scalars.prefix(width) : scalars.suffix(width))) }
        let pad = String(repeating: " ", count: width - scalars.count)
        return .string(name == "alignLeft" ? try text(1) + pad : pad + (try text(1)))
    case "b64enc": return .string(base64(Array(try text(0).utf8)))
    case "b64dec":
        guard let bytes = decodeBase64(Array(try text(0).utf8)) else { throw TemplateFailure("error calling b64dec: illegal base64 data") }
        return .string(String(decoding: bytes, as: UTF8.self))
    case "urlencode": return .string(percentEncoded(try text(0)))
    case "urldecode": return .string(try percentDecoded(try text(0)))
    case "regexReplaceAll": return .string(try replaceAll(try text(0), in: try text(1), with: try text(2), literal: false))
    case "regexReplaceAllLiteral": return .string(try replaceAll(try text(0), in: try text(1), with: try text(2), literal: true))
    case "count": return .int(Int64(try matches(of: try text(0), in: Array(try text(1).utf8)).count))
    // Numbers
    case "add": return try fold { $0.addingReportingOverflow($1) }
    case "sub": return try fold { $0.subtractingReportingOverflow($1) }
    case "mul": return try fold { $0.multipliedReportingOverflow(by: $1) }
    case "div": return try fold { $0.dividedReportingOverflow(by: $1) }
    case "mod": return try fold { $0.remainderReportingOverflow(dividingBy: $1) }
    case "addf": return try foldFloat(+)
    case "subf": return try foldFloat(-)
    case "mulf": return try foldFloat(*)
    case "divf": return try foldFloat(/)
    case "max": return try fold { (Swift.max($0, $1), false) }
    case "min": return try fold { (Swift.min($0, $1), false) }
    case "maxf": return try foldFloat { Swift.max($0, $1) }
    case "minf": return try foldFloat { Swift.min($0, $1) }
    case "ceil": return .float(Glibc.ceil(try number(0)))
    case "floor": return .float(Glibc.floor(try number(0)))
    case "round":
        let scale = pow(10, Double(try integer(1)))
        let value = try number(0) * scale
        let threshold = arguments.count > 2 ? try number(2) : 0.5
        let whole = Glibc.floor(value)
        return .float((value - whole >= threshold ? whole + 1 : whole) / scale)
    case "int": return .int(try argument(0).integer)
    case "float64": return .float(try number(0))
    case "bytes":
        guard let size = parseByteSize(try text(0)) else { throw TemplateFailure("error calling bytes: invalid size \(quoted(try text(0)))") }
        return .float(size)
    case "duration", "duration_seconds":
        guard let nanos = parseGoDuration(try text(0)) else { throw TemplateFailure("error calling \(name): time: invalid duration \(quoted(try text(0)))") }
        return .float(nanos / 1e9)
    // Times
    case "now": return .time(SystemClock().nowNanos())
    case "date": return .string(formatGoTime(try time(try argument(1)), try text(0)))
    case "toDate": return .time(parseGoTime(try text(1), try text(0)) ?? 0)
    case "toDateInZone": return .time(parseGoTime(try text(2), try text(0)) ?? 0)
    case "unixEpoch": return .string(String(floorDivide(try time(try argument(0)), nanosPerSecond)))
    case "unixEpochMillis": return .string(String(floorDivide(try time(try argument(0)), nanosPerMilli)))
    case "unixEpochNanos": return .string(String(try time(try argument(0))))
    case "unixToTime":
        let digits = try text(0)
        // Days, seconds, milliseconds, microseconds or nanoseconds, by the number of digits.
        guard let value = Int64(digits), let scale = [5: nanosPerDay, 10: nanosPerSecond, 13: nanosPerMilli, 16: 1000, 19: 1][digits.utf8.count] else {
            throw TemplateFailure("error calling unixToTime: unable to parse time '\(digits)'")
        }
        let (nanos, overflow) = value.multipliedReportingOverflow(by: scale)
        guard !overflow else { throw TemplateFailure("error calling unixToTime: unable to parse time '\(digits)'") }
        return .time(nanos)
    default: throw TemplateFailure("function \"\(name)\" not defined")
    }
}

private func time(_ value: TemplateValue) throws(TemplateFailure) -> Int64 {
    guard case .time(let nanos) = value else { throw TemplateFailure("expected a time; found \(quoted(value.text))") }
    return nanos
}

/// Numbers compare as numbers, all else as text.
private func compareTemplateValues(_ a: TemplateValue, _ b: TemplateValue) -> Int {
    switch (a, b) {
    case (.string, _), (_, .string), (.bool, _), (_, .bool):
        let (x, y) = (Array(a.text.utf8), Array(b.text.utf8))
        return x == y ? 0 : x.lexicographicallyPrecedes(y) ? -1 : 1
    default: return a.number == b.number ? 0 : a.number < b.number ? -1 : 1
    }
}

private func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
    var result = String.UnicodeScalarView()
    result.append(contentsOf: scalars)
    return String(result)
}

private func trimmed(_ text: String, left: Bool, right: Bool, _ isCut: (Unicode.Scalar) -> Bool) -> String {
    var scalars = Array(text.unicodeScalars)[...]
    if left { scalars = scalars.drop(while: isCut) }
    if right { while let last = scalars.last, isCut(last) { scalars.removeLast() } }
    return string(scalars)
}

private func trimSet(_ text: String, _ cut: String, left: Bool, right: Bool) throws(TemplateFailure) -> String {
    let set = Set(cut.unicodeScalars)
    return trimmed(text, left: left, right: right) { set.contains($0) }
}

private func dropPrefix(_ text: String, _ prefix: String) -> String {
    text.utf8.starts(with: prefix.utf8) ? String(decoding: text.utf8.dropFirst(prefix.utf8.count), as: UTF8.self) : text
}

private func dropSuffix(_ text: String, _ suffix: String) -> String {
    text.utf8.reversed().starts(with: suffix.utf8.reversed()) ? String(decoding: text.utf8.dropLast(suffix.utf8.count), as: UTF8.self) : text
}

private func titled(_ text: String) -> String {
    var result = ""
    var startsWord = true
    for character in text {
        result += startsWord ? character.uppercased() : String(character)
        startsWord = !(character.isLetter || character.isNumber || character == "_" || character == "'")
    }
    return result
}

private func checkLength(_ count: Int) throws(TemplateFailure) {
    if count > Template.outputBytesMax { throw TemplateFailure("output is longer than \(Template.outputBytesMax) bytes") }
}

private func replaced(_ text: String, _ old: String, _ new: String, limit: Int) throws(TemplateFailure) -> String {
    let bytes = Array(text.utf8)
    guard !old.isEmpty else { return text }
    let search = ByteSearch(Array(old.utf8))
    var result: [UInt8] = []
    var at = 0
    var count = 0
    bytes.withUnsafeBytes { all in
        while count < limit, result.count <= Template.outputBytesMax, let found = search.first(in: all, from: at) {
            result.append(contentsOf: all[at..<found])
            result.append(contentsOf: new.utf8)
            at = found + search.needle.count
            count += 1
        }
        result.append(contentsOf: all[at...])
    }
    try checkLength(result.count)
    return String(decoding: result, as: UTF8.self)
}

extension ByteSearch {
    fileprivate func first(in text: String) -> Int? {
        var copy = text
        return copy.withUTF8 { first(in: UnsafeRawBufferPointer($0)) }
    }
}

private func percentEncoded(_ text: String) -> String {
    var result: [UInt8] = []
    for byte in text.utf8 {
        if isLetter(byte) || isDigit(byte) || "-.~".utf8.contains(byte) {
            result.append(byte)
        } else if byte == UInt8(ascii: " ") {
            result.append(UInt8(ascii: "+"))
        } else {
            result.append(UInt8(ascii: "%"))
            result += Array(hexString([byte]).uppercased().utf8)
        }
    }
    return String(decoding: result, as: UTF8.self)
}

private func percentDecoded(_ text: String) throws(TemplateFailure) -> String {
    let bytes = Array(text.utf8)
    var result: [UInt8] = []
    var at = 0
    while at < bytes.count {
        if bytes[at] == UInt8(ascii: "%") {
            guard at + 2 < bytes.count, let high = hexValue(bytes[at + 1]), let low = hexValue(bytes[at + 2]) else {
                throw TemplateFailure("error calling urldecode: invalid URL escape")
            }
            result.append(high << 4 | low)
            at += 3
        } else {
            result.append(bytes[at] == UInt8(ascii: "+") ? UInt8(ascii: " ") : bytes[at])
            at += 1
        }
    }
    return String(decoding: result, as: UTF8.self)
}

/// All matches, left to right; an empty one moves on by a byte.
private func matches(of pattern: String, in text: [UInt8]) throws(TemplateFailure) -> [[Range<Int>?]] {
    let regex: Regex
    do throws(ObsError) { regex = try Regex(goGroups(pattern), dotMatchesNewline: false) } catch { throw TemplateFailure(error.message) }
    var result: [[Range<Int>?]] = []
    text.withUnsafeBytes { all in
        var at = 0
        while at <= all.count, let groups = regex.captures(in: UnsafeRawBufferPointer(rebasing: all[at...]), anchored: false), let whole = groups[0] {
            result.append(groups.map { $0.map { $0.lowerBound + at..<$0.upperBound + at } })
            at += max(whole.upperBound, whole.lowerBound + 1)
        }
    }
    return result
}

private func replaceAll(_ pattern: String, in text: String, with replacement: String, literal: Bool) throws(TemplateFailure) -> String {
    let bytes = Array(text.utf8)
    let names: [String?]
    do throws(ObsError) { names = try Regex(goGroups(pattern)).groupNames } catch { throw TemplateFailure(error.message) }
    var result: [UInt8] = []
    var at = 0
    for groups in try matches(of: pattern, in: bytes) {
        guard let whole = groups[0], whole.lowerBound >= at else { continue }
        result += bytes[at..<whole.lowerBound]
        if literal {
            result += Array(replacement.utf8)
        } else {
            expandReplacement(Array(replacement.utf8), groups, names, bytes, into: &result)
        }
        at = whole.upperBound
        try checkLength(result.count)
    }
    result += bytes[at...]
    return String(decoding: result, as: UTF8.self)
}

/// Appends a Go replacement: `$1`, `${1}`, `${name}`, `$$`; a group that is not there is empty.
func expandReplacement(
    _ replacement: [UInt8], _ groups: [Range<Int>?], _ names: [String?], _ text: some RandomAccessCollection<UInt8>, into result: inout [UInt8]
) {
    var at = 0
    while at < replacement.count {
        guard replacement[at] == UInt8(ascii: "$"), at + 1 < replacement.count else {
            result.append(replacement[at])
            at += 1
            continue
        }
        if replacement[at + 1] == UInt8(ascii: "$") {
            result.append(UInt8(ascii: "$"))
            at += 2
            continue
        }
        let braced = replacement[at + 1] == UInt8(ascii: "{")
        let start = at + (braced ? 2 : 1)
        let word = replacement[start...].prefix { isLetter($0) || isDigit($0) }
        var end = word.endIndex
        if word.isEmpty || (braced && (end >= replacement.count || replacement[end] != UInt8(ascii: "}"))) {
            result.append(UInt8(ascii: "$"))
            at += 1
            continue
        }
        if braced { end += 1 }
        at = end
        let name = String(decoding: word, as: UTF8.self)
        let index = Int(name) ?? names.firstIndex(of: name).map { $0 + 1 }
        if let index, groups.indices.contains(index), let range = groups[index] {
            result += text[text.index(text.startIndex, offsetBy: range.lowerBound)..<text.index(text.startIndex, offsetBy: range.upperBound)]
        }
    }
}

/// Go's `printf` verbs `%v %s %d %f %g %e %x %q %t %%` with flags `-0+`, width and precision.
private func formatGoText(_ format: String, _ arguments: [TemplateValue]) throws(TemplateFailure) -> String {
    let bytes = Array(format.utf8)
    var result = ""
    var literal: [UInt8] = []
    var at = 0
    var next = 0
    while at < bytes.count {
        guard bytes[at] == UInt8(ascii: "%") else {
            literal.append(bytes[at])
            at += 1
            continue
        }
        result += String(decoding: literal, as: UTF8.self)
        literal = []
        at += 1
        let flags = bytes[at...].prefix { "-0+ #".utf8.contains($0) }
        let width = bytes[flags.endIndex...].prefix { isDigit($0) }
        at = width.endIndex
        var precision: Int?
        if at < bytes.count, bytes[at] == UInt8(ascii: ".") {
            let digits = bytes[(at + 1)...].prefix { isDigit($0) }
            precision = min(Int(String(decoding: digits, as: UTF8.self)) ?? 0, 100)
            at = digits.endIndex
        }
        guard at < bytes.count else { return result + "%!(NOVERB)" }
        let verb = bytes[at]
        at += 1
        if verb == UInt8(ascii: "%") {
            result += "%"
            continue
        }
        guard next < arguments.count else {
            result += "%!\(Character(Unicode.Scalar(verb)))(MISSING)"
            continue
        }
        let value = arguments[next]
        next += 1
        var text = formatVerb(verb, value, precision)
        if flags.contains(UInt8(ascii: "+")), !text.hasPrefix("-"), verb == UInt8(ascii: "d") || verb == UInt8(ascii: "f") { text = "+" + text }
        let missing = min(Int(String(decoding: width, as: UTF8.self)) ?? 0, 10_000) - text.unicodeScalars.count
        if missing > 0 {
            if flags.contains(UInt8(ascii: "-")) {
                text += String(repeating: " ", count: missing)
            } else if flags.contains(UInt8(ascii: "0")) {
                let sign = text.hasPrefix("-") || text.hasPrefix("+") ? String(text.removeFirst()) : ""
                text = sign + String(repeating: "0", count: missing) + text
            } else {
                text = String(repeating: " ", count: missing) + text
            }
        }
        result += text
    }
    return result + String(decoding: literal, as: UTF8.self)
}

private func formatVerb(_ verb: UInt8, _ value: TemplateValue, _ precision: Int?) -> String {
    switch verb {
    case UInt8(ascii: "d"): return String(value.integer)
    case UInt8(ascii: "x"):
        if case .string(let text) = value { return hexString(Array(text.utf8)) }
        return String(value.integer, radix: 16)
    case UInt8(ascii: "q"): return "\"\(escapedForQuotes(value.text))\""
    case UInt8(ascii: "f"), UInt8(ascii: "F"): return formatC("%.*f", value.number, precision ?? 6)
    case UInt8(ascii: "e"): return formatC("%.*e", value.number, precision ?? 6)
    case UInt8(ascii: "g"): return precision.map { formatC("%.*g", value.number, $0) } ?? TemplateValue.float(value.number).text
    case UInt8(ascii: "s"):
        return precision.map { string(Array(value.text.unicodeScalars).prefix($0)) } ?? value.text
    default: return value.text
    }
}

private func formatC(_ format: String, _ value: Double, _ precision: Int) -> String {
    var buffer = [CChar](repeating: 0, count: 512)
    let count = withVaList([Int32(clamping: precision), value]) { vsnprintf(&buffer, buffer.count, format, $0) }
    return String(decoding: buffer.prefix(Int(min(max(count, 0), 511))).map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
