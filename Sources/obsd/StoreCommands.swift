internal import ObsCore
internal import ObsDisk
internal import ObsEngine
internal import ObsIngest
internal import ObsSegment
internal import ObsWire

/// `obsd fsck`: one line a finding. Exit 0 clean, 1 damage (repaired or not), 2 the store, or a part of it, cannot be looked at.
func fsck(_ flags: Flags) -> Int32 {
    do throws(ObsError) {
        try expect(flags, words: 1, "obsd fsck [--data DIR] [--repair]")
        let report = try Fsck.check(flags["data"], decoder: WireDecoder(limits: Limits()), repair: flags.isGiven("repair"))
        say(report)
        let bad = [(report.damage, "damaged"), (report.unknown, "not to be read")].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
        let what = bad.isEmpty ? "clean" : bad.joined(separator: ", ")
        say(
            "\(what): \(report.segments) segments of \(report.segmentBytes) bytes and \(report.segmentRows) rows, \(report.logFiles) log files of \(report.logRecords) records\n"
        )
        return report.damage > 0 ? 1 : report.unknown > 0 ? 2 : 0
    } catch {
        complain("obsd: \(error.description)\n")
        return 2
    }
}

/// `obsd index rebuild`
func rebuildIndex(_ flags: Flags) throws(ObsError) -> Int32 {
    let usage = "obsd index rebuild [--data DIR]"
    try expect(flags, words: 2, usage)
    guard flags.words[1] == "rebuild" else { throw ObsError(.badInput, "usage: \(usage)") }
    let report = try Fsck.rebuildIndex(flags["data"])
    say(report)
    say("catalogue made again: \(report.segments) segments of \(report.segmentBytes) bytes and \(report.segmentRows) rows\n")
    return report.damage == 0 ? 0 : 1
}

private func say(_ report: FsckReport) {
    for finding in report.findings { say("\(finding.kind.rawValue): \(finding.place): \(finding.what); \(finding.remedy)\n") }
}

/// `obsd segments ls`
func listSegments(_ flags: Flags) throws(ObsError) -> Int32 {
    let usage = "obsd segments ls [--data DIR] [--tenant NAME] [--signal metrics|logs|traces] [--json]"
    try expect(flags, words: 2, usage)
    guard flags.words[1] == "ls" else { throw ObsError(.badInput, "usage: \(usage)") }
    if flags.isGiven("signal"), Signal(rawValue: flags["signal"]) == nil {
        throw ObsError(.badInput, "flag --signal: \(quoted(flags["signal"])) is not metrics, logs or traces")
    }
    let found = try ObsEngine.listSegments(flags["data"])
    let infos = found.infos.filter { info in
        (!flags.isGiven("tenant") || info.tenant.name == flags["tenant"]) && (!flags.isGiven("signal") || info.signal.rawValue == flags["signal"])
    }
    say(flags.isGiven("json") ? infos.map(json).joined() : table(infos))
    for error in found.errors { complain("obsd: \(error.description)\n") }
    return found.errors.isEmpty ? 0 : 1
}

private func table(_ infos: [SegmentInfo]) -> String {
    let head = ["TENANT", "SIGNAL", "DAY", "ID", "LEVEL", "ROWS", "BYTES", "FIRST", "LAST", "NAMES", "SERVICES"]
    return aligned(
        [head]
            + infos.map { info in
                [
                    info.tenant.name, info.signal.rawValue, dayName(info.day), info.id, "\(info.level)", "\(info.rows)", "\(info.bytes)",
                    time(info.minTime, info.signal),
                    time(info.maxTime, info.signal), "\(info.names.count)", "\(info.services.count)",
                ]
            }, right: [4, 5, 6, 9, 10])
}

private func json(_ info: SegmentInfo) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    writer.member("tenant", info.tenant.name)
    writer.member("signal", info.signal.rawValue)
    writer.member("day", dayName(info.day))
    writer.member("id", info.id)
    writer.member("level", int: info.level)
    writer.member("rows", int: info.rows)
    writer.member("bytes", int: info.bytes)
    writer.member("minTime", int: info.minTime)
    writer.member("maxTime", int: info.maxTime)
    writer.member("names", int: info.names.count)
    writer.member("services", int: info.services.count)
    writer.endObject()
    return text(writer)
}

