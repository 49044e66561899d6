import Foundation
import ObsNet
import XCTest

/// JSON as Foundation reads it, for tests that compare whole answers.
struct JSONTree: Equatable, CustomStringConvertible {
    let value: Any?

    init(_ value: Any?) { self.value = value }
    init(_ bytes: [UInt8]) throws { value = try JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed) }
    init(_ text: String) throws { try self.init(Array(text.utf8)) }

    subscript(_ name: String) -> JSONTree { JSONTree((value as? [String: Any])?[name]) }
    subscript(_ place: Int) -> JSONTree { list.indices.contains(place) ? list[place] : JSONTree(nil) }
    var list: [JSONTree] { (value as? [Any] ?? []).map { JSONTree($0) } }
    var members: [String: JSONTree] { (value as? [String: Any] ?? [:]).mapValues { JSONTree($0) } }
    var text: String { value as? String ?? "" }
    var texts: [String] { list.map(\.text) }
    var number: Double { (value as? NSNumber)?.doubleValue ?? Double(text) ?? .nan }
    var exists: Bool { value != nil }

    static func == (left: JSONTree, right: JSONTree) -> Bool {
        guard let a = left.value as? NSObject, let b = right.value as? NSObject else { return left.value == nil && right.value == nil }
        return a.isEqual(b)
    }

    var description: String {
        guard let value, let data = try? JSONSerialization.data(withJSONObject: value, options: [.sortedKeys, .fragmentsAllowed]) else { return "nothing" }
        return String(decoding: data, as: UTF8.self)
    }
}

extension ObsdProcess {
    /// The JSON answer to a GET that must succeed.
    func tree(_ path: String, _ parameters: [(String, String)] = [], file: StaticString = #filePath, line: UInt = #line) throws -> JSONTree {
        let response = try get(path, parameters)
        XCTAssertEqual(response.status, 200, "\(path): \(String(decoding: response.body, as: UTF8.self))", file: file, line: line)
        return try JSONTree(response.body)
    }

    /// An instant query's samples: value by the labels that `labels` names, joined with a comma.
    func samples(_ promQL: String, by labels: [String] = [], at time: Double? = nil) throws -> [String: Double] {
        var found: [String: Double] = [:]
        for sample in try tree("/api/v1/query", [("query", promQL)] + (time.map { [("time", String(format: "%.3f", $0))] } ?? []))["data"]["result"].list {
            found[labels.map { sample["metric"][$0].text }.joined(separator: ","), default: 0] += sample["value"][1].number
        }
        return found
    }
}

extension Run {
    /// Runs a client script, which must succeed; what it printed.
    static func client(_ script: String, _ arguments: [String], environment: [String: String] = [:]) throws -> String {
        guard FileManager.default.isExecutableFile(atPath: Place.python) else {
            throw Place.Missing(what: "\(Place.python) is not there; run `deploy/deps test`")
        }
        let run = try Run(Place.python, ["\(Place.clients)/\(script)"] + arguments, environment: environment)
        guard run.status == 0 else { throw Place.Missing(what: "\(script) failed: \(run.errors)") }
        return run.output
    }
}
