/// The owner of data. Every on-disk path and every API call has one; without configuration it is `default`.
package struct TenantID: Hashable, Sendable, CustomStringConvertible, Comparable {
    package let name: String
    package static let `default` = TenantID(unchecked: "default")

    private init(unchecked name: String) { self.name = name }

    /// - Throws: `.badInput` unless 1–150 bytes of `[A-Za-z0-9!\-_.*'()]` and not `.` or `..` (the rule of Loki, Tempo and Mimir; it also keeps a tenant a safe folder name).
    package init(_ name: String) throws(ObsError) {
        let allowed = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "!"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "*"), UInt8(ascii: "'"), UInt8(ascii: "("),
                UInt8(ascii: ")"):
                true
            default: false
            }
        }
        guard allowed, !name.isEmpty, name.utf8.count <= 150, name != ".", name != ".." else {
            throw ObsError(.badInput, "invalid tenant id \(quoted(name))")
        }
        self.name = name
    }

    package var description: String { name }
    package static func < (a: TenantID, b: TenantID) -> Bool { a.name < b.name }
}

package enum Signal: String, Sendable, CaseIterable {
    case metrics, logs, traces
}
