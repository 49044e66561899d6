import ObsCore
import XCTest

@testable import ObsRules

final class AlertTemplateTests: XCTestCase {
    private func expand(_ text: String, value: Double = 1_000_000) -> String {
        let context = TemplateContext(
            labels: Labels([("instance", "host-1.example.com:9100"), ("job", "node")]), value: value, externalLabels: Labels([("region", "eu")]),
            externalURL: "http://obs.example.com/base", nowMillis: 1_500_000
        ) { expression throws(ObsError) in
            if expression == "bad" { throw ObsError(.badInput, "no such query") }
            if expression == "none" { return [] }
            return [RuleSample(labels: Labels([("x", "b")]), value: 2), RuleSample(labels: Labels([("x", "a")]), value: 1)]
        }
        do { return try AlertTemplate(text).expand(context) } catch { return "parse: \(error)" }
    }

    private func check(_ text: String, _ expected: String, value: Double = 1_000_000, line: UInt = #line) {
        XCTAssertEqual(expand(text, value: value), expected, line: line)
    }

    func testValuesAndLabels() {
        check("plain", "plain")
        check("{{ $labels.job }} {{ .Labels.job }} {{$value}} {{ .Value }}", "node node 1e+06 1e+06")
        check("{{ $labels.missing }}|{{ $externalLabels.region }}|{{ .ExternalURL }}", "|eu|http://obs.example.com/base")
        check("{{ $value }}", "0.25", value: 0.25)
        check("{{ $value }}", "NaN", value: .nan)
        check("{{ $value }}", "+Inf", value: .infinity)
        check("a {{- \" b \" -}} c", "a b c")
        check("a{{/* nothing */}}b", "ab")
        check("{{ index $labels \"job\" }}{{ len $labels }}", "node2")
        check("{{ $x := 5 }}{{ $x }}{{ $x = 6 }}{{ $x }}", "56")
    }

    func testHumanize() {
        let table: [(String, Double, String)] = [
            ("humanize", 0, "0"), ("humanize", 1, "1"), ("humanize", 1_234_567, "1.235M"), ("humanize", 0.0123, "12.3m"), ("humanize", -999_999, "-1000k"),
            ("humanize", .infinity, "+Inf"), ("humanize1024", 1024, "1ki"), ("humanize1024", 1_048_576 * 1.5, "1.5Mi"), ("humanize1024", 0.5, "0.5"),
            ("humanizeDuration", 0, "0s"), ("humanizeDuration", 1.5, "1.5s"), ("humanizeDuration", 93_784, "1d 2h 3m 4s"),
            ("humanizeDuration", -61, "-1m 1s"), ("humanizeDuration", 0.001, "1ms"), ("humanizePercentage", 0.1234, "12.34%"),
            ("humanizeTimestamp", 1_435_065_584.128, "2015-06-23 13:19:44.128 +0000 UTC"),
        ]
        for (function, value, expected) in table { check("{{ $value | \(function) }}", expected, value: value) }
        check("{{ humanize \"1500\" }}", "1.5k")
    }

    func testControl() {
        check("{{ if gt $value 5.0 }}high{{ else if eq $value 5.0 }}five{{ else }}low{{ end }}", "five", value: 5)
        check("{{ if and (eq $labels.job \"node\") (lt $value 2.0) }}y{{ else }}n{{ end }}", "y", value: 1)
        check("{{ if not $labels.missing }}none{{ end }}", "none")
        check("{{ range query \"q\" }}{{ .Labels.x }}={{ .Value }};{{ end }}", "b=2;a=1;")
        check("{{ range $i, $s := query \"q\" | sortByLabel \"x\" }}{{ $i }}{{ $s.Labels.x }}{{ end }}", "0a1b")
        check("{{ range query \"none\" }}x{{ else }}empty{{ end }}", "empty")
        check("{{ with query \"q\" }}{{ . | first | value | printf \"%.2f\" }}{{ end }}", "2.00")
        check("{{ with query \"none\" }}x{{ else }}y{{ end }}", "y")
        check("{{ query \"q\" | first | label \"x\" }}", "b")
        check("{{ range $k, $v := $labels }}{{ $k }},{{ end }}", "instance,job,")
    }

    func testFunctions() {
        check("{{ printf \"%s is %.1f%% of %d\" $labels.job $value 7 }}", "node is 50.0% of 7", value: 50)
        check("{{ printf \"%5s|%-5s|%q|%v|%t\" \"a\" \"b\" \"c\" 1.5 true }}", "    a|b    |\"c\"|1.5|true")
        check("{{ printf \"%d\" $value }}", "%!d(float64=1e+06)")
        check("{{ title \"disk full\" }}{{ toUpper \"a\" }}{{ toLower \"B\" }}", "Disk FullAb")
        check("{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}", "host-1.example.com host-1:9100")
        check("{{ match \"a.*b\" \"xaab\" }} {{ reReplaceAll \"h(.)\" \"<$1>\" \"ha ho\" }}", "true <a> <o>")
        check("{{ graphLink \"up == 0\" }}", "/graph?g0.expr=up+%3D%3D+0&g0.tab=0")
        check("{{ pathPrefix }} {{ externalURL }}", "/base http://obs.example.com/base")
        check("{{ parseDuration \"1h30m\" }} {{ now }}", "5400 1500")
        check("{{ print 1 2 \"a\" 3 }}", "1 2a3")
    }

    func testErrorsBecomeText() {
        check("{{ query \"bad\" }}", "<error expanding template: no such query>")
        check("{{ query \"none\" | first }}", "<error expanding template: first() called on vector with no elements>")
        check("{{ .Nothing }}", "<error expanding template: can't evaluate field Nothing>")
        check("{{ humanize \"x\" }}", "<error expanding template: humanize: can't convert \"x\" to a number>")
        check("{{ $nope }}", "<error expanding template: undefined variable \"$nope\">")
        check("{{ nope }}", "parse: function \"nope\" not defined")
        check("{{ if true }}x", "parse: unexpected end of template: {{end}} is missing")
        check("{{ end }}", "parse: unexpected {{end}}")
        check("{{ \"x }}", "parse: unterminated quoted string")
        check("{{ $labels.job", "parse: unclosed action")
        check(String(repeating: "{{ if true }}", count: 100), "parse: nested too deeply")
    }

    func testMutatedTemplatesDoNotCrash() {
        let seeds = [
            "{{ range $i, $s := query \"q\" | sortByLabel \"x\" }}{{ printf \"%5.2f %d\" $s.Value $i }}{{ else }}{{ .x }}{{ end }}",
            "{{ if gt $value 5.0 }}{{ $value | humanizeDuration -}} {{ else }}{{ $labels.job.x }}{{ end }}{{/* c */}}",
        ].map { Array($0.utf8) }
        var state: UInt64 = 7
        func random(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
        for _ in 0..<2000 {
            var bytes = seeds[random(seeds.count)]
            for _ in 0..<1 + random(3) { bytes[random(bytes.count)] = UInt8(32 + random(95)) }
            _ = expand(String(decoding: bytes, as: UTF8.self), value: 3)
        }
    }
}
