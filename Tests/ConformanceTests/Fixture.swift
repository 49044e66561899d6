import Foundation
import ObsCore
import XCTest

/// A line of a fixture that begins in the first column, and the indented lines below it.
struct FixtureBlock {
    var head: String
    var body: [String]
    var line: Int
}

/// Name and text of every `.test` file of a folder under Tests/Fixtures.
func fixtures(_ folder: String) throws -> [(file: String, text: String)] {
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("Fixtures/\(folder)")
    let files = try FileManager.default.contentsOfDirectory(atPath: path.path).filter { $0.hasSuffix(".test") }.sorted()
    XCTAssertFalse(files.isEmpty, "no fixtures in \(path.path)")
    return try files.map { ($0, try String(contentsOf: path.appendingPathComponent($0), encoding: .utf8)) }
}

/// Blank lines and lines that begin with `#` are left out.
func blocks(_ text: String) -> [FixtureBlock] {
    var result: [FixtureBlock] = []
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
        let bare = line.trimmingCharacters(in: .whitespaces)
        if bare.isEmpty || line.hasPrefix("#") { continue }
        if line.first == " " || line.first == "\t" {
            result[result.count - 1].body.append(bare)
        } else {
            result.append(FixtureBlock(head: bare, body: [], line: index + 1))
        }
    }
    return result
}

/// Takes words off the front of a line.
struct Words {
    var rest: String

    init(_ text: String) { rest = text }

    mutating func next() -> String {
        let word = rest.prefix { $0 != " " }
        rest = String(rest.dropFirst(word.count).drop { $0 == " " })
        return String(word)
    }
}

/// `1s`, `1500ms`, `250us` in nanoseconds.
func nanos(_ text: String) throws -> Int64 {
    if text.hasSuffix("us") { return try XCTUnwrap(Int64(text.dropLast(2)), text) * 1000 }
    return try XCTUnwrap(parseDurationMillis(text), "bad time \(text)") * 1_000_000
}
