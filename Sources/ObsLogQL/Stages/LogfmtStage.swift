internal import ObsCore

/// `| logfmt`: `key=value key="quoted value"` pairs become labels.
///
/// Unless strict, what is no pair is skipped; keys without a value are dropped unless `keepEmpty`. With extractions only those keys are taken,
/// under the labels given, and a missing one gives an empty label.
struct LogfmtStage: Stage {
    private let strict: Bool
    private let keepEmpty: Bool
    private let wanted: [(label: [UInt8], key: [UInt8])]

    init(strict: Bool, keepEmpty: Bool, _ extractions: [StageExpression.Extraction]) {
        self.strict = strict
        self.keepEmpty = keepEmpty
        wanted = extractions.map { (Array($0.label.utf8), Array($0.path.utf8)) }
    }

    func process(_ row: Row) -> Bool {
        let line = row.line
        var at = 0
        while at < line.count {
            while at < line.count, line[at] <= 0x20 { at += 1 }
            guard at < line.count else { break }
            if let failure = pair(row, line, &at) {
                if strict {
                    row.setError("LogfmtParserErr", "logfmt syntax error at pos \(at + 1) : \(failure)")
                    break
                }
                // Skip to the next blank and go on.
                while at < line.count, line[at] > 0x20 { at += 1 }
            }
        }
        for (label, _) in wanted where row.find(label, in: .parsed) == nil { row.addParsed(label, UnsafeRawBufferPointer(start: nil, count: 0)) }
        return true
    }

    /// Reads one pair; what is wrong with it when something is.
    private func pair(_ row: Row, _ line: UnsafeRawBufferPointer, _ at: inout Int) -> String? {
        let start = at
        while at < line.count, line[at] > 0x20, line[at] != UInt8(ascii: "="), line[at] != UInt8(ascii: "\"") { at += 1 }
        let key = UnsafeRawBufferPointer(rebasing: line[start..<at])
        let next = at < line.count ? line[at] : 0x20
        if next == UInt8(ascii: "\"") || key.isEmpty { return "unexpected '\(Character(Unicode.Scalar(next)))'" }
        guard next == UInt8(ascii: "=") else {
            emit(row, key, UnsafeRawBufferPointer(start: nil, count: 0))
            return nil
        }
        at += 1
        if at < line.count, line[at] == UInt8(ascii: "\"") { return quotedValue(row, key, line, &at) }
        let valueStart = at
        while at < line.count, line[at] > 0x20 {
            if line[at] == UInt8(ascii: "=") || line[at] == UInt8(ascii: "\"") { return "unexpected '\(Character(Unicode.Scalar(line[at])))'" }
            at += 1
        }
        emit(row, key, UnsafeRawBufferPointer(rebasing: line[valueStart..<at]))
        return nil
    }

    private func quotedValue(_ row: Row, _ key: UnsafeRawBufferPointer, _ line: UnsafeRawBufferPointer, _ at: inout Int) -> String? {
        var text = JSONText(UnsafeRawBufferPointer(rebasing: line[at...]))
        guard let value = text.string() else {
            at = line.count
            return "unterminated quoted value"
        }
        at += text.at
        if value.escaped {
            var bytes: [UInt8] = []
            text.appendString(value, to: &bytes)
            bytes.withUnsafeBytes { emit(row, key, $0) }
        } else {
            emit(row, key, text.slice(value.range))
        }
        return nil
    }

    private func emit(_ row: Row, _ key: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        if wanted.isEmpty {
            if value.isEmpty, !keepEmpty { return }
            row.scratch2.removeAll(keepingCapacity: true)
            appendSanitised(key, to: &row.scratch2)
            let name = row.scratch2
            row.addParsed(name, value)
        } else {
            for (label, wantedKey) in wanted where key.elementsEqual(wantedKey) { row.addParsed(label, value) }
        }
    }
}
