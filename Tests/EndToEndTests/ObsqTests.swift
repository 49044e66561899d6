import Foundation
import ObsCore
import ObsNet
import ObsWire
import XCTest

/// `obsq` against a live obsd, as a shell sees it.
final class ObsqTests: XCTestCase {
    private static let traceID = "0af7651916cd43dd8448eb211c80319c"

    func testMetrics() throws {
        let obsd = try filled()
        let table = try obsq(obsd, "query", "-o", "pretty", "shop_load")
        XCTAssertEqual(table.status, 0, table.errors)
        XCTAssertTrue(table.output.contains("42"), table.output)
        XCTAssertTrue(table.output.contains("shop_load{host=\"a\""), table.output)
        let piped = try obsq(obsd, "query", "shop_load")
        let row = try rows(piped).first
        XCTAssertEqual(row?["metric"]?["host"]?.string, "a")
        XCTAssertEqual(row?["value"]?[1]?.string, "42")
        // A query needs no quotes around it.
        XCTAssertEqual(try obsq(obsd, "query", "-o", "pretty", "1", "+", "2").output, "3\n")
        XCTAssertEqual(try obsq(obsd, "query", "no_such_metric").status, 0)
        XCTAssertEqual(try obsq(obsd, "query", "no_such_metric", "--fail-empty").status, 1)

        let graph = try obsq(obsd, "graph", "-o", "pretty", "shop_load", "--since", "5m")
        XCTAssertEqual(graph.status, 0, graph.errors)
        XCTAssertTrue(graph.output.contains("┤"), graph.output)
        XCTAssertTrue(graph.output.contains("42  shop_load{host=\"a\""), graph.output)
        XCTAssertTrue(graph.output.unicodeScalars.contains { (0x2801...0x28ff).contains($0.value) }, graph.output)
        XCTAssertEqual(try rows(try obsq(obsd, "graph", "shop_load", "--since", "5m", "--step", "1m")).count, 1)
        XCTAssertEqual(try obsq(obsd, "graph", "no_such_metric", "--fail-empty").status, 1)
    }

    /// Windows longer than there are nanoseconds reach back to the beginning; times outside of them are a usage error. Neither is a trap.
    func testTimesAtTheEnds() throws {
        let obsd = try filled()
        for command in [["graph", "shop_load"], ["logs"], ["traces"]] {
            for window in [["--since", "300y"], ["--from", "now-9999y"]] {
                let run = try Run(Place.obsq, command + window + ["--addr", obsd.http])
                XCTAssertEqual(run.status, 0, "\(command) \(window): \(run.errors)")
            }
            for from in ["50000000000", "5e16", "1e300", "2262-04-11T23:47:16.9Z"] {
                let run = try Run(Place.obsq, command + ["--from", from, "--addr", obsd.http])
                XCTAssertEqual(run.status, 2, "\(command) \(from): \(run.errors)")
            }
        }
    }

    func testLogs() throws {
        let obsd = try filled()
        func lines(_ arguments: String...) throws -> [String] {
            let run = try Run(Place.obsq, ["logs", "-o", "raw", "--addr", obsd.http] + arguments)
            XCTAssertEqual(run.status, 0, "\(arguments): \(run.errors)")
            return run.output.split(separator: "\n").map { line in
                (try? JSONDocument.parse(Array(line.utf8)))?.root["msg"]?.string ?? String(line)
            }
        }
        XCTAssertEqual(try lines().count, 3)
        XCTAssertEqual(try lines("order"), ["order placed", "order failed"])
        XCTAssertEqual(try lines("order", "failed"), ["order failed"])
        XCTAssertEqual(try lines("order placed"), ["order placed"])
        XCTAssertEqual(try lines("status=500"), ["order failed"])
        XCTAssertEqual(try lines("status>=400"), ["order failed"])
        XCTAssertEqual(try lines("status!=500", "order"), ["order placed"])
        XCTAssertEqual(try lines("app=shop"), ["order placed", "order failed"])
        XCTAssertEqual(try lines("app=~sh.*", "order"), ["order placed", "order failed"])
        XCTAssertEqual(try lines("{app=\"shop\"}", "|=", "\"failed\""), ["order failed"])
        XCTAssertEqual(try lines("{app=\"other\"}"), ["plain"])
        XCTAssertEqual(try lines("-n", "1"), ["plain"], "the newest")

        let json = try rows(try obsq(obsd, "logs", "failed"))
        XCTAssertEqual(json.count, 1)
        XCTAssertNotNil(parseRFC3339(json.first?["time"]?.string ?? ""))
        XCTAssertEqual(json.first?["labels"]?["app"]?.string, "shop")
        XCTAssertTrue(json.first?["line"]?.string?.contains("order failed") ?? false)
        let pretty = try obsq(obsd, "logs", "-o", "pretty", "failed").output
        XCTAssertTrue(pretty.contains("ERROR"), pretty)
        XCTAssertTrue(pretty.contains("order failed status=500") || (pretty.contains("order failed") && pretty.contains("status=500")), pretty)
        XCTAssertFalse(pretty.contains("\u{1b}"), "no colours but on a terminal")
        XCTAssertTrue(try obsq(obsd, "logs", "-o", "pretty", "--color", "always", "failed").output.contains("\u{1b}[31m"))
        XCTAssertTrue(try obsq(obsd, "logs", "failed", "--show-query").errors.contains("{} |= \"failed\""))
        XCTAssertEqual(try obsq(obsd, "logs", "nothing like it").status, 0)
        XCTAssertEqual(try obsq(obsd, "logs", "nothing like it", "--fail-empty").status, 1)
    }

