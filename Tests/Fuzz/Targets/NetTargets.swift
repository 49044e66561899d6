// Frames, forms, configuration files.
@testable import ObsAPI
import ObsCore
@testable import ObsIngest
@testable import ObsNet
import ObsPromQL
@testable import ObsRules
import ObsYAML

let netTargets: [FuzzTarget] = [
    FuzzTarget("websocket") { bytes in
        for isMasked in [true, false] {
            // Whole and in pieces: the same frames.
            let whole = frames(bytes, isMasked: isMasked, pieceBytes: max(1, bytes.count))
            precondition(frames(bytes, isMasked: isMasked, pieceBytes: 3) == whole)
            for frame in whole {
                precondition(frames(frame.encoded(mask: isMasked ? 0x0102_0304 : nil), isMasked: isMasked, pieceBytes: 1 << 20) == [frame])
            }
        }
    },
    FuzzTarget("dns-answer") { bytes in
        for kind in [DNSRecord.Kind.a, .aaaa, .srv, .mx, .ns] { _ = try? DNSMessage.records(bytes, kind) }
    },
    FuzzTarget("form") { _ = parseForm($0) },
    FuzzTarget("query-parameters") { bytes in
        let parameters = Parameters(pairs: parseForm(bytes))
        for name in Set(parameters.pairs.map(\.name)) {
            _ = (try? parameters.prometheusTime(name), try? parameters.prometheusDuration(name), try? parameters.lokiTime(name))
            _ = (try? parameters.goDuration(name), try? parameters.tempoTime(name), try? parameters.jaegerTime(name))
            _ = (try? parameters.count(name), try? parameters.positiveCount(name), try? parameters.required(name))
        }
    },
    FuzzTarget("token-file") { _ = try TokenFile(parsing: String(decoding: $0, as: UTF8.self), path: "t") },
    FuzzTarget("yaml") { walk(try YAMLNode.parse($0)) },
    FuzzTarget("scrape-configuration") { bytes in
        let root = try YAMLMapping(YAMLNode.parse(bytes))
        let configuration = try PrometheusConfiguration(root, directory: "/nowhere")
        for scrape in configuration.scrapes {
            for group in scrape.staticGroups {
                for address in group.addresses { _ = ScrapeTarget.make(address: address, group: group, configuration: scrape) }
            }
        }
    },
    FuzzTarget("target-groups") { _ = try TargetGroup.list($0, source: "s", meta: [("__meta_filepath", "p")]) },
    FuzzTarget("rule-file") { bytes in
        _ = try RuleFile.parse(bytes, path: "r") { expression throws(ObsError) in _ = try parsePromQL(expression) }
    },
]

private func frames(_ bytes: [UInt8], isMasked: Bool, pieceBytes: Int) -> [WebSocketFrame] {
    var reader = WebSocketFrameReader(isMasked: isMasked, payloadBytesMax: 1 << 20)
    var frames: [WebSocketFrame] = []
    for start in stride(from: 0, to: bytes.count, by: pieceBytes) {
        bytes.withUnsafeBytes { reader.append(UnsafeRawBufferPointer(rebasing: $0[start..<min(start + pieceBytes, bytes.count)])) }
        do throws(WebSocketFrameReader.Violation) { while let frame = try reader.next() { frames.append(frame) } } catch { return frames }
    }
    return frames
}

private func walk(_ node: YAMLNode) {
    _ = (try? node.string(), try? node.int(), try? node.double(), try? node.bool(), try? node.durationMillis(), try? node.byteSize())
    _ = try? node.stringPairs()
    for element in (try? node.sequence()) ?? [] { walk(element) }
    guard let map = try? YAMLMapping(node) else { return }
    for key in map.keys { if let value = map.optional(key) { walk(value) } }
}
