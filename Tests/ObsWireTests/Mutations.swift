/// Changed copies of a valid input: cut at every byte, then `count` with a few bytes replaced, removed or inserted. The same for the same seed.
func withMutations(of source: [UInt8], count: Int = 3000, seed: UInt64 = 1, _ body: ([UInt8]) -> Void) {
    for length in source.indices { body(Array(source.prefix(length))) }
    var state = seed
    func next() -> Int {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int(state >> 33)
    }
    for _ in 0..<count {
        var copy = source
        for _ in 0...next() % 4 where !copy.isEmpty {
            let at = next() % copy.count
            switch next() % 4 {
            case 0: copy.remove(at: at)
            case 1: copy.insert(UInt8(truncatingIfNeeded: next()), at: at)
            case 2: copy[at] = source[next() % source.count]
            default: copy[at] = UInt8(truncatingIfNeeded: next())
            }
        }
        body(copy)
    }
}