    /// Colours as the terminal of `script` shows them.
    func testColoursOnATerminalUnlessRefused() throws {
        let obsd = try filled()
        guard FileManager.default.isExecutableFile(atPath: "/usr/bin/script") else { throw XCTSkip("script is not installed") }
        func shown(_ environment: [String: String]) throws -> String {
            let command = "\(Place.obsq) logs failed --addr \(obsd.http)"
            let run = try Run("/usr/bin/script", ["-qec", command, "/dev/null"], environment: environment)
            XCTAssertEqual(run.status, 0, run.output)
            return run.output
        }
        let plain = try shown(["NO_COLOR": "1"])
        XCTAssertTrue(plain.contains("order failed"), plain)
        XCTAssertFalse(plain.contains("\u{1b}["), plain)
        // An empty variable is none.
        let coloured = try shown(["NO_COLOR": ""])
        XCTAssertTrue(coloured.contains("\u{1b}["), coloured)
    }

    func testTraces() throws {
        let obsd = try filled()
        for arguments in [
            ["{ duration > 1ms }"], ["--service", "front"], ["--name", "GET /cart"], ["--errors"], ["--min-duration", "100ms"], ["http.route=/cart"], [],
        ] {
            let run = try Run(Place.obsq, ["traces", "--addr", obsd.http] + arguments)
            XCTAssertEqual(try rows(run).map { $0["traceID"]?.string }, [Self.traceID], "\(arguments): \(run.errors)")
        }
        XCTAssertEqual(try obsq(obsd, "traces", "--service", "nobody", "--fail-empty").status, 1)
        XCTAssertEqual(try obsq(obsd, "traces", "nonsense").status, 2)
        let table = try obsq(obsd, "traces", "-o", "pretty").output
        for word in ["GET /cart", "front", "200ms", Self.traceID] { XCTAssertTrue(table.contains(word), table) }

        let waterfall = try obsq(obsd, "trace", "-o", "pretty", Self.traceID)
        XCTAssertEqual(waterfall.status, 0, waterfall.errors)
        for word in [Self.traceID, "front GET /cart", "└ back SELECT", "2 spans", "2 services", "1 errors", "200ms", "50.0ms", "█", "✖"] {
            XCTAssertTrue(waterfall.output.contains(word), "\(word) in:\n\(waterfall.output)")
        }
        XCTAssertEqual(try rows(try obsq(obsd, "trace", Self.traceID)).count, 2)
        XCTAssertEqual(try obsq(obsd, "trace", "abc").status, 1)
        XCTAssertEqual(try obsq(obsd, "trace", "no-id").status, 2)
    }

    func testStateOfTheServer() throws {
        let obsd = try filled()
        let alerts = try obsq(obsd, "alert", "ls", "-o", "pretty")
        XCTAssertEqual(alerts.status, 0, alerts.errors)
        XCTAssertTrue(alerts.output.contains("Down"), alerts.output)
        XCTAssertEqual(try rows(try obsq(obsd, "alert", "ls")).first?["name"]?.string, "Down")
        let status = try obsq(obsd, "status", "-o", "pretty").output
        for word in ["ready", "metrics", "logs", "traces"] { XCTAssertTrue(status.contains(word), status) }
        XCTAssertEqual(try rows(try obsq(obsd, "status")).first?["ready"]?.bool, true)
    }

