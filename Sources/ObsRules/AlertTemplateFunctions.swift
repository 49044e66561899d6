// Functions of Prometheus' templates (its `template/template.go`) and the built-ins of Go's text/template.
internal import Glibc
internal import ObsCore
internal import ObsNet
internal import ObsRegex

let templateFunctionNames: Set<String> = [
    "query", "first", "label", "value", "strvalue", "sortByLabel", "args", "humanize", "humanize1024", "humanizeDuration", "humanizePercentage",
    "humanizeTimestamp", "toTime", "toDuration", "now", "title", "toUpper", "toLower", "stripPort", "stripDomain", "match", "reReplaceAll", "graphLink",
    "tableLink", "parseDuration", "urlQueryEscape", "externalURL", "pathPrefix", "safeHtml",
    "and", "or", "not", "len", "index", "print", "println", "printf", "eq", "ne", "lt", "le", "gt", "ge", "urlquery", "html",
]

func callTemplateFunction(_ name: String, _ arguments: [TemplateValue], _ context: TemplateContext) throws(ObsError) -> TemplateValue {
    func need(_ count: Int) throws(ObsError) {
        guard arguments.count == count else { throw templateError("wrong number of args for \(name): want \(count) got \(arguments.count)") }
    }
    func string(_ at: Int = 0) throws(ObsError) -> String {
        guard at < arguments.count, case .string(let text) = arguments[at] else { throw templateError("\(name) wants a string") }
        return text
    }
    func number(_ at: Int = 0) throws(ObsError) -> Double { try templateNumber(at < arguments.count ? arguments[at] : .none, name) }
    func sample(_ at: Int = 0) throws(ObsError) -> RuleSample {
        guard at < arguments.count, case .sample(let sample) = arguments[at] else { throw templateError("\(name) wants a sample") }
        return sample
    }
    func samples(_ at: Int = 0) throws(ObsError) -> [TemplateValue] {
        guard at < arguments.count, case .list(let list) = arguments[at] else { throw templateError("\(name) wants the result of a query") }
        return list
    }

    switch name {
    case "query":
        try need(1)
        return .list(try context.query(string()).map { .sample($0) })
    case "first":
        try need(1)
        guard let first = try samples().first else { throw templateError("first() called on vector with no elements") }
        return first
    case "label":
        try need(2)
        return .string(try sample(1).labels[string()] ?? "")
    case "value":
        try need(1)
        return .double(try sample().value)
    case "strvalue":
        try need(1)
        return .string(try sample().labels["__value__"] ?? "")
    case "sortByLabel":
        try need(2)
        return .list(try sorted(samples(1), byLabel: string()))
    case "args": return .map(Dictionary(uniqueKeysWithValues: arguments.enumerated().map { ("arg\($0.offset)", $0.element) }))

    case "humanize":
        try need(1)
        return .string(humanize(try number()))
    case "humanize1024":
        try need(1)
        return .string(humanize1024(try number()))
    case "humanizeDuration":
        try need(1)
        return .string(humanizeDuration(try number()))
    case "humanizePercentage":
        try need(1)
        return .string(formatFloat("%.4g", try number() * 100) + "%")
    case "humanizeTimestamp", "toTime":
        try need(1)
        return .string(humanizeTimestamp(try number()))
    case "toDuration":
        try need(1)
        return .string(formatDuration(millis: Int64(exactly: (try number() * 1000).rounded()) ?? 0))
    case "now": return .double(Double(context.nowMillis) / 1000)
    case "parseDuration":
        try need(1)
        guard let millis = parseDurationMillis(try string()) else { throw templateError("not a valid duration string: \(quoted(try string()))") }
        return .double(Double(millis) / 1000)

    case "title": return .string(titled(try string()))
    case "toUpper": return .string(try string().uppercased())
    case "toLower": return .string(try string().lowercased())
    case "stripPort": return .string(strippedPort(try string()))
    case "stripDomain": return .string(strippedDomain(try string()))
    case "match":
        try need(2)
        return .bool(try Regex(string(0), dotMatchesNewline: false).matchesPart(string(1)))
    case "reReplaceAll":
        try need(3)
        return .string(try Regex(string(0), dotMatchesNewline: false).replaceAll(in: string(2), with: string(1)))
    case "graphLink": return .string(expressionLink(try string(), tab: 0))
    case "tableLink": return .string(expressionLink(try string(), tab: 1))
    case "urlQueryEscape", "urlquery": return .string(queryEscape(try string()))
    case "externalURL": return .string(context.externalURL)
    case "pathPrefix": return .string(pathPrefix(context.externalURL))
    case "safeHtml": return .string(try string())
    case "html": return .string(htmlEscape(try string()))
    default: return try callBuiltin(name, arguments)
    }
}

