import ObsCore
import ObsHash
import ObsNet
import XCTest

@testable import ObsAPI

final class AuthenticationTests: XCTestCase {
    /// `reader` may query, `writer` may write for acme only, `root` may all.
    static let tokens = """
        # who may do what

        reader query * \(hexString(Digest.sha256.hash("r3ad".utf8)))
        writer\tingest  acme \(hexString(Digest.sha256.hash("wr:te".utf8)))
        both ingest,query acme \(hexString(Digest.sha256.hash("b0th".utf8)))
        root admin * \(hexString(Digest.sha256.hash("r00t".utf8)))
        """

    private func authenticator(_ tenancy: Authenticator.Tenancy = .single) throws -> Authenticator {
        Authenticator(tokens: try TokenFile(parsing: Self.tokens, path: "tokens"), tenancy: tenancy)
    }

    private func request(_ headers: [(String, String)]) -> HTTPRequest {
        HTTPRequest(method: "GET", path: "/", headers: headers.map { (name: $0.0, value: $0.1) })
    }

    // MARK: Credentials

    func testEverySpellingOfASecret() throws {
        let authenticator = try authenticator()
        func check(_ name: String, _ value: String, line: UInt = #line) {
            XCTAssertEqual(try authenticator.principal(of: request([(name, value)])).name, "reader", line: line)
        }
        for scheme in ["Bearer", "bearer", "BEARER", "Token", "Splunk"] { check("authorization", "\(scheme) r3ad") }
        check("authorization", "Bearer   r3ad ")
        check("authorization", "Basic " + base64(Array("anyone:r3ad".utf8)))
        check("authorization", "basic " + base64(Array(":r3ad".utf8)))
        check("authorization", "ApiKey " + base64(Array("id:r3ad".utf8)))
        check("dd-api-key", "r3ad")
        check("x-amz-firehose-access-key", "r3ad")
    }

    /// The user name of Basic ends at the first colon.
    func testSecretWithAColon() throws {
        let principal = try authenticator().principal(of: request([("authorization", "Basic " + base64(Array("u:wr:te".utf8)))]))
        XCTAssertEqual(principal.name, "writer")
    }

    func testNoCredential() throws {
        let authenticator = try authenticator()
        func check(_ headers: [(String, String)], _ message: String, line: UInt = #line) {
            XCTAssertThrowsError(try authenticator.principal(of: request(headers)), line: line) { error in
                let error = error as? ObsError
                XCTAssertEqual(error?.code, .unauthenticated, line: line)
                XCTAssert(error?.message.hasPrefix(message) ?? false, error?.message ?? "", line: line)
            }
        }
        check([], "no credential")
        for value in ["", "r3ad", "Bearer", "Digest r3ad", "Basic ???", "Basic " + base64(Array("r3ad".utf8))] {
            check([("authorization", value)], "no credential")
        }
        for value in ["Bearer ", "Bearer wrong", "Bearer r3ad2", "Bearer R3AD", "Basic " + base64(Array("r3ad:".utf8))] {
            check([("authorization", value)], "invalid token")
        }
        check([("dd-api-key", "")], "invalid token")
    }

    func testWithoutTokensAnyoneMayAll() throws {
        let principal = try Authenticator(tokens: nil, tenancy: .single).principal(of: request([("authorization", "Bearer whatever")]))
        XCTAssert(Scope.allCases.allSatisfy(principal.may))
    }

    func testScopes() throws {
        func scopes(_ secret: String) throws -> [Scope] {
            let principal = try authenticator().principal(of: request([("authorization", "Bearer \(secret)")]))
            return Scope.allCases.filter(principal.may)
        }
        XCTAssertEqual(try scopes("r3ad"), [.query, .open])
        XCTAssertEqual(try scopes("wr:te"), [.ingest, .open])
        XCTAssertEqual(try scopes("b0th"), [.ingest, .query, .open])
        XCTAssertEqual(try scopes("r00t"), [.ingest, .query, .admin, .open])
    }

    // MARK: Tenants

    private func tenant(_ tenancy: Authenticator.Tenancy, _ secret: String, _ header: String?) throws -> String {
        let authenticator = try authenticator(tenancy)
        let request = request([("authorization", "Bearer \(secret)")] + (header.map { [("x-scope-orgid", $0)] } ?? []))
        return try authenticator.tenant(of: request, authenticator.principal(of: request)).name
    }

