// Which rows of a block a selection wants. What costs least is asked first: the block's filter of its lines, then streams, then times, then the lines themselves,
// which are not put together for it; each narrows what the next is asked about, and where nothing is left nothing more is read.

internal import ObsCore
internal import ObsEncoding
internal import ObsSegment
internal import ObsStore

extension LogSelection {
    /// Whether no line of a block passes, for certain.
    func excludes(_ block: LogBlockView) throws(ObsError) -> Bool {
        if !fields.isEmpty {
            let known = try block.fields()
            if fields.contains(where: { $0.answer(known, rows: block.rows) == false }) { return true }
            for field in fields {
                if let text = field.attributeText, let filter = try block.attributeFilter(), !filter.mayContain(text, ignoringCase: false) { return true }
            }
        }
        guard !lines.isEmpty, let filter = try block.lineFilter() else { return false }
        return !lines.allSatisfy { $0.mayPass(filter) }
    }

    /// Rows of a block that satisfy all of it and are not deleted.
    /// - Parameters:
    ///   - matching: of the block's streams.
    ///   - times: those wanted.
    ///   - hidden: of the block's streams; empty when nothing is deleted.
    func rows(of block: LogBlockView, matching: ArraySlice<Bool>, times wanted: Range<Int64>, hidden: [HiddenRows]) throws(ObsError) -> RowSet {
        if try excludes(block) { return RowSet(count: block.rows) }
        var rows = RowSet(all: block.rows)
        if matching.contains(false) {
            let streams = try block.streamNumbers()
            for row in 0..<block.rows where !matching[matching.startIndex + Int(streams[row])] { rows.remove(row) }
        }
        if block.info.minNanos < wanted.lowerBound || block.info.maxNanos >= wanted.upperBound {
            let times = try block.times()
            for row in 0..<block.rows where !wanted.contains(times[row]) { rows.remove(row) }
        }
        for filter in lines where !rows.isEmpty { rows = try filter.rows(of: try block.lines(), among: rows) }
        if !fields.isEmpty, !rows.isEmpty {
            let known = try block.fields()
            for filter in fields where !rows.isEmpty && filter.answer(known, rows: block.rows) != true { rows = try filter.rows(of: block, among: rows) }
        }
        if !rows.isEmpty, hidden.contains(where: { !$0.isEmpty }) { try removeHidden(block, hidden, from: &rows) }
        return rows
    }

    private func removeHidden(_ block: LogBlockView, _ hidden: [HiddenRows], from rows: inout RowSet) throws(ObsError) {
        let times = try block.times()
        let streams = try block.streamNumbers()
        var bytes: [UInt8] = []
        let texts = hidden.contains { !$0.lines.isEmpty } ? try block.lines().texts(of: rows, into: &bytes) : []
        let asked = rows.rows
        bytes.withUnsafeBytes { bytes in
            for (index, row) in asked.enumerated()
            where hidden[Int(streams[row])].contains(times[row], line: texts.isEmpty ? .empty : texts[index], in: bytes) { rows.remove(row) }
        }
    }
}

extension LineFilter {
    /// False: no line of the block passes, for certain.
    func mayPass(_ filter: TextFilter) -> Bool {
        if isNegated { return true }
        return tests.contains { test in
            switch test {
            case .contains(let search): filter.mayContain(search.needle, ignoringCase: false)
            case .holds(_, let literals): literals.allSatisfy { $0.contains { filter.mayContain($0, ignoringCase: true) } }
            }
        }
    }

    /// The rows of `among` whose line passes.
    func rows(of lines: BlockTexts, among: RowSet) throws(ObsError) -> RowSet {
        var found = RowSet(count: among.count)
        for test in tests {
            let rest = among.subtracting(found)
            if rest.isEmpty { break }
            switch test {
            case .contains(let search): found.formUnion(try lines.rows(containing: search, ignoringCase: false, among: rest))
            case .holds(let body, let literals):
                var candidates = rest
                for alternatives in literals where !candidates.isEmpty {
                    var having = RowSet(count: among.count)
                    for literal in alternatives {
                        having.formUnion(try lines.rows(containing: ByteSearch(literal), ignoringCase: true, among: candidates.subtracting(having)))
                    }
                    candidates = having
                }
                if !candidates.isEmpty { found.formUnion(try lines.rows(among: candidates, where: body)) }
            }
        }
        return isNegated ? among.subtracting(found) : found
    }
}

extension FieldFilter {
    /// A text that an attribute must be, and that only a string is: no number, no literal.
    fileprivate var attributeText: [UInt8]? {
        guard source == .attributes, !isNegated, case .compares(.equal, .text(let text)) = test else { return nil }
        let isOther = text.withUnsafeBytes { FieldNumber($0) != nil } || ["true", "false", "inf", "-inf", "nan"].contains { $0.utf8.elementsEqual(text) }
        return isOther ? nil : text
    }

    /// Whether all rows of a block pass, or none does; nil where the block must be read.
    func answer(_ known: FieldStatistics, rows: Int) -> Bool? {
        var isFirst = true
        for path in paths {
            // A path that no row has leaves it to the next.
            guard let values = known.values(of: path, source) else { continue }
            if case .counts(let counts) = values, counts.isEmpty { continue }
            if isFirst, let counts = values.counts(test), counts.passing == rows { return !isNegated }
            guard values.excludes(test) else { return nil }
            isFirst = false
        }
        return isNegated
    }

    /// The rows of `among` that pass.
    func rows(of block: LogBlockView, among: RowSet) throws(ObsError) -> RowSet {
        let texts = source == .line ? try block.lines() : try block.attributes()
        return try rows(of: texts, among: among)
    }

    func rows(of texts: BlockTexts, among: RowSet) throws(ObsError) -> RowSet {
        var found = RowSet(count: among.count)
        var rest = among
        for (index, path) in paths.enumerated() where !rest.isEmpty {
            found.formUnion(try texts.rows(where: path, of: source, pass: test, among: rest))
            // What has the field is not asked for the next.
            if index + 1 < paths.count { rest.subtract(try texts.rows(where: path, of: source, pass: .exists, among: rest)) }
        }
        return isNegated ? among.subtracting(found) : found
    }
}