private func callBuiltin(_ name: String, _ arguments: [TemplateValue]) throws(ObsError) -> TemplateValue {
    switch name {
    case "and", "or": return arguments.last ?? .none
    case "not": return .bool(!(arguments.first ?? .none).isTrue)
    case "len":
        switch arguments.first {
        case .string(let text): return .int(text.utf8.count)
        case .list(let list): return .int(list.count)
        case .labels(let labels): return .int(labels.pairs.count)
        case .map(let map): return .int(map.count)
        default: throw templateError("len of \((arguments.first ?? .none).text)")
        }
    case "index": return try indexed(arguments)
    case "print": return .string(printed(arguments))
    case "println": return .string(arguments.map(\.text).joined(separator: " ") + "\n")
    case "printf":
        guard case .string(let format) = arguments.first ?? .none else { throw templateError("printf wants a format") }
        return .string(goFormat(format, Array(arguments.dropFirst())))
    case "eq", "ne", "lt", "le", "gt", "ge": return .bool(try compared(name, arguments))
    default: throw templateError("function \(quoted(name)) not defined")
    }
}

/// Spaces go between operands when neither is a string (Go's Sprint).
private func printed(_ arguments: [TemplateValue]) -> String {
    var text = ""
    var afterString = true
    for argument in arguments {
        var isString = false
        if case .string = argument { isString = true }
        if !isString, !afterString { text += " " }
        text += argument.text
        afterString = isString
    }
    return text
}

private func indexed(_ arguments: [TemplateValue]) throws(ObsError) -> TemplateValue {
    guard var value = arguments.first else { throw templateError("index of nothing") }
    for key in arguments.dropFirst() {
        switch (value, key) {
        case (.labels(let labels), .string(let name)): value = .string(labels[name] ?? "")
        case (.map(let map), .string(let name)): value = map[name] ?? .none
        case (.list(let list), .int(let at)):
            guard list.indices.contains(at) else { throw templateError("index out of range: \(at)") }
            value = list[at]
        default: throw templateError("can't index \(value.text) with \(key.text)")
        }
    }
    return value
}

private func compared(_ name: String, _ arguments: [TemplateValue]) throws(ObsError) -> Bool {
    guard arguments.count >= 2 else { throw templateError("missing argument for comparison") }
    func order(_ a: TemplateValue, _ b: TemplateValue) throws(ObsError) -> Int? {
        switch (a, b) {
        case (.string(let x), .string(let y)): return x.utf8.elementsEqual(y.utf8) ? 0 : x.utf8.lexicographicallyPrecedes(y.utf8) ? -1 : 1
        case (.bool(let x), .bool(let y)): return x == y ? 0 : 1
        case (.double, .double), (.double, .int), (.int, .double), (.int, .int):
            let x = try templateNumber(a, name)
            let y = try templateNumber(b, name)
            return x == y ? 0 : x < y ? -1 : x > y ? 1 : nil  // NaN is in no order
        default: throw templateError("incompatible types for comparison")
        }
    }
    if name == "eq" {
        for other in arguments.dropFirst() where try order(arguments[0], other) == 0 { return true }
        return false
    }
    let result = try order(arguments[0], arguments[1])
    switch name {
    case "ne": return result != 0
    case "lt": return result.map { $0 < 0 } ?? false
    case "le": return result.map { $0 <= 0 } ?? false
    case "gt": return result.map { $0 > 0 } ?? false
    default: return result.map { $0 >= 0 } ?? false
    }
}

func templateNumber(_ value: TemplateValue, _ function: String) throws(ObsError) -> Double {
    switch value {
    case .double(let number): return number
    case .int(let number): return Double(number)
    case .string(let text):
        if let number = Double(text) { return number }
        throw templateError("\(function): can't convert \(quoted(text)) to a number")
    default: throw templateError("\(function) wants a number")
    }
}

