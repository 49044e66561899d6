import Glibc

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ run: @convention(c) (UnsafePointer<UInt8>?, Int) -> CInt
) -> CInt

/// Set once, before the driver runs on the same thread.
private nonisolated(unsafe) var fuzzed: FuzzTarget?

/// Hands the process to libFuzzer; its exit status.
func fuzz(_ target: FuzzTarget, _ arguments: [String]) -> CInt {
    fuzzed = target
    var texts: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    var count = CInt(arguments.count)
    return texts.withUnsafeMutableBufferPointer { buffer in
        guard var base = buffer.baseAddress else { return 2 }
        return runDriver(&count, &base) { bytes, count in
            fuzzed?.run(Array(UnsafeBufferPointer(start: bytes, count: count)))
            return 0
        }
    }
}
