import ObsCore
import ObsPromQL
import ObsStore
import XCTest

final class ParserTests: XCTestCase {
    /// A query and how it is printed again; parsing what is printed gives the same.
    func testPrinting() throws {
        func prints(_ query: String, _ wanted: String? = nil, line: UInt = #line) {
            do {
                let printed = try parsePromQL(query).description
                XCTAssertEqual(printed, wanted ?? query, line: line)
                XCTAssertEqual(try parsePromQL(printed).description, printed, line: line)
            } catch { XCTFail("\(query): \(error)", line: line) }
        }
        prints("1 + 2 * 3")
        prints("(1 + 2) * 3")
        prints("-2 ^ 2")
        prints("5m", "5m")
        prints("0x1F", "31")
        prints("1_000.5", "1000.5")
        prints("1e-7", "1e-07")
        prints("Inf", "+Inf")
        prints("foo")
        prints("foo{}", "foo")
        prints("foo{a='b',}", "foo{a=\"b\"}")
        prints("foo{a=\"b\",c!=\"d\",e=~\"f\",g!~\"h\"}")
        prints("{__name__=\"foo\"}")
        prints("{\"foo\"}", "foo")
        prints("{\"http.requests\",\"service.name\"=\"x\"}")
        prints("foo[5m] offset 1h", "foo[5m] offset 1h")
        prints("foo offset -5m")
        prints("foo @ 1609746000", "foo @ 1609746000.000")
        prints("foo @ start() offset 1m", "foo @ start() offset 1m")
        prints("foo[90]", "foo[1m30s]")
        prints("foo[step() + 1m]", "foo[step() + 1m]")
        prints("foo[max_of(step(),5m)]", "foo[max_of(step(), 5m)]")
        prints("rate(foo[5m])[1h:1m]")
        prints("rate(foo[5m])[1h:] @ end()", "rate(foo[5m])[1h:] @ end()")
        prints("sum(foo)")
        prints("sum(foo) by (a, b)", "sum by (a, b) (foo)")
        prints("SUM without () (foo)", "sum without () (foo)")
        prints("topk by (a) (3, foo)")
        prints("count_values(\"v\", foo)")
        prints("a + on (x) group_left (y) b")
        prints("a / ignoring (x) group_right () b")
        prints("a == bool b")
        prints("a and on () b")
        prints("a + fill(0) b", "a + fill (0) b")
        prints("a + fill_left(1) fill_right(2) b", "a + fill_left (1) fill_right (2) b")
        prints("\"a\\tb\"", "\"a\\tb\"")
        prints("`raw\\n`", "\"raw\\\\n\"")
        prints("label_replace(up, \"a\", \"$1\", \"b\", \"(.*)\")")
        prints("foo # comment\n + bar", "foo + bar")
        prints("sum + avg", "sum + avg")
        prints("offset offset 5m", "offset offset 5m")
        prints("start + end", "start + end")
        prints("on_call + by_zone", "on_call + by_zone")
        prints("foo{on=\"x\",sum=\"y\"}")
        prints("time() - a:b:c")
        prints("foo smoothed")
        prints("rate(foo[5m] anchored)")
        prints("rate(foo[5m] @ 10 offset 1m smoothed)", "rate(foo[5m] smoothed @ 10.000 offset 1m)")
        prints("foo @ 10 smoothed offset 1m", "foo @ 10.000 smoothed offset 1m")
        prints("anchored + smoothed")
        prints("a </ 2 >/ b")
        prints("info(foo)")
        prints("info(foo, {a=~\".*\"})")
    }

    func testExperimentalSyntax() {
        for (query, wanted) in [
            ("rate(foo[5m] anchored)", "1:6: parse error: anchored modifier is experimental and not enabled"),
            ("foo smoothed", "1:1: parse error: smoothed modifier is experimental and not enabled"),
            ("foo[step()]", "1:5: parse error: experimental duration expression is not enabled"),
            ("foo offset (1m + 2m)", "1:12: parse error: experimental duration expression is not enabled"),
        ] {
            XCTAssertNoThrow(try parsePromQL(query), query)
            XCTAssertThrowsError(try parsePromQL(query, experimental: false), query) { XCTAssertEqual(($0 as? ObsError)?.message, wanted) }
        }
        for query in ["foo[5m] offset -1m", "foo[5m:30s]", "foo offset 90", "foo </ 1"] {
            XCTAssertNoThrow(try parsePromQL(query, experimental: false), query)
        }
    }

