import ObsCore
import ObsLogQL
import ObsStore
import XCTest

final class ParserTests: XCTestCase {
    private let queries = [
        "{}", #"{app="a", b!="c", d=~"e.*", f!~"g"}"#, #"{app="a"} |= "x" or "y" != "z" |~ `a\d` !~ "b" |> "<_> c <_>" !> "d""#,
        #"{a="b"} |= ip("10.0.0.0/8")"#, #"{a="b"} | json | logfmt --strict --keep-empty | unpack | decolorize"#,
        #"{a="b"} | json x="y.z", w="v[0]" | logfmt m="n" | regexp `(?P<q>\d+)` | pattern "<ip> <_>""#,
        #"{a="b"} | x=1 and (y>2s or z<=3KB), w!="u" | v=ip("::1")"#,
        #"{a="b"} | line_format "{{.x}}" | label_format d=s, e="{{.f}}" | drop a, b="c" | keep d"#,
        #"sum by (a, b) (rate({a="b"} | json | unwrap duration(x) | __error__="" [5m] offset 1h))"#,
        #"quantile_over_time(0.99, {a="b"} | unwrap x [1h30m]) by (c)"#, #"topk(5, sum(count_over_time({a="b"}[1m])) without (d))"#,
        #"label_replace(rate({a="b"}[1m]), "d", "$1", "s", "(.*)") > bool 5"#,
        #"sum(rate({a="b"}[1m])) / on (x, y) group_left (z) sum(rate({c="d"}[1m])) or vector(0) unless vector(1)"#, "1 + 2 * 3 ^ -4 % 5",
        "sort_desc(vector(1))",
        "# a comment\n{a=\"b\"} # another\n|= \"x\"",
    ]

    /// The canonical text of a query is a query with the same canonical text.
    func testCanonicalTextParsesToItself() throws {
        for query in queries {
            let text = try parseLogQL(query).description
            XCTAssertEqual(try parseLogQL(text).description, text, query)
        }
    }

    func testKinds() throws {
        XCTAssertFalse(try parseLogQL(#"{a="b"} |= "x""#).isMetricQuery)
        XCTAssertFalse(try parseLogQL(#"|= "x""#).isMetricQuery)
        XCTAssertTrue(try parseLogQL("vector(1)").isMetricQuery)
        XCTAssertEqual(try parseLogQL(#"sum(rate({a="b"}[1m]))"#).matchers.map(\.name), ["a"])
        XCTAssertEqual(try parseLogSelector(#"{a="b", c=~"d"}"#).count, 2)
        XCTAssertEqual(try parseLogSelector("").count, 0)
        XCTAssertThrowsError(try parseLogSelector(#"{a="b"} |= "x""#))
    }

    func testNestingIsBounded() {
        for text in [String(repeating: "(", count: 100_000), String(repeating: "sum(", count: 50_000), "{a=\"b\"} | " + String(repeating: "(", count: 50_000)] {
            XCTAssertThrowsError(try parseLogQL(text))
        }
        XCTAssertThrowsError(try parseLogQL("1" + String(repeating: "^1", count: 50_000)))
        XCTAssertThrowsError(try parseLogQL("1" + String(repeating: "+1", count: 3000)))
    }

    /// Any damage gives an error or a query, never a crash.
    func testDamagedQueries() {
        var generator = SplitMix(seed: 7)
        for round in 0..<6000 {
            var bytes = Array(queries[round % queries.count].utf8)
            for _ in 0...Int.random(in: 0..<3, using: &generator) where !bytes.isEmpty {
                let at = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes.remove(at: at)
                case 1: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: at)
                case 2: bytes.removeSubrange(at...)
                default: bytes[at] = Array("{}()[]|=~!\"`<>,.5msx".utf8).randomElement(using: &generator) ?? 0
                }
            }
            let text = String(decoding: bytes, as: UTF8.self)
            if let query = try? parseLogQL(text) { _ = query.description }
            _ = try? CompiledLogQuery(text)
        }
    }
}

/// A small seeded generator, so that a failing round can be run again.
struct SplitMix: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
