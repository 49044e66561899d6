internal import Glibc
package import ObsCore
internal import ObsHash
package import ObsNet

/// What a credential may do. `admin` includes the others.
package enum Scope: String, Sendable, CaseIterable {
    case ingest, query, admin
    /// Health and readiness: no credential needed.
    case open
}

/// Who asks: a token of the tokens file, or anyone where authentication is off.
package struct Principal: Sendable {
    package var name: String
    package var scopes: Set<Scope>
    /// The only tenant the credential may use; nil for any.
    package var tenant: TenantID?

    package func may(_ scope: Scope) -> Bool { scope == .open || scopes.contains(scope) || scopes.contains(.admin) }
}

/// Static bearer tokens. The file holds a line each, `name scopes tenant sha256-hex`, scopes joined by commas, tenant `*` for any;
/// blank lines and lines starting with `#` are skipped. Only the hash is kept, so that the file leaks no secret.
package struct TokenFile: Sendable {
    private var principals: [(digest: [UInt8], principal: Principal)] = []

    package init() {}

    /// - Throws: `.badInput` naming the line.
    package init(parsing text: String, path: String) throws(ObsError) {
        for (index, line) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard let first = fields.first, !first.hasPrefix("#") else { continue }
            let place = "\(path):\(index + 1)"
            guard fields.count == 4 else { throw ObsError(.badInput, "expected `name scopes tenant sha256-hex`, found \(fields.count) fields", place: place) }
            var scopes = Set<Scope>()
            for word in fields[1].split(separator: ",") {
                guard let scope = Scope(rawValue: String(word)), scope != .open else {
                    throw ObsError(.badInput, "unknown scope \(quoted(word)); use ingest, query or admin", place: place)
                }
                scopes.insert(scope)
            }
            if scopes.isEmpty { throw ObsError(.badInput, "no scope; use ingest, query or admin", place: place) }
            guard let digest = Self.bytes(hex: fields[3]), digest.count == 32 else {
                throw ObsError(.badInput, "the fourth field is no SHA-256 in hex", place: place)
            }
            let tenant: TenantID?
            do { tenant = fields[2] == "*" ? nil : try TenantID(String(fields[2])) } catch { throw ObsError(.badInput, error.message, place: place) }
            principals.append((digest, Principal(name: String(first), scopes: scopes, tenant: tenant)))
        }
    }

    package var isEmpty: Bool { principals.isEmpty }

    /// The principal of a secret. Every stored hash is compared in full, so that the time taken tells nothing.
    package func principal(ofSecret secret: some Sequence<UInt8>) -> Principal? {
        let digest = Digest.sha256.hash(secret)
        var found: Principal?
        for candidate in principals {
            var difference: UInt8 = 0
            for (a, b) in zip(candidate.digest, digest) { difference |= a ^ b }
            if difference == 0 { found = candidate.principal }
        }
        return found
    }

    private static func bytes(hex: Substring) -> [UInt8]? {
        let digits = Array(hex.utf8)
        guard digits.count % 2 == 0 else { return nil }
        var result: [UInt8] = []
        for at in stride(from: 0, to: digits.count, by: 2) {
            guard let high = hexValue(digits[at]), let low = hexValue(digits[at + 1]) else { return nil }
            result.append(high << 4 | low)
        }
        return result
    }

    /// A new random secret and the line that grants it.
    package static func issue(name: String, scopes: String, tenant: String) -> (secret: String, line: String) {
        let secret = "obs_" + hexString(secretBytes(count: 24))
        return (secret, "\(name) \(scopes) \(tenant) \(hexString(Digest.sha256.hash(secret.utf8)))")
    }
}

/// Decides who asks and for which tenant (contract auth.md §1–3).
package struct Authenticator: Sendable {
    package enum Tenancy: String, Sendable {
        /// `X-Scope-OrgID` is ignored; all data belongs to `default` or to the credential's tenant.
        case single
        /// The header names the tenant unless the credential is bound to one.
        case multi
    }

    private let tokens: TokenFile?
    private let tenancy: Tenancy

    /// - Parameter tokens: nil where authentication is off.
    package init(tokens: TokenFile?, tenancy: Tenancy) {
        self.tokens = tokens
        self.tenancy = tenancy
    }

    /// - Throws: `.unauthenticated` without a valid credential.
    package func principal(of request: HTTPRequest) throws(ObsError) -> Principal {
        guard let tokens else { return Principal(name: "anonymous", scopes: [.admin], tenant: nil) }
        guard let secret = Self.secret(in: request) else { throw ObsError(.unauthenticated, "no credential; send `Authorization: Bearer <token>`") }
        guard let principal = tokens.principal(ofSecret: secret) else { throw ObsError(.unauthenticated, "invalid token") }
        return principal
    }

    /// - Throws: `.unauthenticated` ("no org id") where the header is missing, `.forbidden` for a tenant the credential lacks.
    package func tenant(of request: HTTPRequest, _ principal: Principal) throws(ObsError) -> TenantID {
        let header = request.header("x-scope-orgid").flatMap { $0.isEmpty ? nil : $0 }
        if let bound = principal.tenant {
            if tenancy == .multi, let header, header != bound.name {
                throw ObsError(.forbidden, "token \(quoted(principal.name)) may not use tenant \(quoted(header))")
            }
            return bound
        }
        if tenancy == .single { return .default }
        guard let header else { throw ObsError(.unauthenticated, "no org id") }
        return try TenantID(header)
    }

    /// One secret in any of the spellings clients have for it.
    static func secret(in request: HTTPRequest) -> [UInt8]? {
        for name in ["dd-api-key", "x-amz-firehose-access-key"] {
            if let value = request.header(name) { return Array(value.utf8) }
        }
        guard let header = request.header("authorization"), let space = header.firstIndex(of: " ") else { return nil }
        let value = Array(header[space...].trimmed.utf8)
        switch header[..<space].lowercased() {
        case "bearer", "token", "splunk": return value
        case "basic", "apikey":
            guard let pair = decodeBase64(value), let colon = pair.firstIndex(of: UInt8(ascii: ":")) else { return nil }
            return Array(pair[(colon + 1)...])
        default: return nil
        }
    }
}