    func testSingleTenancyIgnoresTheHeader() throws {
        for header in [nil, "", "other", "../bad"] {
            XCTAssertEqual(try tenant(.single, "r3ad", header), "default")
            XCTAssertEqual(try tenant(.single, "wr:te", header), "acme")
        }
    }

    func testMultiTenancy() throws {
        XCTAssertEqual(try tenant(.multi, "r3ad", "other"), "other")
        XCTAssertEqual(try tenant(.multi, "wr:te", nil), "acme")
        XCTAssertEqual(try tenant(.multi, "wr:te", ""), "acme")
        XCTAssertEqual(try tenant(.multi, "wr:te", "acme"), "acme")
    }

    func testMultiTenancyRefuses() throws {
        func check(_ secret: String, _ header: String?, _ code: ObsError.Code, line: UInt = #line) {
            XCTAssertThrowsError(try tenant(.multi, secret, header), line: line) { XCTAssertEqual(($0 as? ObsError)?.code, code, line: line) }
        }
        check("r3ad", nil, .unauthenticated)
        check("r3ad", "", .unauthenticated)
        check("wr:te", "other", .forbidden)
        for bad in [".", "..", "a/b", "a b", "é", "a|b", String(repeating: "x", count: 151)] { check("r3ad", bad, .badInput) }
    }

    // MARK: The file

