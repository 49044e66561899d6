import ObsCore
import ObsTestSupport

@testable import ObsEncoding

/// Texts such as columns hold, made anew for each test.
struct TextSamples {
    var random: SplitMix

    init(seed: UInt64) { random = SplitMix(state: seed) }

    mutating func number(_ below: Int) -> Int { Int(random.next() % UInt64(below)) }
    mutating func one<T>(of choices: [T]) -> T { choices[number(choices.count)] }
    mutating func hex(_ bytes: Int) -> String { hexString((0..<bytes).map { _ in UInt8(truncatingIfNeeded: random.next()) }) }

    static func times(_ count: Int) -> [Int64] { (0..<count).map { 1_795_392_000_003_644_672 + Int64($0) * 12_345_678_901 } }

    mutating func json(_ count: Int) -> [[UInt8]] {
        Self.times(count).map { nanos in
            var text = #"{"ts":"\#(rfc3339(nanos: nanos))","level":"\#(one(of: ["info", "debug", "error", "warn"]))","service":"\#(one(of: ["ads", "cart"]))","#
            text += #""msg":"\#(message())","request_id":"\#(hex(8))""#
            if number(3) > 0 { text += #","status":\#(one(of: [200, 404, 500])),"duration_ms":\#(Double(number(100_000)) / 1000)"# }
            if number(5) == 0 { text += #","trace_id":"\#(hex(16))","o":{"n":null,"l":[1,-\#(number(50)),true]}"# }
            return Array((text + "}").utf8)
        }
    }

    private mutating func message() -> String {
        switch number(6) {
        case 0: "workerEnv.init() ok /etc/httpd/conf/workers\(number(9)).properties"
        case 1: "jk2_init() Found child \(number(70000)) in scoreboard slot \(number(20))"
        case 2: "GET /users/\(number(500))/orders?page=\(number(9)) from 10.0.\(number(256)).\(number(256))"
        case 3: "caf\u{e9} \\\"quoted\\\" \(hex(3)) Error"
        case 4: "user \(one(of: ["Alice", "bob", "Carol"])) logged in"
        default: "state \(number(10))"
        }
    }

    mutating func raw(_ count: Int) -> [[UInt8]] {
        Self.times(count).map { nanos in
            let clock = rfc3339(nanos: nanos)
            let text =
                switch number(7) {
                case 0: "\(clock) INFO dfs.DataNode$PacketResponder: PacketResponder \(number(3)) for block blk_-\(number(1 << 40)) terminating"
                case 1: "11-23 00:00:\(number(60) + 10).812 \(number(9000)) \(number(9000)) I DisplayPowerController: HBM brightnessOut =\(number(40))"
                case 2: "- 10.251.\(number(256)).\(number(256)):50010 \(one(of: ["GET", "PUT"])) /index.html?id=0x\(hex(2).uppercased())"
                case 3: "setSystemUiVisibility vis=0 mask=1 oldVal=\(number(99_999_999)) newVal=\(number(99_999_999)) stack(0, 0 - 0, 0)"
                case 4: (0..<number(8)).map { _ in one(of: ["alpha", "beta", "Gamma", "delta", "x1", "y2z3"]) }.joined(separator: one(of: [" ", ", "]))
                case 5: "ciod: failed to read message prefix on control stream (CioStream socket to 172.16.96.\(number(256)):\(number(60000)))"
                default: String(repeating: one(of: ["a", "1", " ", "-", "ab "]), count: number(30))
                }
            return Array(text.utf8)
        }
    }

    mutating func attributes(_ count: Int) -> [[UInt8]] {
        (0..<count).map { row in
            var bytes: [UInt8] = []
            func add(_ key: String, _ type: UInt8, _ value: [UInt8]) {
                bytes.appendText(Array(key.utf8))
                bytes.append(type)
                if type == 2 || type == 3 || type == 4 { bytes.append(contentsOf: value) } else { bytes.appendText(value) }
            }
            func little(_ value: UInt64) -> [UInt8] {
                var bytes: [UInt8] = []
                bytes.appendLittleEndian(value)
                return bytes
            }
            add("http.method", 1, Array(one(of: ["GET", "POST"]).utf8))
            add("http.status_code", 3, little(UInt64(200 + number(3))))
            if number(2) == 0 { add("ratio", 4, little((Double(number(100)) / 8).bitPattern)) }
            add("cached", 2, [UInt8(row & 1)])
            add("url", 1, Array("/users/\(number(500))?x=\(String(repeating: "y", count: number(150)))".utf8))
            if number(3) == 0 { add("stack", 6, Array("[1,2,\(row)]".utf8)) }
            add("session.id", 1, Array(hex(8).utf8))
            return bytes
        }
    }

    /// Changed here and there, so that nothing is as it should be.
    mutating func mangled(_ texts: [[UInt8]]) -> [[UInt8]] {
        texts.map { text in
            var text = text
            for _ in 0..<number(3) where !text.isEmpty {
                let at = number(text.count)
                switch number(5) {
                case 0: text[at] = UInt8(truncatingIfNeeded: random.next())
                case 1: text.remove(at: at)
                case 2: text.insert(0, at: at)
                case 3: text = Array(text[..<at])
                default: text.append(contentsOf: text[at...].prefix(20))
                }
            }
            return text
        }
    }

    /// All sorts, with what content they are.
    mutating func all(_ count: Int) -> [(name: String, texts: [[UInt8]], content: TextColumn.Content, times: [Int64])] {
        let times = Self.times(count)
        return [
            ("json", json(count), .lines, times), ("json without times", json(count), .lines, []), ("raw", raw(count), .lines, times),
            ("attributes", attributes(count), .attributes, []), ("mangled json", mangled(json(count)), .lines, times),
            ("mangled raw", mangled(raw(count)), .lines, []), ("mangled attributes", mangled(attributes(count)), .attributes, []),
            ("bytes", (0..<count).map { _ in (0..<number(40)).map { _ in UInt8(truncatingIfNeeded: random.next()) } }, .lines, []),
            ("few bytes", (0..<count).map { _ in (0..<number(12)).map { _ in one(of: Array("a1 .-".utf8)) } }, .lines, times),
        ]
    }

    /// A piece of one of the texts, sometimes changed.
    mutating func needle(_ texts: [[UInt8]]) -> [UInt8] {
        let text = one(of: texts)
        guard !text.isEmpty else { return [UInt8(ascii: "x")] }
        let from = number(text.count)
        let most = [2, 6, 20, 60, 400][number(5)]
        var needle = Array(text[from..<min(text.count, from + 1 + number(most))])
        if number(6) == 0 { needle[number(needle.count)] = one(of: Array("0aZ \"\u{0}-.:,".utf8)) }
        return needle
    }
}

func packed(_ texts: [[UInt8]], _ content: TextColumn.Content, _ times: [Int64], filter: inout [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    let ranges = texts.map { text in text.withUnsafeBytes { bytes.intern($0) } }
    var packed: [UInt8] = []
    bytes.withUnsafeBytes { TextColumn.append(ranges, of: $0, as: content, times: times, level: 1, to: &packed, filter: &filter) }
    return packed
}

/// Contains, the plain way.
func naive(_ text: [UInt8], _ needle: [UInt8], ignoringCase: Bool) -> Bool {
    text.withUnsafeBytes { text in
        needle.withUnsafeBytes { needle in
            var start = 0
            while start + needle.count <= text.count {
                var at = 0
                while at < needle.count, (ignoringCase ? lowerCased(text[start + at]) : text[start + at]) == needle[at] { at += 1 }
                if at == needle.count { return true }
                start += 1
            }
            return false
        }
    }
}
