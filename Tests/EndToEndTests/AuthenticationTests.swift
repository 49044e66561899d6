import Foundation
import ObsNet
import XCTest

/// Tokens, scopes, tenants and TLS on a live obsd.
final class AuthenticationTests: XCTestCase {
    private let client = HTTPClient()

    private func ask(
        _ url: String, _ method: String = "GET", token: String? = nil, headers: [(name: String, value: String)] = [], body: String = "", ca: String? = nil
    ) throws -> HTTPClientResponse {
        var request = HTTPClientRequest(url: url, method: method, headers: headers, body: Array(body.utf8))
        if method == "POST" { request.headers.append(("Content-Type", "application/json")) }
        if let token { request.headers.append(("Authorization", "Bearer \(token)")) }
        request.tls.caFile = ca
        return try client.perform(request)
    }

    /// A secret and its line for the tokens file, made by `obsd token`.
    private func token(_ name: String, _ scopes: String, _ tenant: String) throws -> (secret: String, line: String) {
        let run = try Run(Place.obsd, ["token", name, scopes, tenant])
        XCTAssertEqual(run.status, 0, run.errors)
        let secret = try XCTUnwrap(run.errors.split(separator: "\n").first { $0.hasPrefix("obs_") })
        XCTAssertFalse(run.output.contains(secret), "the file must hold no secret")
        return (String(secret), run.output)
    }

