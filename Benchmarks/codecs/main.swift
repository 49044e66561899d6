// What packing lines costs and saves, beside zstd of the same lines: `swift build -c release --product codecs && .build/release/codecs LINES [ROWS]`.
// LINES is a file of lines, ordered as a segment has them (by stream, then time); ROWS are those of a block. Times of the lines are in LINES.times, Int64
// nanoseconds, little endian, when there is such a file. Of several runs over a block the fastest counts: what else the machine does slows the others.
import Foundation
import ObsCompress
import ObsCore
import ObsEncoding

func processorSeconds(_ body: () throws -> Void) rethrows -> Double {
    func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
    let start = now()
    try body()
    return now() - start
}

func fastest(_ body: () throws -> Void) rethrows -> Double {
    var least = Double.infinity
    for _ in 0..<3 { least = min(least, try processorSeconds(body)) }
    return least
}

func run(_ path: String, blockRows: Int) throws {
    let all = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    var lines: [ByteRange] = []
    var start = 0
    for (index, byte) in all.enumerated() where byte == UInt8(ascii: "\n") {
        lines.append(ByteRange(offset: UInt32(start), count: UInt32(index - start)))
        start = index + 1
    }
    var times =
        (try? Data(contentsOf: URL(fileURLWithPath: path + ".times"))).map { data in
            data.withUnsafeBytes { bytes in (0..<bytes.count / 8).map { bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self) } }
        } ?? []
    if times.count != lines.count { times = [] }
    var bytes = (packed: 0, zstd: 0)
    var seconds = (pack: 0.0, unpack: 0.0, zstd: 0.0)
    for first in stride(from: 0, to: lines.count, by: blockRows) {
        let block = Array(lines[first..<min(lines.count, first + blockRows)])
        let blockTimes = times.isEmpty ? [] : Array(times[first..<first + block.count])
        var packed: [UInt8] = []
        seconds.pack += fastest {
            packed = []
            all.withUnsafeBytes { TextColumn.append(block, of: $0, times: blockTimes, level: 1, to: &packed) }
        }
        var back: [UInt8] = []
        var ranges: [ByteRange] = []
        seconds.unpack += try fastest {
            back = []
            ranges = try packed.withUnsafeBytes { try TextColumn.decode($0, count: block.count, times: blockTimes, bytesMax: 1 << 30, into: &back) }
        }
        for (line, again) in zip(block, ranges) where all[line.range] != back[again.range] { fatalError("line at \(line.offset) came back otherwise") }
        bytes.packed += packed.count
        let whole = Array(all[Int(block[0].offset)..<block[block.count - 1].range.upperBound])
        bytes.zstd += zstdCompress(whole, level: 1).count
        seconds.zstd += fastest { _ = zstdCompress(whole, level: 1) }
    }
    try search(all, lines, blockRows)
    let count = Double(lines.count)
    func each(_ seconds: Double) -> String { String(format: "%.2f us, %.2f GB/s", seconds / count * 1e6, Double(all.count) / seconds / 1e9) }
    print(String(format: "%d lines of %.1f bytes", lines.count, Double(all.count) / count))
    print(String(format: "texts   %6.2f bytes a line; packed in ", Double(bytes.packed) / count) + each(seconds.pack) + "; unpacked in " + each(seconds.unpack))
    print(String(format: "zstd-1  %6.2f bytes a line; packed in ", Double(bytes.zstd) / count) + each(seconds.zstd))
}

/// Searches all blocks for each of some needles: cold, as a view just opened, and again; the filter is asked first in the third.
func search(_ all: [UInt8], _ lines: [ByteRange], _ blockRows: Int) throws {
    var views: [(column: [UInt8], count: Int, filter: TextFilter)] = []
    var filterBytes = 0
    var seconds = (with: 0.0, without: 0.0)
    for first in stride(from: 0, to: lines.count, by: blockRows) {
        let block = Array(lines[first..<min(lines.count, first + blockRows)])
        var packed: [UInt8] = []
        var filter: [UInt8] = []
        all.withUnsafeBytes { bytes in
            seconds.without += processorSeconds { TextColumn.append(block, of: bytes, level: 1, to: &packed) }
            packed = []
            seconds.with += processorSeconds { TextColumn.append(block, of: bytes, level: 1, to: &packed, filter: &filter) }
        }
        filterBytes += filter.count
        views.append((packed, block.count, try TextFilter(filter)))
    }
    let count = Double(lines.count)
    let micros = (seconds.with - seconds.without) / count * 1e6
    print(String(format: "filters %6.2f bytes a line; made in %.2f us a line", Double(filterBytes) / count, micros))
    var samples = ["absentword", "error", "Error", "\"level\":\"error\"", "10.251", "GET /", "500", "worker", "12345", "e7a00bf1-absent", "DataNode"]
    for row in [1234, 77_777, 222_222] where row < lines.count {
        let line = all[lines[row].range]
        samples.append(String(decoding: line.dropFirst(line.count / 2).prefix(16), as: UTF8.self))
        for word in line.split(whereSeparator: { !($0 >= 48 && $0 <= 57 || $0 >= 97 && $0 <= 122) }) where word.count == 16 || word.count == 32 {
            samples.append(String(decoding: word, as: UTF8.self))
        }
    }
    for needle in samples {
        let bytes = Array(needle.utf8)
        var kept: [TextView] = []
        var hits = 0
        let cold = try processorSeconds {
            for view in views {
                kept.append(try TextView(view.column, count: view.count, times: [], bytesMax: 1 << 30))
                hits += try kept[kept.count - 1].rows(containing: bytes, ignoringCase: false, among: RowSet(all: view.count)).population
            }
        }
        let warm = try processorSeconds {
            for view in kept { _ = try view.rows(containing: bytes, ignoringCase: false, among: RowSet(all: view.count)) }
        }
        let lower = needle.lowercased()
        let folded = try processorSeconds {
            for view in kept { _ = try view.rows(containing: Array(lower.utf8), ignoringCase: true, among: RowSet(all: view.count)) }
        }
        var may = 0
        let asked = processorSeconds { for view in views where view.filter.mayContain(bytes, ignoringCase: false) { may += 1 } }
        let blocks = Double(views.count)
        print(
            String(
                format: "%7d hits, us a block: cold %7.1f, again %7.1f (%.1f GB/s), folded %7.1f; filter %.2f, lets %d of %d; ", hits, cold / blocks * 1e6,
                warm / blocks * 1e6, Double(all.count) / warm / 1e9, folded / blocks * 1e6, asked / blocks * 1e6, may, views.count) + needle)
    }
}

guard CommandLine.arguments.count >= 2 else {
    print("usage: codecs LINES [ROWS] | codecs floats [FILE]")
    exit(2)
}
do {
    let second = CommandLine.arguments.count > 2 ? CommandLine.arguments[2] : nil
    if CommandLine.arguments[1] == "floats" { try runFloats(second) } else { try run(CommandLine.arguments[1], blockRows: second.flatMap { Int($0) } ?? 8192) }
} catch {
    print("\(error)")
    exit(1)
}
