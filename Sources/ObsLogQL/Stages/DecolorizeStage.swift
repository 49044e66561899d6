/// `| decolorize`: removes ANSI colour sequences (`ESC [ … letter`) from the line.
struct DecolorizeStage: Stage {
    func process(_ row: Row) -> Bool {
        let line = row.line
        guard line.contains(0x1b) else { return true }
        var result: [UInt8] = []
        result.reserveCapacity(line.count)
        var at = 0
        while at < line.count {
            guard line[at] == 0x1b, at + 1 < line.count, line[at + 1] == UInt8(ascii: "[") else {
                result.append(line[at])
                at += 1
                continue
            }
            // Parameters 0x30–0x3f, intermediates 0x20–0x2f, then one final byte (ECMA-48 §5.4).
            var end = at + 2
            while end < line.count, line[end] >= 0x20, line[end] <= 0x3f { end += 1 }
            at = min(end + 1, line.count)
        }
        row.setLine(result)
        return true
    }
}