    func testErrors() {
        func fails(_ query: String, _ wanted: String, line: UInt = #line) {
            XCTAssertThrowsError(try parsePromQL(query), line: line) { error in
                let error = error as? ObsError
                XCTAssertEqual(error?.code, .badInput, line: line)
                XCTAssertEqual(error?.message, wanted, query, line: line)
            }
        }
        fails("sum(foo) anchored", "1:1: parse error: anchored modifier not implemented")
        fails("rate(foo[5m] anchored smoothed)", "1:6: parse error: anchored and smoothed modifiers cannot be used together")
        fails("rate(foo[5m:] smoothed)", "1:6: parse error: smoothed modifier is not supported for subqueries")
        fails("info(foo, bar)", "1:11: parse error: expected label selectors only, got vector selector instead")
        fails("info(foo, sum(bar))", "1:11: parse error: expected label selectors only")
        fails("a </ bool 1", "1:6: parse error: bool modifier can only be used on comparison operators")
        fails("", "1:1: parse error: no expression found in input")
        fails("1 +", "1:4: parse error: unexpected end of input")
        fails("*1", "1:1: parse error: unexpected <op:*>")
        fails("(1))", "1:4: parse error: unexpected right parenthesis ')'")
        fails("((1)", "1:5: parse error: unclosed left parenthesis")
        fails("foo{", "1:5: parse error: unexpected end of input inside braces")
        fails("foo}", "1:4: parse error: unexpected right brace '}'")
        fails("foo{a=b}", "1:7: parse error: unexpected identifier \"b\" in label matching, expected string")
        fails("foo{a}", "1:6: parse error: unexpected \"}\" in label matching, expected label matching operator")
        fails("foo{,}", "1:5: parse error: unexpected \",\" in label matching, expected identifier or \"}\"")
        fails("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher")
        fails("{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher")
        fails("foo{__name__=\"bar\"}", "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"")
        fails("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier")
        fails("1 and foo", "1:3: parse error: set operator \"and\" not allowed in binary scalar expression")
        fails("1 + on(a) foo", "1:3: parse error: vector matching only allowed between instant vectors")
        fails("foo and on(a) group_left(b) bar", "1:15: parse error: no grouping allowed for \"and\" operation")
        fails("foo + on(a) group_left(a) bar", "1:13: parse error: label \"a\" must not occur in ON and GROUP clause at once")
        fails("foo + bool bar", "1:7: parse error: bool modifier can only be used on comparison operators")
        fails("foo + on(a) ignoring(b) bar", "1:13: parse error: unexpected <ignoring>")
        fails("foo[5m] + 1", "1:1: parse error: binary expression must contain only scalar and instant vector types")
        fails(
            "-foo[5m]", "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"")
        fails("(foo + bar)[5m]", "1:12: parse error: ranges only allowed for vector selectors")
        fails("foo[0s]", "1:5: parse error: duration must be greater than 0")
        fails("foo[5m", "1:7: parse error: unexpected end of input in duration expression")
        fails("foo offset 5m[5m]", "1:14: parse error: no offset modifiers allowed before range")
        fails("foo offset 5m offset 5m", "1:15: parse error: offset may not be set multiple times")
        fails("foo @ 1 @ 2", "1:9: parse error: @ <timestamp> may not be set multiple times")
        fails(
            "1 offset 5m",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery")
        fails("foo[5m][5m:1m]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead")
        fails("nope(foo)", "1:1: parse error: unknown function with name \"nope\"")
        fails("floor()", "1:1: parse error: expected 1 argument(s) in call to \"floor\", got 0")
        fails("round()", "1:1: parse error: expected at least 1 argument(s) in call to \"round\", got 0")
        fails("round(a, 1, 2)", "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3")
        fails("rate(foo)", "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector")
        fails("sum()", "1:1: parse error: no arguments for aggregate expression provided")
        fails("topk(foo)", "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1")
        fails("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar")
        fails("\"abc", "1:1: parse error: unterminated quoted string")
        fails("foo\n + *", "2:4: parse error: unexpected <op:*>")
        fails("1m1h", "1:1: parse error: bad number or duration syntax: \"1m1h\"")
        fails("foo $ bar", "1:5: parse error: unexpected character: '$'")
    }

    func testSelector() throws {
        XCTAssertEqual(try parseSelector("up{job=\"a\"}").map(\.name), ["__name__", "job"])
        XCTAssertThrowsError(try parseSelector("rate(up[5m])"))
        XCTAssertThrowsError(try parseSelector("up offset 5m"))
        XCTAssertThrowsError(try parseSelector("{a=\"\"}"))
        XCTAssertThrowsError(try parseSelector("{a=~\"(\"}"))
    }

    func testFormatting() throws {
        let query =
            "sum by (job, instance) (rate(http_requests_total{job=\"api-server\"}[5m])) / on (job) group_left () sum by (job) (rate(http_requests_total[5m]))"
        XCTAssertEqual(
            try parsePromQL(query).formatted,
            """
              sum by (job, instance) (rate(http_requests_total{job="api-server"}[5m]))
            / on (job) group_left ()
              sum by (job) (rate(http_requests_total[5m]))
            """)
        XCTAssertEqual(try parsePromQL("sum( up )by(job)").formatted, "sum by (job) (up)")
    }

    func testDepthIsBounded() {
        let deep = String(repeating: "(", count: 5000) + "1" + String(repeating: ")", count: 5000)
        XCTAssertThrowsError(try parsePromQL(deep))
        XCTAssertThrowsError(try parsePromQL(String(repeating: "-", count: 5000) + "a"))
        XCTAssertThrowsError(try parsePromQL("1" + String(repeating: "+1", count: 5000)))
        XCTAssertNoThrow(try parsePromQL("1" + String(repeating: "+1", count: 900)))
        XCTAssertThrowsError(try parsePromQL("1" + String(repeating: "^1", count: 5000)))
        XCTAssertThrowsError(try parsePromQL("a[" + String(repeating: "(", count: 5000) + "1"))
    }

    /// Whatever the bytes: a tree or an error, and a tree prints as itself.
    func testMutatedQueries() {
        let seeds = [
            "sum by (job) (rate(http_requests_total{job=~\"api.*\", code!=\"500\"}[5m] offset 1h @ 1234.5)) > bool 0x1F",
            "label_replace(up, \"a\", \"$1\", 'b', `(.*)`) + on(a) group_left(b) fill_left(-1) topk(3, foo[1h:5m])",
            "quantile_over_time(0.5, {\"a.b\", \"c d\"=\"\\u00e9\\x41\"}[max_of(step(), 5m + 3)*2:]) unless -2^3 % 4 # end",
        ]
        var state: UInt64 = 42
        func random(_ below: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % below
        }
        let alphabet = Array("(){}[]\"'`,:@+-*/%^<>=!~ \n#$\\0159emxabyoffset\u{e9}".utf8)
        for round in 0..<6000 {
            var bytes = Array(seeds[round % seeds.count].utf8)
            for _ in 0..<random(4) + 1 {
                let at = random(bytes.count)
                switch random(4) {
                case 0: bytes[at] = alphabet[random(alphabet.count)]
                case 1: bytes.insert(alphabet[random(alphabet.count)], at: at)
                case 2: bytes.remove(at: at)
                default: bytes.removeSubrange(at...)
                }
                if bytes.isEmpty { bytes = [32] }
            }
            let query = String(decoding: bytes, as: UTF8.self)
            guard let expression = try? parsePromQL(query) else { continue }
            let printed = expression.description
            XCTAssertEqual(try? parsePromQL(printed).description, printed, "of \(query)")
            _ = expression.formatted
        }
    }
}