/// `obsd segment dump FILE`
func dumpSegment(_ flags: Flags) throws(ObsError) -> Int32 {
    let usage = "obsd segment dump FILE [--blocks | --rows N]"
    try expect(flags, words: 3, usage)
    guard flags.words[1] == "dump" else { throw ObsError(.badInput, "usage: \(usage)") }
    let path = flags.words[2]
    if flags.isGiven("rows") {
        for row in try firstRows(path, count: try flags.int("rows")) { say(json(row)) }
        return 0
    }
    let segment = try describeSegment(LocalFileSystem(), path)
    let info = segment.info
    say(
        aligned([
            ["version", "\(segment.version)"], ["id", info.id], ["tenant", info.tenant.name], ["signal", info.signal.rawValue], ["level", "\(info.level)"],
            ["rows", "\(info.rows)"], ["bytes", "\(info.bytes)"], ["first", time(info.minTime, info.signal)], ["last", time(info.maxTime, info.signal)],
            ["log ranges", info.walRanges.map { "\($0.first)-\($0.last)" }.joined(separator: " ")],
            ["names", info.names.prefix(20).joined(separator: " ") + (info.names.count > 20 ? " … \(info.names.count)" : "")],
            ["services", info.services.prefix(20).joined(separator: " ") + (info.services.count > 20 ? " … \(info.services.count)" : "")],
            ["checksum", hexString(info.checksum)], ["footer", "at \(segment.footerOffset)"], ["blocks", "\(segment.blocks.count)"],
        ]))
    say("\n" + aligned([["SECTION", "OFFSET", "BYTES"]] + segment.sections.map { [$0.name, "\($0.offset)", "\($0.bytes)"] }, right: [1, 2]))
    say("\n" + aligned([["COLUMN", "BYTES"]] + segment.columns.map { [$0.name, "\($0.bytes)"] }, right: [1]))
    guard flags.isGiven("blocks") else { return 0 }
    let blocks = segment.blocks.map { block in
        [
            block.name, "\(block.offset)", "\(block.bytes)", block.rows > 0 ? "\(block.rows)" : "", block.minTime.map { time($0, info.signal) } ?? "",
            block.maxTime.map { time($0, info.signal) } ?? "",
        ]
    }
    return say("\n" + aligned([["BLOCK", "OFFSET", "BYTES", "ROWS", "FIRST", "LAST"]] + blocks, right: [1, 2, 3]))
}

private func json(_ row: SegmentRow) -> String {
    var writer = JSONWriter()
    writer.beginObject()
    for field in row.fields {
        writer.key(field.name)
        switch field.value {
        case .time(let nanos): writer.string(rfc3339(nanos: nanos))
        case .integer(let value): writer.int(value)
        case .number(let value): value.isFinite ? writer.double(value) : writer.string("\(value)")
        case .text(let bytes): bytes.withUnsafeBytes { writer.string($0) }
        case .labels(let labels): writer.labels(labels)
        }
    }
    writer.endObject()
    return text(writer)
}

private func text(_ writer: JSONWriter) -> String { String(decoding: writer.bytes, as: UTF8.self) + "\n" }

private func expect(_ flags: Flags, words: Int, _ usage: String) throws(ObsError) {
    guard flags.words.count == words else { throw ObsError(.badInput, "usage: \(usage)") }
}

private func time(_ time: Int64, _ signal: Signal) -> String {
    guard signal == .metrics else { return rfc3339(nanos: time) }
    let nanos = time.multipliedReportingOverflow(by: nanosPerMilli)
    return nanos.overflow ? "\(time) ms" : rfc3339(nanos: nanos.partialValue)
}

/// Columns side by side; those in `right` flush right.
private func aligned(_ rows: [[String]], right: Set<Int> = []) -> String {
    var widths: [Int] = []
    for row in rows {
        for (column, cell) in row.enumerated() {
            if column == widths.count { widths.append(0) }
            widths[column] = max(widths[column], cell.count)
        }
    }
    return rows.map { row in
        var line = ""
        for (column, cell) in row.enumerated() {
            let padding = String(repeating: " ", count: widths[column] - cell.count)
            line += right.contains(column) ? padding + cell : column == row.count - 1 ? cell : cell + padding
            if column < row.count - 1 { line += "  " }
        }
        return line + "\n"
    }.joined()
}
