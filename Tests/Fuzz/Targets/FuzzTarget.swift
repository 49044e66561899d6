/// One decoder under fuzzing. `run` gets any bytes at all and must return: a refusal is fine, a trap, a report of a sanitizer, an endless loop or
/// an allocation out of proportion is a finding. Properties (what was decoded encodes and decodes to the same) are preconditions within.
struct FuzzTarget: Sendable {
    let name: String
    let run: @Sendable ([UInt8]) -> Void

    init(_ name: String, _ run: @escaping @Sendable ([UInt8]) throws -> Void) {
        self.name = name
        self.run = { bytes in try? run(bytes) }
    }

    static let all = diskTargets + columnTargets + wireTargets + languageTargets + netTargets

    static func named(_ name: String) -> FuzzTarget? { all.first { $0.name == name } }
}

/// What must not fail: decoding what was just encoded.
func required<R>(_ body: () throws -> R) -> R {
    do { return try body() } catch { preconditionFailure("what was encoded does not decode: \(error)") }
}
