/// A byte size for people: `256 MiB`, `1.5 GiB`.
package func formatByteSize(_ bytes: Int) -> String {
    var unit = 0
    var tenths = bytes > Int.max / 10 ? Int.max : bytes * 10
    while tenths >= 10240, unit < 5 {
        tenths = (tenths + 512) / 1024
        unit += 1
    }
    let whole = tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
    return "\(whole) \(["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit])"
}
