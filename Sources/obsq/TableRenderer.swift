/// Aligned columns. Width counts characters; numbers stand at the right.
struct TableRenderer {
    var heads: [String]
    var rightAligned: Set<Int> = []
    private var rows: [[String]] = []

    init(_ heads: [String], rightAligned: Set<Int> = []) {
        self.heads = heads
        self.rightAligned = rightAligned
    }

    mutating func add(_ row: [String]) { rows.append(row) }

    /// - Parameter style: applied to a padded cell of a column, so that colour codes do not count as width.
    func render(head: (String) -> String, style: (_ column: Int, _ text: String) -> String = { $1 }) -> String {
        let widths = heads.indices.map { column in ([heads[column].count] + rows.map { column < $0.count ? $0[column].count : 0 }).max() ?? 0 }
        func padded(_ text: String, _ column: Int) -> String {
            let space = String(repeating: " ", count: max(0, widths[column] - text.count))
            if rightAligned.contains(column) { return space + text }
            return column == heads.count - 1 ? text : text + space
        }
        var lines = [head(heads.indices.map { padded(heads[$0], $0) }.joined(separator: "  "))]
        for row in rows { lines.append(row.indices.map { style($0, padded(row[$0], $0)) }.joined(separator: "  ")) }
        return lines.joined(separator: "\n") + "\n"
    }
}
