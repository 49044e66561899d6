// The severity of records whose protocol has none (contract loki.md §3): a level field among labels and metadata, else a level field of a
// line that is JSON (two levels deep) or logfmt, else the first level word in the text.
//
// It runs for every line pushed, so a line is looked at once and only its first `bytesMax` bytes: a level stands at the front of a line if anywhere,
// and a stack dump of megabytes must not be read for it.

internal import Glibc
internal import ObsCore

package enum LevelDetection {
    private static let bytesMax = 1024

    /// Whether a field of that name holds a level: level, log.level, severity, lvl, severity_text in any case.
    package static func isLevelKey(_ key: UnsafeRawBufferPointer) -> Bool {
        switch key.count {
        case 3: equalsFolded(key, "lvl")
        case 5: equalsFolded(key, "level")
        case 8: equalsFolded(key, "severity")
        case 9: equalsFolded(key, "log.level") || equalsFolded(key, "log_level")
        case 12: equalsFolded(key, "severitytext")
        case 13: equalsFolded(key, "severity_text")
        case 14: equalsFolded(key, "detected_level")
        default: false
        }
    }

    /// Severity number a field gives; nil when the field is not a level field, 0 when its value is no level we know.
    package static func severity(attributeKey key: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) -> UInt8? {
        isLevelKey(key) ? severity(word: value) : nil
    }

    /// Severity number of a level word or of the numbers pino and bunyan write (10 trace … 60 fatal); 0 when it is none.
    package static func severity(word: UnsafeRawBufferPointer) -> UInt8 {
        guard (2...11).contains(word.count) else { return 0 }
        if word.count == 2, word[1] == UInt8(ascii: "0"), let rank = hexValue(word[0]), (1...6).contains(rank) { return rank * 4 - 3 }
        return Severity.number(word)
    }

    /// Severity number of the level fields in a canonical label set; 0 when there is none.
    package static func severity(labels: UnsafeRawBufferPointer) -> UInt8 {
        var found: UInt8 = 0
        forEachLabel(labels) { name, value in
            if found == 0, let severity = severity(attributeKey: name, value: value) { found = severity }
        }
        return found
    }

    /// Severity number told by the line itself; 0 when it tells none.
    package static func severity(line: UnsafeRawBufferPointer) -> UInt8 {
        let head = UnsafeRawBufferPointer(rebasing: line.prefix(bytesMax))
        guard let first = head.first(where: { $0 != 0x20 && $0 != 0x09 }) else { return 0 }
        if first == UInt8(ascii: "{"), let severity = json(head, isCut: head.count < line.count) { return severity }
        if let severity = logfmt(head) { return severity }
        return firstWord(head)
    }

    // MARK: - JSON

    /// Nil when the line is not JSON. A cut line counts as JSON: what was read of it before the cut decides.
    private static func json(_ line: UnsafeRawBufferPointer, isCut: Bool) -> UInt8? {
        var scanner = JSONScanner(line)
        var found: UInt8 = 0
        do throws(ObsError) {
            try members(&scanner, depth: 1, &found)
            return found
        } catch {
            return found != 0 || isCut ? found : nil
        }
    }

    private static func members(_ scanner: inout JSONScanner, depth: Int, _ found: inout UInt8) throws(ObsError) {
        try scanner.enterObject()
        while let key = try scanner.nextKey() {
            if depth < 2, scanner.peek() == .object {
                try members(&scanner, depth: depth + 1, &found)
            } else {
                let value = try scanner.value()
                if value.kind == .string || value.kind == .number, isLevelKey(scanner.bytes(key)) { found = severity(word: scanner.bytes(value)) }
            }
            if found != 0 { return }
        }
    }

    // MARK: - logfmt

    /// The value of the first level key; nil when there is none.
    private static func logfmt(_ line: UnsafeRawBufferPointer) -> UInt8? {
        var at = 0
        while let base = line.baseAddress, let found = memchr(base + at, Int32(UInt8(ascii: "=")), line.count - at) {
            let equals = UnsafeRawPointer(found) - base
            var start = equals
            while start > at, line[start - 1] > 0x20 { start -= 1 }
            if isLevelKey(UnsafeRawBufferPointer(rebasing: line[start..<equals])) {
                var from = equals + 1
                if from < line.count, line[from] == UInt8(ascii: "\"") { from += 1 }
                var end = from
                while end < line.count, line[end] > 0x20, line[end] != UInt8(ascii: "\"") { end += 1 }
                let severity = severity(word: UnsafeRawBufferPointer(rebasing: line[from..<end]))
                if severity != 0 { return severity }
            }
            at = equals + 1
        }
        return nil
    }

    // MARK: - words

    private static let words: [(text: StaticString, severity: UInt8)] = [
        ("trace", 1), ("debug", 5), ("info", 9), ("information", 9), ("warn", 13), ("warning", 13), ("err", 17), ("error", 17), ("critical", 20), ("fatal", 21),
    ]

    /// The first word of the text that is a level.
    private static func firstWord(_ line: UnsafeRawBufferPointer) -> UInt8 {
        var at = 0
        while at < line.count {
            while at < line.count, !isWordByte(line[at]) { at += 1 }
            let start = at
            while at < line.count, isWordByte(line[at]) { at += 1 }
            guard (3...11).contains(at - start), mayBeginLevel(line[start]) else { continue }
            let word = UnsafeRawBufferPointer(rebasing: line[start..<at])
            for candidate in words where equalsFolded(word, candidate.text) { return candidate.severity }
        }
        return 0
    }

    private static func mayBeginLevel(_ byte: UInt8) -> Bool {
        switch byte | 0x20 {
        case UInt8(ascii: "t"), UInt8(ascii: "d"), UInt8(ascii: "i"), UInt8(ascii: "w"), UInt8(ascii: "e"), UInt8(ascii: "c"), UInt8(ascii: "f"): true
        default: false
        }
    }

    private static func isWordByte(_ byte: UInt8) -> Bool {
        (byte | 0x20) &- UInt8(ascii: "a") < 26 || byte &- UInt8(ascii: "0") < 10 || byte == UInt8(ascii: "_")
    }
}

func equals(_ bytes: UnsafeRawBufferPointer, _ word: StaticString) -> Bool {
    compareBytes(bytes, UnsafeRawBufferPointer(start: word.utf8Start, count: word.utf8CodeUnitCount)) == 0
}

/// Equality with lower-case ASCII text, capitals of `bytes` taken as small letters.
func equalsFolded(_ bytes: UnsafeRawBufferPointer, _ lowercased: StaticString) -> Bool {
    guard bytes.count == lowercased.utf8CodeUnitCount else { return false }
    let wanted = lowercased.utf8Start
    for at in 0..<bytes.count {
        let byte = bytes[at]
        let folded = byte &- UInt8(ascii: "A") < 26 ? byte | 0x20 : byte
        if folded != wanted[at] { return false }
    }
    return true
}