    func testFileWithCRLF() throws {
        let file = try TokenFile(parsing: Self.tokens.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\r\n"), path: "t")
        XCTAssertEqual(file.principal(ofSecret: "b0th".utf8)?.name, "both")
        XCTAssertEqual(file.principal(ofSecret: "r00t".utf8)?.name, "root")
    }

    func testEmptyFileRefusesAll() throws {
        let file = try TokenFile(parsing: "# nobody yet\n\n", path: "t")
        XCTAssert(file.isEmpty)
        XCTAssertNil(file.principal(ofSecret: [UInt8]()))
    }

    func testBadLinesNameTheirPlace() {
        let hash = hexString(Digest.sha256.hash("x".utf8))
        func check(_ line: String, _ message: String, at: UInt = #line) {
            XCTAssertThrowsError(try TokenFile(parsing: "# one\n\n" + line, path: "tokens"), line: at) { error in
                XCTAssertEqual("\(error)", "tokens:3: \(message)", line: at)
            }
        }
        check("a query *", "expected `name scopes tenant sha256-hex`, found 3 fields")
        check("a query * \(hash) more", "expected `name scopes tenant sha256-hex`, found 5 fields")
        check("a write * \(hash)", "unknown scope \"write\"; use ingest, query or admin")
        check("a open * \(hash)", "unknown scope \"open\"; use ingest, query or admin")
        check("a , * \(hash)", "no scope; use ingest, query or admin")
        check("a query ../x \(hash)", "invalid tenant id \"../x\"")
        for bad in ["secret", String(hash.dropLast()), String(hash.dropLast(2)), hash + "00", "zz" + hash.dropFirst(2)] {
            check("a query * \(bad)", "the fourth field is no SHA-256 in hex")
        }
    }

    func testIssuedLineGrantsItsSecret() throws {
        let (secret, line) = TokenFile.issue(name: "ci", scopes: "ingest,query", tenant: "acme")
        XCTAssertFalse(line.contains(secret))
        let principal = try XCTUnwrap(TokenFile(parsing: line, path: "t").principal(ofSecret: secret.utf8))
        XCTAssertEqual(principal.name, "ci")
        XCTAssertEqual(principal.scopes, [.ingest, .query])
        XCTAssertEqual(principal.tenant?.name, "acme")
        XCTAssertNotEqual(TokenFile.issue(name: "ci", scopes: "query", tenant: "*").secret, secret)
    }

    // MARK: Refusals at the doors

    private let bearer = { (secret: String) in [("Authorization", "Bearer \(secret)")] }

    func testRefusalsInEachProtocolsShape() throws {
        let api = try API(tokens: Self.tokens)
        let none = "no credential; send `Authorization: Bearer <token>`"
        func check(_ response: HTTPResponse, _ text: String, _ type: String, line: UInt = #line) {
            assertAnswer(response, 401, text, line: line)
            XCTAssertEqual(response.type, type, line: line)
            XCTAssertEqual(response.header("www-authenticate"), "Basic realm=\"obsd\"", line: line)
        }
        let json = "application/json"
        let text = "text/plain; charset=utf-8"
        let prometheus = #"{"status":"error","errorType":"unauthorized","error":"\#(none)"}"#
        check(api.get("/api/v1/query?query=1"), prometheus, json)
        check(api.post("/api/v1/query", "application/x-www-form-urlencoded", "query=1"), prometheus, json)
        check(api.get("/loki/api/v1/labels"), none + "\n", text)
        check(api.post("/loki/api/v1/push", json, "{}"), none + "\n", text)
        check(api.post("/loki/api/v1/push/", json, "{}"), none + "\n", text)
        check(api.get("/api/search"), none + "\n", text)
        check(api.get("/jaeger/api/services"), #"{"data":null,"total":0,"limit":0,"offset":0,"errors":[{"code":401,"msg":"\#(none)"}]}"#, json)
        check(api.post("/api/v1/write", "application/x-protobuf", ""), none + "\n", text)
        check(api.post("/insert/jsonline", json, ""), #"{"error":"\#(none)"}"#, json)
        for path in ["/v1/traces", "/otlp/v1/logs", "/api/v1/otlp/v1/metrics"] {
            check(api.post(path, json, ""), #"{"code":16,"message":"\#(none)"}"#, json)
            let protobuf = api.post(path, "application/x-protobuf", "")
            XCTAssertEqual(protobuf.status, 401)
            XCTAssertEqual(protobuf.type, "application/x-protobuf")
            XCTAssertEqual(protobuf.body.prefix(2), [8, 16])
        }
        check(api.get("/metrics"), none + "\n", text)
        check(api.send("PUT", "/-/reload"), none + "\n", text)
    }

    func testForbidden() throws {
        let api = try API(tokens: Self.tokens)
        assertAnswer(
            api.get("/api/v1/query?query=1", bearer("wr:te")), 403,
            #"{"status":"error","errorType":"forbidden","error":"token \"writer\" lacks the scope query"}"#)
        assertAnswer(api.post("/loki/api/v1/push", "application/json", "{}", bearer("r3ad")), 403, "token \"reader\" lacks the scope ingest\n")
        assertAnswer(
            api.post("/v1/traces", "application/json", "{}", bearer("r3ad")), 403, #"{"code":7,"message":"token \"reader\" lacks the scope ingest"}"#)
        for secret in ["r3ad", "wr:te", "b0th"] { XCTAssertEqual(api.send("POST", "/-/reload", bearer(secret)).status, 403) }
        XCTAssertEqual(api.get("/api/v1/status/config", bearer("r3ad")).status, 403)
        XCTAssertEqual(api.get("/api/v1/status/config", bearer("r00t")).status, 200)
    }

    func testOpenDoors() throws {
        let api = try API(tokens: Self.tokens, tenancy: .multi)
        for path in ["/", "/ready", "/-/healthy", "/-/ready", "/api/echo", "/tempo/api/echo"] { XCTAssertEqual(api.get(path).status, 200, path) }
    }

    func testTenantsAtTheDoors() throws {
        let api = try API(tokens: Self.tokens, tenancy: .multi)
        let streams = #"{"streams":[{"stream":{"app":"a"},"values":[["1699999990000000000","x"]]}]}"#
        XCTAssertEqual(api.post("/loki/api/v1/push", "application/json", streams, bearer("b0th")).status, 204)
        assertAnswer(api.get("/loki/api/v1/labels", bearer("b0th")), 200, #"{"status":"success","data":["app","service_name"]}"#)
        assertAnswer(api.get("/loki/api/v1/labels", bearer("r3ad") + [("X-Scope-OrgID", "other")]), 200, #"{"status":"success","data":[]}"#)
        assertAnswer(api.get("/loki/api/v1/labels", bearer("r3ad")), 401, "no org id\n")
        assertAnswer(
            api.get("/loki/api/v1/labels", bearer("b0th") + [("X-Scope-OrgID", "other")]), 403, "token \"both\" may not use tenant \"other\"\n")
        assertAnswer(api.get("/loki/api/v1/labels", bearer("r3ad") + [("X-Scope-OrgID", "a/b")]), 400, "invalid tenant id \"a/b\"\n")
    }
}