private func sorted(_ list: [TemplateValue], byLabel name: String) -> [TemplateValue] {
    func key(_ value: TemplateValue) -> String {
        if case .sample(let sample) = value { return sample.labels[name] ?? "" }
        return ""
    }
    return list.enumerated().sorted {
        let (a, b) = (key($0.element), key($1.element))
        return a.utf8.elementsEqual(b.utf8) ? $0.offset < $1.offset : a.utf8.lexicographicallyPrecedes(b.utf8)
    }.map(\.element)
}

// MARK: - Numbers for people

private let largePrefixes = ["k", "M", "G", "T", "P", "E", "Z", "Y"]
private let binaryPrefixes = ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"]
private let smallPrefixes = ["m", "u", "n", "p", "f", "a", "z", "y"]

func humanize(_ value: Double) -> String {
    guard value.isFinite, value != 0 else { return formatFloat("%.4g", value) }
    let (scaled, prefix) = abs(value) >= 1 ? scaledDown(value, by: 1000, largePrefixes) : scaledUp(value)
    return formatFloat("%.4g", scaled) + prefix
}

func humanize1024(_ value: Double) -> String {
    guard value.isFinite, abs(value) > 1 else { return formatFloat("%.4g", value) }
    let (scaled, prefix) = scaledDown(value, by: 1024, binaryPrefixes)
    return formatFloat("%.4g", scaled) + prefix
}

private func scaledDown(_ value: Double, by step: Double, _ prefixes: [String]) -> (Double, String) {
    var scaled = value
    var prefix = ""
    for next in prefixes where abs(scaled) >= step {
        prefix = next
        scaled /= step
    }
    return (scaled, prefix)
}

private func scaledUp(_ value: Double) -> (Double, String) {
    var scaled = value
    var prefix = ""
    for next in smallPrefixes where abs(scaled) < 1 {
        prefix = next
        scaled *= 1000
    }
    return (scaled, prefix)
}

func humanizeDuration(_ value: Double) -> String {
    guard value.isFinite else { return formatFloat("%.4g", value) }
    if value == 0 { return "0s" }
    if abs(value) < 1 {
        let (scaled, prefix) = scaledUp(value)
        return formatFloat("%.4g", scaled) + prefix + "s"
    }
    let sign = value < 0 ? "-" : ""
    let whole = Int64(exactly: abs(value).rounded(.towardZero)) ?? .max
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60)
    if days != 0 { return "\(sign)\(days)d \(hours)h \(minutes)m \(seconds)s" }
    if hours != 0 { return "\(sign)\(hours)h \(minutes)m \(seconds)s" }
    if minutes != 0 { return "\(sign)\(minutes)m \(seconds)s" }
    return sign + formatFloat("%.4g", abs(value)) + "s"
}

/// Go's spelling of a UTC time: `2015-07-01 14:10:51.781 +0000 UTC`.
private func humanizeTimestamp(_ seconds: Double) -> String {
    guard seconds.isFinite, let nanos = Int64(exactly: (seconds * 1e9).rounded()) else { return formatFloat("%.4g", seconds) }
    var text = rfc3339(nanos: nanos)
    text.removeLast()
    return text.split(separator: "T").joined(separator: " ") + " +0000 UTC"
}

// MARK: - Text

private func titled(_ text: String) -> String {
    var result = ""
    var atStart = true
    for character in text {
        result += atStart ? character.uppercased() : String(character)
        atStart = !(character.isLetter || character.isNumber || character == "_" || character == "'")
    }
    return result
}

private func strippedPort(_ text: String) -> String {
    guard let colon = text.lastIndex(of: ":") else { return text }
    let host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { return String(host.dropFirst().dropLast()) }
    return host.contains(":") ? text : String(host)
}

private func strippedDomain(_ text: String) -> String {
    let host = strippedPort(text)
    let port = text.hasPrefix(host) ? text.dropFirst(host.count) : ""
    let isAddress = host.contains(":") || host.allSatisfy { $0.isNumber || $0 == "." }
    return isAddress ? text : String(host.prefix { $0 != "." }) + port
}

private func queryEscape(_ text: String) -> String { percentEncode(text).split(separator: "%20", omittingEmptySubsequences: false).joined(separator: "+") }

func expressionLink(_ expression: String, tab: Int) -> String { "/graph?g0.expr=\(queryEscape(expression))&g0.tab=\(tab)" }

