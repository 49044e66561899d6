// Columns of samples, beside zstd of the same values as they lie in memory: `codecs floats`, or `codecs floats FILE` for a file of doubles (8 bytes each).
// A column is cut into chunks as a segment does it, and chunks into blocks, each compressed once: what a value costs is what it costs on disk.
import Foundation
import ObsCompress
import ObsCore
import ObsEncoding

private let chunkSamples = 1024
private let blockSamples = 16_384
private let level = 3

/// A generator of its own: the same numbers in every run.
private struct Numbers {
    private var state: UInt64 = 0x9e37_79b9_7f4a_7c15
    mutating func next() -> UInt64 {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return state &* 0x2545_f491_4f6c_dd1d
    }
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    /// About normal, with a mean of 0 and a deviation of 1.
    mutating func normal() -> Double { (0..<12).reduce(-6) { sum, _ in sum + Double(next() >> 11) * 0x1p-53 } }
}

private func syntheticFloats(_ count: Int) -> [(String, [Double])] {
    var numbers = Numbers()
    var counter = 1_000_000.0
    var walk = 50.0
    return [
        ("constant", (0..<count).map { Double($0 / chunkSamples) }),
        ("counter", (0..<count).map { _ in (counter += Double(numbers.below(100)), counter).1 }),
        ("counter, 1 in 200 stale", (0..<count).map { _ in numbers.below(200) == 0 ? SpecialValue.stale : (counter += 15, counter).1 }),
        ("seconds, 2 decimals", (0..<count).map { _ in (walk = ((walk + numbers.normal()) * 100).rounded() / 100, walk).1 }),
        ("percentages, 1 decimal", (0..<count).map { _ in Double(numbers.below(1000)) / 10 }),
        ("bytes in round thousands", (0..<count).map { _ in Double(numbers.below(1_000_000)) * 4096 }),
        ("true doubles in 0...1", (0..<count).map { _ in Double(numbers.next() >> 11) * 0x1p-53 }),
        ("true doubles, walking", (0..<count).map { _ in (walk += numbers.normal() * 1e-4, walk).1 }),
        ("true doubles, normal", (0..<count).map { _ in numbers.normal() * 7 }),
    ]
}

private func syntheticTimes(_ count: Int) -> [(String, [Int64])] {
    var numbers = Numbers()
    return [
        ("times, every 15 s", (0..<count).map { 1_700_000_000_000 + Int64($0) * 15_000 }),
        ("times, 3 % late by 1-3 ms", (0..<count).map { 1_700_000_000_000 + Int64($0) * 15_000 + (numbers.below(100) < 3 ? Int64(1 + numbers.below(3)) : 0) }),
        ("times, jitter of 10 ms", (0..<count).map { 1_700_000_000_000 + Int64($0) * 15_000 + Int64(numbers.below(10)) }),
    ]
}

private struct Figures {
    var encode = 0.0
    var decode = 0.0
    var bytes = 0
    var packed = 0
}

/// - Parameter decode: of chunks one after the other, into one buffer.
private func measure<T>(_ values: [T], _ encode: (ArraySlice<T>, inout [UInt8]) -> Void, _ decode: ([UInt8], [Int], [Int]) throws -> Void) rethrows -> Figures {
    var figures = Figures()
    for first in stride(from: 0, to: values.count, by: blockSamples) {
        let block = values[first..<min(values.count, first + blockSamples)]
        var bytes: [UInt8] = []
        var ends: [Int] = []
        var counts: [Int] = []
        figures.encode += processorSeconds {
            for start in stride(from: block.startIndex, to: block.endIndex, by: chunkSamples) {
                let chunk = block[start..<min(block.endIndex, start + chunkSamples)]
                encode(chunk, &bytes)
                ends.append(bytes.count)
                counts.append(chunk.count)
            }
        }
        figures.decode += try processorSeconds { try decode(bytes, ends, counts) }
        figures.bytes += bytes.count
        figures.packed += zstdCompress(bytes, level: level).count
    }
    return figures
}

private func report<T>(_ name: String, _ values: [T], _ figures: Figures) {
    let raw = values.withUnsafeBytes { [UInt8]($0) }
    var zstd = Figures()
    for start in stride(from: 0, to: raw.count, by: blockSamples * 8) {
        let block = Array(raw[start..<min(raw.count, start + blockSamples * 8)])
        var packed: [UInt8] = []
        zstd.encode += processorSeconds { packed = zstdCompress(block, level: level) }
        zstd.decode += processorSeconds { _ = try? zstdDecompress(packed, exactly: block.count) }
        zstd.packed += packed.count
    }
    let count = Double(values.count)
    func text(_ figures: Figures) -> String {
        func rate(_ seconds: Double) -> String { String(format: "%6.0f M/s %5.1f GB/s", count / seconds / 1e6, count * 8 / seconds / 1e9) }
        return String(format: "%6.2f bits, encoded at ", Double(figures.packed) * 8 / count) + rate(figures.encode) + ", decoded at " + rate(figures.decode)
    }
    print(name.padding(toLength: 28, withPad: " ", startingAt: 0) + text(figures))
    print("  zstd-\(level)".padding(toLength: 28, withPad: " ", startingAt: 0) + text(zstd))
}

private func measureFloats(_ name: String, _ values: [Double]) throws {
    var output = [Double](repeating: 0, count: blockSamples)
    let figures = try measure(
        values, { chunk, bytes in chunk.withUnsafeBufferPointer { FloatCodec.append($0, to: &bytes) } },
        { bytes, ends, counts in
            try bytes.withUnsafeBytes { all in
                try output.withUnsafeMutableBufferPointer { output in
                    var (start, place) = (0, 0)
                    for (end, count) in zip(ends, counts) {
                        var cursor = ByteCursor(UnsafeRawBufferPointer(rebasing: all[start..<end]))
                        try FloatCodec.decode(&cursor, into: UnsafeMutableBufferPointer(rebasing: output[place..<place + count]))
                        (start, place) = (end, place + count)
                    }
                }
            }
        })
    report(name, values, figures)
}

private func measureTimes(_ name: String, _ values: [Int64]) throws {
    var output = [Int64](repeating: 0, count: blockSamples)
    let figures = try measure(
        values, { chunk, bytes in _ = chunk.withUnsafeBufferPointer { IntegerCodec.append($0, to: &bytes) } },
        { bytes, ends, counts in
            try bytes.withUnsafeBytes { all in
                try output.withUnsafeMutableBufferPointer { output in
                    var (start, place) = (0, 0)
                    for (end, count) in zip(ends, counts) {
                        var cursor = ByteCursor(UnsafeRawBufferPointer(rebasing: all[start..<end]))
                        try IntegerCodec.decode(&cursor, into: UnsafeMutableBufferPointer(rebasing: output[place..<place + count]))
                        (start, place) = (end, place + count)
                    }
                }
            }
        })
    report(name, values, figures)
}

/// Each codec without zstd, sizes with it; and zstd alone.
func runFloats(_ path: String?) throws {
    if let path {
        let values = try Data(contentsOf: URL(fileURLWithPath: path)).withUnsafeBytes { bytes in
            (0..<bytes.count / 8).map { Double(bitPattern: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)) }
        }
        return try measureFloats(path, values)
    }
    let count = 1 << 20
    for (name, values) in syntheticFloats(count) { try measureFloats(name, values) }
    for (name, values) in syntheticTimes(count) { try measureTimes(name, values) }
}