    func testPush() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let input = "{\"app\":\"nginx\",\"msg\":\"one\",\"status\":200}\n\nplain text\r\n{broken\n{\"msg\":\"of no app\"}\nlast without newline"
        let run = try Run(Place.obsq, ["push", "--service", "web", "--addr", obsd.http], input: input)
        XCTAssertEqual(run.status, 0, run.errors)
        XCTAssertEqual(try obsq(obsd, "logs", "-o", "raw", "one").output, "{\"app\":\"nginx\",\"msg\":\"one\",\"status\":200}\n")
        for text in ["plain text", "broken", "last without newline"] {
            XCTAssertTrue(try obsq(obsd, "logs", "-o", "pretty", text).output.contains(text), text)
        }
        for text in ["plain", "of no app"] {
            XCTAssertEqual(try rows(try obsq(obsd, "logs", text)).first?["labels"]?["service_name"]?.string, "web", text)
        }
        XCTAssertEqual(try rows(try obsq(obsd, "logs")).count, 5)
    }

    func testExitCodesAndWords() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        for (arguments, status, words) in [
            (["query", "sum("], 2, "parse error"), (["logs", "{app="], 2, "parse error"), (["traces", "{ nonsense"], 2, ""), (["query"], 2, "usage"),
            (["frobnicate"], 2, "unknown command"), (["logs", "--nonsense"], 2, "unknown flag --nonsense"), (["logs", "-n", "many"], 2, "--limit"),
            (["logs", "--since", "soon"], 2, "--since"), (["query", "up", "--at", "teatime"], 2, "no time"), (["logs", "-o", "xml"], 2, "--output"),
            (["graph", "up", "--from", "now", "--to", "now-1h"], 2, "empty"), (["logs", "count_over_time({a=\"b\"}[1m])"], 0, ""), (["help"], 0, ""),
            (["--version"], 0, ""),
        ] as [([String], Int32, String)] {
            let run = try Run(Place.obsq, arguments + (arguments[0].hasPrefix("-") || arguments[0] == "help" ? [] : ["--addr", obsd.http]))
            XCTAssertEqual(run.status, status, "\(arguments): \(run.errors)")
            XCTAssertTrue(words.isEmpty || run.errors.contains(words), "\(arguments): \(run.errors)")
        }
        let away = "127.0.0.1:\(freePort())"
        for arguments in [["query", "up"], ["logs"], ["tail"], ["traces"], ["trace", "1"], ["alert", "ls"], ["status"]] {
            let run = try Run(Place.obsq, arguments + ["--addr", away])
            XCTAssertEqual(run.status, 4, "\(arguments): \(run.errors)")
            XCTAssertTrue(run.errors.contains("cannot reach obsd at http://\(away)"), run.errors)
        }
        XCTAssertEqual(try Run(Place.obsq, ["status"], environment: ["OBSQ_ADDR": obsd.http]).status, 0)
    }

    /// `obsq logs | head -1` ends quietly.
    func testBrokenPipe() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        let body = (0..<5000).map { "{\"app\":\"shop\",\"msg\":\"a line long enough to fill the pipe \($0)\"}\n" }.joined()
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", body).status, 200)
        let run = try Run("/bin/bash", ["-c", "\(Place.obsq) logs -q -n 5000 --addr \(obsd.http) | head -1; echo ${PIPESTATUS[0]}"])
        XCTAssertEqual(run.output.split(separator: "\n").last, "0", run.errors)
        XCTAssertEqual(run.errors, "")
    }

    // MARK: Parts

    private func obsq(_ obsd: ObsdProcess, _ arguments: String...) throws -> Run { try Run(Place.obsq, arguments + ["--addr", obsd.http]) }

    private func rows(_ run: Run) throws -> [JSONValue] {
        XCTAssertEqual(run.status, 0, run.errors)
        return try run.output.split(separator: "\n").map { try JSONDocument.parse(Array($0.utf8)).root }
    }

    /// Of `filled`.
    private var folder: TemporaryFolder?
    override func tearDown() { folder = nil }

    /// A daemon with a gauge, three lines, a trace of two spans and a rule.
    private func filled() throws -> ObsdProcess {
        let folder = try TemporaryFolder()
        self.folder = folder
        let rules = try folder.write("rules.yml", "groups: [{name: g, rules: [{alert: Down, expr: 'shop_load < 0'}]}]\n")
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--config", try folder.write("prometheus.yml", "rule_files: ['\(rules)']\n")])
        let now = Int64(Date().timeIntervalSince1970 * 1e9)
        XCTAssertEqual(
            try obsd.post(
                "/v1/metrics",
                """
                {"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"shop_load","gauge":{"dataPoints":[
                {"timeUnixNano":"\(now - 1_000_000_000)","asDouble":42,"attributes":[{"key":"host","value":{"stringValue":"a"}}]}]}}]}]}]}
                """
            ).status, 200)
        let lines = [
            #"{"app":"shop","msg":"order placed","level":"info","status":200,"t":\#(now - 3_000_000_000)}"#,
            #"{"app":"shop","msg":"order failed","level":"error","status":500,"t":\#(now - 2_000_000_000)}"#,
            #"{"app":"other","msg":"plain","t":\#(now - 1_000_000_000)}"#,
        ]
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app&_time_field=t", lines.joined(separator: "\n")).status, 200)
        func span(_ id: String, _ parent: String, _ name: String, _ start: Int64, _ millis: Int64, _ more: String) -> String {
            """
            {"traceId":"\(Self.traceID)","spanId":"\(id)","parentSpanId":"\(parent)","name":"\(name)","kind":2,
            "startTimeUnixNano":"\(start)","endTimeUnixNano":"\(start + millis * 1_000_000)"\(more)}
            """
        }
        func resource(_ service: String, _ span: String) -> String {
            """
            {"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"\(service)"}}]},"scopeSpans":[{"spans":[\(span)]}]}
            """
        }
        let start = now - 2_000_000_000
        let front = span("00000000000000a1", "", "GET /cart", start, 200, #","attributes":[{"key":"http.route","value":{"stringValue":"/cart"}}]"#)
        let back = span("00000000000000a2", "00000000000000a1", "SELECT", start + 50_000_000, 50, #","status":{"code":2,"message":"boom"}"#)
        XCTAssertEqual(try obsd.post("/v1/traces", "{\"resourceSpans\":[\(resource("front", front)),\(resource("back", back))]}").status, 200)
        return obsd
    }
}
