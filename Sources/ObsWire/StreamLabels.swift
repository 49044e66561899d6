internal import ObsCore

/// Loki's label text, `{app="web", env="p"}`: equality only, values as Go string literals (`"…"` with escapes or `` `…` ``).
enum StreamLabels {
    /// Reads the pairs into the builder.
    /// - Throws: `.badInput` with Loki's `couldn't parse labels: …`.
    static func parse(_ text: UnsafeRawBufferPointer, into labels: inout LabelSetBuilder) throws(ObsError) {
        var parser = StreamLabelsParser(text: text)
        labels.removeAll()
        try parser.parse(into: &labels)
    }

    /// Loki takes names of Prometheus' old character set only.
    static func isValidName(_ name: UnsafeRawBufferPointer) -> Bool {
        !name.isEmpty
            && name.indices.allSatisfy { at in
                (name[at] | 0x20) &- UInt8(ascii: "a") < 26 || name[at] == UInt8(ascii: "_") || at > 0 && name[at] &- UInt8(ascii: "0") < 10
            }
    }

    static func failure(_ text: UnsafeRawBufferPointer, _ what: String) -> ObsError {
        ObsError(.badInput, "couldn't parse labels: \(quoted(String(decoding: text.prefix(300), as: UTF8.self))): \(what)")
    }
}

private struct StreamLabelsParser {
    let text: UnsafeRawBufferPointer
    var position = 0

    mutating func parse(into labels: inout LabelSetBuilder) throws(ObsError) {
        guard take(UInt8(ascii: "{")) else { throw failure("expected {") }
        while !take(UInt8(ascii: "}")) {
            if !labels.isEmpty {
                guard take(UInt8(ascii: ",")) else { throw failure("expected a comma or }") }
                if take(UInt8(ascii: "}")) { break }
            }
            let name = try name()
            guard take(UInt8(ascii: "=")) else { throw failure("expected = after a label name") }
            labels.beginPair(name)
            try value(into: &labels)
        }
        skipSpace()
        guard position == text.count else { throw failure("something follows }") }
    }

    private func failure(_ what: String) -> ObsError { StreamLabels.failure(text, "\(what) at offset \(position)") }

    private mutating func skipSpace() {
        while position < text.count, text[position] == 0x20 || 0x09...0x0d ~= text[position] { position += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        skipSpace()
        guard position < text.count, text[position] == byte else { return false }
        position += 1
        return true
    }

    private mutating func name() throws(ObsError) -> UnsafeRawBufferPointer {
        skipSpace()
        let start = position
        while position < text.count, text[position] > 0x20, text[position] != UInt8(ascii: "="), text[position] != UInt8(ascii: "}") { position += 1 }
        let name = UnsafeRawBufferPointer(rebasing: text[start..<position])
        guard StreamLabels.isValidName(name) else {
            throw failure("invalid label name \(quoted(String(decoding: name.prefix(200), as: UTF8.self)))")
        }
        return name
    }

    private mutating func value(into labels: inout LabelSetBuilder) throws(ObsError) {
        if take(UInt8(ascii: "`")) {
            let start = position
            while position < text.count, text[position] != UInt8(ascii: "`") { position += 1 }
            guard position < text.count else { throw failure("a label value does not end") }
            labels.appendToValue(UnsafeRawBufferPointer(rebasing: text[start..<position]))
            position += 1
            return
        }
        guard take(UInt8(ascii: "\"")) else { throw failure("expected a quoted label value") }
        var start = position
        while position < text.count, text[position] != UInt8(ascii: "\"") {
            if text[position] == UInt8(ascii: "\\") {
                labels.appendToValue(UnsafeRawBufferPointer(rebasing: text[start..<position]))
                try escape(into: &labels)
                start = position
            } else {
                position += 1
            }
        }
        guard position < text.count else { throw failure("a label value does not end") }
        labels.appendToValue(UnsafeRawBufferPointer(rebasing: text[start..<position]))
        position += 1
    }

    /// One escape of a Go string literal.
    private mutating func escape(into labels: inout LabelSetBuilder) throws(ObsError) {
        guard position + 1 < text.count else { throw failure("a label value does not end") }
        let kind = text[position + 1]
        position += 2
        switch kind {
        case UInt8(ascii: "a"): labels.appendToValue(0x07)
        case UInt8(ascii: "b"): labels.appendToValue(0x08)
        case UInt8(ascii: "f"): labels.appendToValue(0x0c)
        case UInt8(ascii: "n"): labels.appendToValue(0x0a)
        case UInt8(ascii: "r"): labels.appendToValue(0x0d)
        case UInt8(ascii: "t"): labels.appendToValue(0x09)
        case UInt8(ascii: "v"): labels.appendToValue(0x0b)
        case UInt8(ascii: "\\"), UInt8(ascii: "\""), UInt8(ascii: "'"): labels.appendToValue(kind)
        case UInt8(ascii: "x"): labels.appendToValue(UInt8(truncatingIfNeeded: try digits(2, radix: 16)))
        case UInt8(ascii: "u"), UInt8(ascii: "U"):
            guard let scalar = Unicode.Scalar(try digits(kind == UInt8(ascii: "u") ? 4 : 8, radix: 16)) else { throw failure("an escape is no character") }
            Array(String(scalar).utf8).withUnsafeBytes { labels.appendToValue($0) }
        case UInt8(ascii: "0")...UInt8(ascii: "7"):
            position -= 1
            let value = try digits(3, radix: 8)
            guard value <= 255 else { throw failure("an octal escape past 255") }
            labels.appendToValue(UInt8(truncatingIfNeeded: value))
        default: throw failure("an unknown escape")
        }
    }

    private mutating func digits(_ count: Int, radix: UInt32) throws(ObsError) -> UInt32 {
        guard position + count <= text.count else { throw failure("an incomplete escape") }
        var value: UInt32 = 0
        for digit in text[position..<position + count] {
            guard let digit = hexValue(digit), UInt32(digit) < radix else { throw failure("an incomplete escape") }
            value = value &* radix &+ UInt32(digit)
        }
        position += count
        return value
    }
}