func pathPrefix(_ url: String) -> String {
    guard let scheme = url.firstRange(of: "://") else { return "" }
    let rest = url[scheme.upperBound...]
    guard let slash = rest.firstIndex(of: "/") else { return "" }
    return String(rest[slash...].prefix { $0 != "?" })
}

private func htmlEscape(_ text: String) -> String {
    text.map { character in
        switch character {
        case "<": "&lt;"
        case ">": "&gt;"
        case "&": "&amp;"
        case "\"": "&#34;"
        case "'": "&#39;"
        default: String(character)
        }
    }.joined()
}

/// Go's Sprintf for the verbs templates use: %s %v %d %f %e %g %x %q %t %%, with flags, width and precision.
func goFormat(_ format: String, _ arguments: [TemplateValue]) -> String {
    var result = ""
    var rest = Substring(format)
    var used = 0
    while let next = rest.popFirst() {
        guard next == "%" else {
            result.append(next)
            continue
        }
        let flags = rest.prefix { "+-# 0123456789.".contains($0) }
        rest = rest.dropFirst(flags.count)
        guard let verb = rest.popFirst() else { return result + "%!(NOVERB)" }
        if verb == "%" {
            result += "%"
            continue
        }
        guard used < arguments.count else {
            result += "%!\(verb)(MISSING)"
            continue
        }
        result += goVerb(verb, String(flags), arguments[used])
        used += 1
    }
    if used < arguments.count { result += "%!(EXTRA " + arguments[used...].map(\.text).joined(separator: ", ") + ")" }
    return result
}

private func goVerb(_ verb: Character, _ flags: String, _ value: TemplateValue) -> String {
    // Widths come from users: a thousand spaces are enough.
    let digits = flags.split(whereSeparator: { !$0.isNumber }).compactMap { Int($0) }
    guard digits.allSatisfy({ $0 <= 300 }) else { return "%!\(verb)(BADWIDTH)" }
    switch (verb, value) {
    case ("v", .double),
        ("g", .double) where !flags.contains("."):
        if case .double(let number) = value { return widened(goText(number), flags) }
    case ("f", .double(let number)), ("e", .double(let number)), ("g", .double(let number)), ("G", .double(let number)), ("E", .double(let number)),
        ("F", .double(let number)):
        return number.isFinite ? formatFloat("%\(flags)\(verb)", number) : widened(formatSampleValue(number), flags)
    case ("d", .int(let number)): return widened(String(number), flags)
    case ("x", .int(let number)): return widened(String(number, radix: 16), flags)
    case ("x", .string(let text)): return hexString(text.utf8)
    case ("q", .string(let text)): return "\"\(escapedForQuotes(text))\""
    case ("t", .bool(let flag)): return flag ? "true" : "false"
    case ("s", .string(let text)), ("v", .string(let text)):
        let dot = flags.firstIndex(of: ".")
        let limit = dot.flatMap { Int(flags[flags.index(after: $0)...]) }
        return widened(limit.map { String(text.prefix($0)) } ?? text, String(flags[..<(dot ?? flags.endIndex)]))
    case ("v", _), ("s", .labels), ("s", .list), ("s", .map), ("s", .none), ("s", .sample): return value.text
    default: break
    }
    let kind =
        switch value {
        case .double: "float64"
        case .int: "int"
        case .string: "string"
        case .bool: "bool"
        default: "value"
        }
    return "%!\(verb)(\(kind)=\(value.text))"
}

/// Pads to the width among the flags.
private func widened(_ text: String, _ flags: String) -> String {
    let left = flags.hasPrefix("-")
    let zero = flags.hasPrefix("0")
    guard let width = Int(flags.drop { "+-# ".contains($0) }.prefix { $0.isNumber }), text.count < width else { return text }
    let padding = String(repeating: zero && !left ? "0" : " ", count: width - text.count)
    return left ? text + padding : padding + text
}

extension Substring {
    func firstRange(of text: String) -> Range<Index>? {
        var at = startIndex
        while at < endIndex {
            if self[at...].hasPrefix(text) { return at..<index(at, offsetBy: text.count) }
            at = index(after: at)
        }
        return nil
    }
}

extension String {
    func firstRange(of text: String) -> Range<Index>? { self[...].firstRange(of: text) }
}