    func testTokensAndScopes() throws {
        let folder = try TemporaryFolder()
        let writer = try token("writer", "ingest", "*")
        let reader = try token("reader", "query", "*")
        let chief = try token("chief", "admin", "*")
        let file = try folder.write("tokens", "# who may what\n\n" + writer.line + reader.line + chief.line)
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--auth-tokens", file])
        let base = "http://\(obsd.http)"
        let line = #"{"app":"a","msg":"x"}"#

        for path in ["/-/healthy", "/-/ready", "/ready", "/api/echo"] { XCTAssertEqual(try ask(base + path).status, 200, path) }
        let doors: [(method: String, path: String, scope: String)] = [
            ("POST", "/insert/jsonline?_stream_fields=app", "ingest"), ("POST", "/v1/traces", "ingest"), ("POST", "/loki/api/v1/push", "ingest"),
            ("POST", "/api/v1/write", "ingest"),
            ("GET", "/api/v1/query?query=1", "query"), ("GET", "/api/v1/labels", "query"), ("GET", "/loki/api/v1/labels", "query"),
            ("GET", "/api/search?q=%7B%7D", "query"),
            ("GET", "/jaeger/api/services", "query"), ("GET", "/api/v1/targets", "query"), ("GET", "/api/v1/rules", "query"), ("GET", "/metrics", "query"),
            ("GET", "/api/status", "query"), ("GET", "/loki/api/v1/tail?query=%7Ba%3D%22b%22%7D", "query"), ("GET", "/api/v1/status/config", "admin"),
            ("POST", "/-/reload", "admin"),
        ]
        for (method, path, scope) in doors {
            let none = try ask(base + path, method, body: line)
            XCTAssertEqual(none.status, 401, path)
            XCTAssertEqual(none.header("www-authenticate"), #"Basic realm="obsd""#, path)
            XCTAssertEqual(try ask(base + path, method, token: "obs_wrong", body: line).status, 401, path)
            XCTAssertEqual(try ask(base + path, method, token: "", body: line).status, 401, path)
            for (name, secret) in [("ingest", writer.secret), ("query", reader.secret), ("admin", chief.secret)] {
                let status = try ask(base + path, method, token: secret, body: line).status
                if name == scope || name == "admin" {
                    XCTAssertFalse([401, 403, 404, 405].contains(status), "\(name) \(path): \(status)")
                } else {
                    XCTAssertEqual(status, 403, "\(name) \(path)")
                }
            }
        }
        XCTAssertEqual(try ask("http://\(obsd.otlp)/v1/logs", "POST", body: "{}").status, 401)
        let refused = try ask("http://\(obsd.otlp)/v1/logs", "POST", token: reader.secret, body: "{}")
        XCTAssertEqual(refused.status, 403)
        XCTAssertEqual(try JSONTree(refused.body)["code"].number, 7)
        XCTAssertEqual(try JSONTree(try ask("http://\(obsd.otlp)/v1/logs", "POST", body: "{}").body)["code"].number, 16)
        XCTAssertEqual(try ask("http://\(obsd.otlp)/v1/logs", "POST", token: writer.secret, body: "{}").status, 200)

        // One secret, every spelling that clients have for it.
        func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
        for (name, value) in [
            ("authorization", "bearer \(reader.secret)"), ("AUTHORIZATION", "Token \(reader.secret)"), ("Authorization", "Splunk \(reader.secret)"),
            ("Authorization", "Basic " + base64("anyone:\(reader.secret)")), ("Authorization", "ApiKey " + base64("id:\(reader.secret)")),
            ("DD-API-KEY", reader.secret),
            ("X-Amz-Firehose-Access-Key", reader.secret),
        ] {
            XCTAssertEqual(try ask(base + "/api/v1/labels", headers: [(name, value)]).status, 200, "\(name): \(value)")
        }
        for value in ["Basic " + base64(reader.secret), "Basic ???", "Negotiate \(reader.secret)", reader.secret, "Bearer", "Bearer  "] {
            XCTAssertEqual(try ask(base + "/api/v1/labels", headers: [("Authorization", value)]).status, 401, value)
        }
        // The real clients' own way of saying it.
        let curl = try Run("/usr/bin/curl", ["-sS", "-u", "me:\(reader.secret)", "\(base)/api/v1/labels"])
        XCTAssertTrue(curl.output.contains("success"), curl.output)
        let otel = try Run.client(
            "otel.py", ["http://\(obsd.otlp)", "5", "run"], environment: ["OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20\(writer.secret)"])
        XCTAssertFalse(otel.isEmpty)
        XCTAssertEqual(try JSONTree(try ask(base + "/api/search?q=%7B%7D", token: reader.secret).body)["traces"].list.count, 5)
        XCTAssertFalse(obsd.logText.contains("obs_"), "a secret is in the log")
    }

    func testTenantsSeeOnlyTheirOwn() throws {
        let folder = try TemporaryFolder()
        let any = try token("any", "ingest,query", "*")
        let bound = try token("bound", "ingest,query", "blue")
        let file = try folder.write("tokens", any.line + bound.line)
        let obsd = try ObsdProcess(data: folder.path + "/data", ["--auth-tokens", file, "--tenancy", "multi"])
        let base = "http://\(obsd.http)"
        func org(_ name: String) -> [(name: String, value: String)] { [("X-Scope-OrgID", name)] }
        let now = Int(Date().timeIntervalSince1970) * 1_000_000_000
        let ids = ["red": "5b8efff798038103d269b633813fc60c", "blue": "6b8efff798038103d269b633813fc60c"]
        for (tenant, id) in ids {
            let resource = #""resource":{"attributes":[{"key":"service.name","value":{"stringValue":"\#(tenant)-svc"}}]}"#
            for (path, body) in [
                ("/insert/jsonline?_stream_fields=app", #"{"app":"\#(tenant)-app","msg":"x"}"#),
                (
                    "/v1/traces",
                    #"{"resourceSpans":[{\#(resource),"scopeSpans":[{"spans":[{"traceId":"\#(id)","spanId":"eee19b7ec3c1b174","name":"\#(tenant)-op","startTimeUnixNano":"\#(now)","endTimeUnixNano":"\#(now + 9)"}]}]}]}"#
                ),
                (
                    "/v1/metrics",
                    #"{"resourceMetrics":[{\#(resource),"scopeMetrics":[{"metrics":[{"name":"\#(tenant)_gauge","gauge":{"dataPoints":[{"asDouble":1,"timeUnixNano":"\#(now)"}]}}]}]}]}"#
                ),
            ] {
                XCTAssertEqual(try ask(base + path, "POST", token: any.secret, headers: org(tenant), body: body).status, 200, path)
            }
        }
        let start = now - 60_000_000_000
        let end = now + 60_000_000_000
        let reads = [
            "/api/v1/query?query=%7B__name__%3D~%22.%2B%22%7D",
            "/api/v1/query_range?query=%7B__name__%3D~%22.%2B%22%7D&start=\(start / 1_000_000_000)&end=\(end / 1_000_000_000)&step=10",
            "/api/v1/series?match%5B%5D=%7B__name__%3D~%22.%2B%22%7D", "/api/v1/label/__name__/values", "/api/v1/label/job/values",
            "/loki/api/v1/label/app/values", "/loki/api/v1/series",
            "/loki/api/v1/query_range?query=%7Bapp%3D~%22.%2B%22%7D", "/loki/api/v1/query?query=count_over_time(%7Bapp%3D~%22.%2B%22%7D%5B5m%5D)",
            "/api/search?q=%7B%7D",
            "/api/search/tag/service.name/values", "/api/v2/search/tag/resource.service.name/values", "/api/v2/search/tag/name/values", "/jaeger/api/services",
        ]
        for tenant in ["red", "blue"] {
            let other = tenant == "red" ? "blue" : "red"
            for path in reads {
                let answer = try ask(base + path, token: any.secret, headers: org(tenant))
                let text = String(decoding: answer.body, as: UTF8.self)
                XCTAssertEqual(answer.status, 200, "\(path): \(text)")
                XCTAssertTrue(text.contains("\(tenant)-") || text.contains("\(tenant)_gauge"), "\(path) as \(tenant): \(text)")
                XCTAssertFalse(text.contains(other), "\(path) as \(tenant): \(text)")
            }
            XCTAssertEqual(try ask("\(base)/api/traces/\(ids[tenant] ?? "")", token: any.secret, headers: org(tenant)).status, 200)
            XCTAssertEqual(try ask("\(base)/api/traces/\(ids[other] ?? "")", token: any.secret, headers: org(tenant)).status, 404)
            XCTAssertEqual(try ask("\(base)/jaeger/api/traces/\(ids[other] ?? "")", token: any.secret, headers: org(tenant)).status, 404)
            XCTAssertEqual(
                try JSONTree(try ask("\(base)/jaeger/api/traces?service=\(other)-svc", token: any.secret, headers: org(tenant)).body)["data"].list.count, 0)
        }
        // A live tail hears its own tenant only: what the other one wrote first never comes.
        let follow = HTTPClientRequest(
            url: "ws://\(obsd.http)/loki/api/v1/tail?query=\(percentEncode(#"{app=~".+-app"} |= "live""#))",
            headers: [("Authorization", "Bearer \(any.secret)"), ("X-Scope-OrgID", "blue")])
        let tail = try WebSocketClient.connect(follow)
        for tenant in ["red", "blue"] {
            let line = #"{"app":"\#(tenant)-app","msg":"live \#(tenant)"}"#
            XCTAssertEqual(try ask(base + "/insert/jsonline?_stream_fields=app", "POST", token: any.secret, headers: org(tenant), body: line).status, 200)
        }
        let heard = try JSONTree(XCTUnwrap(tail.receive(timeoutMillis: 60_000)))
        XCTAssertEqual(heard["streams"].list.flatMap { $0["values"].list.map { $0[1].text } }, [#"{"app":"blue-app","msg":"live blue"}"#])
        tail.close()
        // A bound token needs no header and cannot leave its tenant.
        let own = try ask(base + "/jaeger/api/services", token: bound.secret)
        XCTAssertEqual(try JSONTree(own.body)["data"].texts, ["blue-svc"])
        XCTAssertEqual(try ask(base + "/jaeger/api/services", token: bound.secret, headers: [("x-scope-orgid", "blue")]).status, 200)
        XCTAssertEqual(try ask(base + "/jaeger/api/services", token: bound.secret, headers: org("red")).status, 403)
        XCTAssertEqual(try ask(base + "/insert/jsonline", "POST", token: bound.secret, headers: org("red"), body: "{}").status, 403)
        // No header, no tenant; names that are none.
        let missing = try ask(base + "/loki/api/v1/labels", token: any.secret)
        XCTAssertEqual(missing.status, 401)
        XCTAssertTrue(String(decoding: missing.body, as: UTF8.self).contains("no org id"))
        for name in ["..", ".", "a/b", "../red", String(repeating: "a", count: 151), "a b", "a|b"] {
            XCTAssertEqual(try ask(base + "/loki/api/v1/labels", token: any.secret, headers: org(name)).status, 400, name)
        }
        let nobody = try ask(base + "/loki/api/v1/label/app/values", token: any.secret, headers: org("nobody"))
        XCTAssertEqual(nobody.status, 200)
        XCTAssertEqual(try JSONTree(nobody.body)["data"].list.count, 0)
    }

    func testTLS() throws {
        let folder = try TemporaryFolder()
        let writer = try token("all", "ingest,query", "*")
        let file = try folder.write("tokens", writer.line)
        let certificate = folder.path + "/cert.pem"
        let key = folder.path + "/key.pem"
        let made = try Run(
            "/usr/bin/openssl",
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout", key, "-out", certificate,
            ])
        XCTAssertEqual(made.status, 0, made.errors)
        // With tokens and TLS an address that others reach is fine.
        let obsd = try ObsdProcess(
            data: folder.path + "/data", ["--http", "0.0.0.0:0", "--auth-tokens", file, "--tls-cert", certificate, "--tls-key", key])
        let port = try XCTUnwrap(obsd.http.split(separator: ":").last)
        let base = "https://127.0.0.1:\(port)"
        XCTAssertEqual(try ask(base + "/-/ready", ca: certificate).status, 200)
        XCTAssertEqual(try ask(base + "/api/v1/labels", ca: certificate).status, 401)
        XCTAssertEqual(try ask(base + "/api/v1/labels", token: writer.secret, ca: certificate).status, 200)
        XCTAssertThrowsError(try ask(base + "/-/ready"), "a certificate nobody vouches for")
        XCTAssertNotEqual(try? ask("http://127.0.0.1:\(port)/-/ready").status, 200)
        let otlp = "https://\(obsd.otlp)"
        XCTAssertFalse(
            try Run.client(
                "otel.py", [otlp, "5", "run"],
                environment: [
                    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20\(writer.secret)", "OTEL_EXPORTER_OTLP_CERTIFICATE": certificate,
                    // Where the machine sets this one, Python's requests follows it instead.
                    "REQUESTS_CA_BUNDLE": certificate,
                ]
            ).isEmpty)
        XCTAssertEqual(try JSONTree(try ask(base + "/api/search?q=%7B%7D", token: writer.secret, ca: certificate).body)["traces"].list.count, 5)
        // Old protocol versions are not spoken.
        let old = try Run("/usr/bin/curl", ["-sS", "--cacert", certificate, "--tls-max", "1.1", "\(base)/-/ready"])
        XCTAssertNotEqual(old.status, 0)
        let curl = try Run("/usr/bin/curl", ["-sS", "--cacert", certificate, "--tlsv1.3", "\(base)/-/ready"])
        XCTAssertEqual(curl.status, 0, curl.errors)
        XCTAssertEqual(obsd.stop(), 0)
    }

    func testOpenListenersAreRefused() throws {
        let folder = try TemporaryFolder()
        let tokens = try folder.write("tokens", try token("a", "query", "*").line)
        for (arguments, refused) in [
            (["--http", "0.0.0.0:0", "--otlp-http", "none"], true), (["--http", "127.0.0.1:0", "--otlp-http", "0.0.0.0:0"], true),
            (["--http", "[::]:0", "--otlp-http", "none"], true),
            (["--http", ":0", "--otlp-http", "none"], true), (["--http", "0.0.0.0:0", "--otlp-http", "none", "--auth-tokens", tokens], true),
            (["--http", "127.0.0.1:0", "--otlp-http", "none", "--auth", "tokens"], true),
            (["--http", "127.0.0.1:0", "--otlp-http", "none", "--auth-tokens", folder.path + "/nowhere"], true),
        ] {
            let run = try Run(Place.obsd, ["--data", folder.path + "/data"] + arguments, timeoutSeconds: 20)
            XCTAssertEqual(run.status != 0 && run.status != SIGKILL, refused, "\(arguments): \(run.errors)")
            XCTAssertFalse(run.errors.contains(#""msg":"started""#), "\(arguments)")
        }
        for line in [
            "a query *\n", "a nonsense * \(String(repeating: "0", count: 64))\n", "a query * xyz\n", "a query a/b \(String(repeating: "0", count: 64))\n",
        ] {
            let file = try folder.write("bad", line)
            let run = try Run(
                Place.obsd, ["--data", folder.path + "/data", "--http", "127.0.0.1:0", "--otlp-http", "none", "--auth-tokens", file], timeoutSeconds: 20)
            XCTAssertEqual(run.status, 2, line)
            XCTAssertTrue(run.errors.contains("bad:1"), run.errors)
        }
        // Said aloud, it is allowed.
        let open = try ObsdProcess(data: folder.path + "/open", ["--http", "0.0.0.0:0", "--auth", "none"])
        XCTAssertEqual(open.stop(), 0)
    }
}
