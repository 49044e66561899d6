internal import ObsCore

// How a name of a query is looked up in a span.

extension SpanPlace {
    private var span: SpanBatch { _read { yield batch.batch } }

    private func text(_ range: ByteRange) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: bytes[range.range]) }

    func value(_ name: AttributeName) -> Value {
        switch name {
        case .intrinsic(let intrinsic): return value(intrinsic)
        case .field(let scope, let key, let ofParent):
            if ofParent {
                guard let parent = trace?.parent[row], parent >= 0 else { return .missing }
                var place = self
                place.row = parent
                return place.value(.field(scope, key, ofParent: false))
            }
            return value(scope, key)
        }
    }

    private func value(_ scope: AttributeScope, _ key: String) -> Value {
        switch scope {
        case .none:
            let own = find(key, in: text(span.attributes[row]))
            return own.isMissing ? resourceValue(key) : own
        case .span: return find(key, in: text(span.attributes[row]))
        case .resource: return resourceValue(key)
        case .instrumentation: return find("attr." + key, in: text(span.scopes[Int(span.scope[row])]))
        case .event: return list { body in forEachEvent(text(span.events[row])) { _, _, attributes in body(find(key, in: attributes)) } }
        case .link: return list { body in forEachLink(text(span.links[row])) { _, _, attributes in body(find(key, in: attributes)) } }
        }
    }

    private func resourceValue(_ key: String) -> Value {
        let resource = Int(span.resource[row])
        let value = find(key, in: text(span.resources[resource]))
        if value.isMissing, key == "service.name", !span.services[resource].isEmpty { return .view(text(span.services[resource])) }
        return value
    }

    private func list(_ each: ((Value) -> Void) -> Void) -> Value {
        var values: [Value] = []
        each { value in
            switch value {
            case .missing: break
            case .list(let inner): values += inner
            default: values.append(value)
            }
        }
        return values.isEmpty ? .missing : values.count == 1 ? values[0] : .list(values)
    }

    private func value(_ intrinsic: Intrinsic) -> Value {
        switch intrinsic {
        case .name: return .view(text(span.name[row]))
        case .status: return .status(span.status[row])
        case .statusMessage: return .view(text(span.statusMessage[row]))
        case .kind: return .kind(span.kind[row])
        case .duration: return .duration(span.durationNanos[row])
        case .spanID: return .string(hexString(span.spanID[row]))
        case .spanParentID: return span.parentID[row] == 0 ? .missing : .string(hexString(span.parentID[row]))
        case .traceID: return .string(span.traceID[row].description)
        case .eventName: return list { body in forEachEvent(text(span.events[row])) { _, name, _ in body(.view(name)) } }
        case .eventTimeSinceStart:
            return list { body in forEachEvent(text(span.events[row])) { time, _, _ in body(.duration(time &- span.startNanos[row])) } }
        case .linkTraceID: return list { body in forEachLink(text(span.links[row])) { trace, _, _ in body(.string(trace.description)) } }
        case .linkSpanID: return list { body in forEachLink(text(span.links[row])) { _, id, _ in body(.string(hexString(id))) } }
        case .instrumentationName: return find("name", in: text(span.scopes[Int(span.scope[row])]))
        case .instrumentationVersion: return find("version", in: text(span.scopes[Int(span.scope[row])]))
        case .nestedSetParent:
            // -1 for a root, 0 for a span whose parent has not been received.
            if span.parentID[row] == 0 { return .int(-1) }
            guard let trace else { return .int(1) }
            return .int(trace.parent[row] < 0 ? 0 : Int64(trace.left[trace.parent[row]]))
        case .nestedSetLeft: return trace.map { .int(Int64($0.left[row])) } ?? .missing
        case .nestedSetRight: return trace.map { .int(Int64($0.right[row])) } ?? .missing
        case .childCount: return trace.map { .int(Int64($0.children[row].count)) } ?? .missing
        case .traceDuration: return trace.map { .duration($0.endNanos &- $0.startNanos) } ?? .missing
        case .rootName: return trace?.root.map { .view(text(span.name[$0])) } ?? .missing
        case .rootServiceName: return trace?.root.map { .view(text(span.services[Int(span.resource[$0])])) } ?? .missing
        }
    }
}

/// The first entry of that key in an attribute list.
private func find(_ key: String, in attributes: UnsafeRawBufferPointer) -> Value {
    if attributes.isEmpty { return .missing }
    var copy = key
    return copy.withUTF8 { wanted in
        let wanted = UnsafeRawBufferPointer(wanted)
        var result = Value.missing
        forEachAttribute(attributes) { view in
            guard view.key.count == wanted.count, compareBytes(view.key, wanted) == 0 else { return true }
            result = value(view)
            return false
        }
        return result
    }
}

private func value(_ view: AttributeView) -> Value {
    switch view.type {
    case .string: return .view(view.payload)
    case .list: return .list(scalars(inJSONArray: view.payload))
    case .map: return .view(view.payload)
    case .bool, .int, .double, .bytes:
        switch view.value {
        case .bool(let flag): return .bool(flag)
        case .int(let number): return .int(number)
        case .double(let number): return .float(number)
        case let other: return .string(other.text)
        }
    }
}

/// Strings, numbers and booleans of a JSON array's text (our own compact writing); nested values are left out.
private func scalars(inJSONArray text: UnsafeRawBufferPointer) -> [Value] {
    var result: [Value] = []
    var depth = 0
    var at = 0
    while at < text.count {
        let byte = text[at]
        switch byte {
        case UInt8(ascii: "["), UInt8(ascii: "{"): depth += 1
        case UInt8(ascii: "]"), UInt8(ascii: "}"): depth -= 1
        case UInt8(ascii: "\""):
            var bytes: [UInt8] = []
            at += 1
            while at < text.count, text[at] != UInt8(ascii: "\"") {
                if text[at] == UInt8(ascii: "\\"), at + 1 < text.count {
                    at += 1
                    switch text[at] {
                    case UInt8(ascii: "n"): bytes.append(0x0a)
                    case UInt8(ascii: "t"): bytes.append(0x09)
                    case UInt8(ascii: "r"): bytes.append(0x0d)
                    case UInt8(ascii: "u"):
                        let digits = String(decoding: text[min(at + 1, text.count)..<min(at + 5, text.count)], as: UTF8.self)
                        bytes += Array(String(UInt32(digits, radix: 16).flatMap { Unicode.Scalar($0) } ?? "\u{fffd}").utf8)
                        at += 4
                    default: bytes.append(text[at])
                    }
                } else {
                    bytes.append(text[at])
                }
                at += 1
            }
            if depth == 1 { result.append(.string(String(decoding: bytes, as: UTF8.self))) }
        case UInt8(ascii: ","), UInt8(ascii: ":"), 0...0x20: break
        default:
            let start = at
            while at < text.count, !",]} ".utf8.contains(text[at]) { at += 1 }
            let word = String(decoding: text[start..<at], as: UTF8.self)
            at -= 1
            guard depth == 1 else { break }
            if word == "true" || word == "false" {
                result.append(.bool(word == "true"))
            } else if let number = Int64(word) {
                result.append(.int(number))
            } else if let number = Double(word) {
                result.append(.float(number))
            }
        }
        at += 1
    }
    return result
}

func forEachEvent(_ text: UnsafeRawBufferPointer, _ body: (_ timeNanos: Int64, _ name: UnsafeRawBufferPointer, _ attributes: UnsafeRawBufferPointer) -> Void) {
    var at = 0
    while at + 8 <= text.count {
        let time = Int64(littleEndian: text.loadUnaligned(fromByteOffset: at, as: Int64.self))
        at += 8
        guard let name = readLabelPart(text, &at), let list = readLabelPart(text, &at), readVarint(text, &at) != nil else { return }
        body(time, UnsafeRawBufferPointer(rebasing: text[name]), UnsafeRawBufferPointer(rebasing: text[list]))
    }
}

func forEachLink(_ text: UnsafeRawBufferPointer, _ body: (_ trace: TraceID, _ span: SpanID, _ attributes: UnsafeRawBufferPointer) -> Void) {
    var at = 0
    while at + 24 <= text.count {
        guard let trace = TraceID(bytes: UnsafeRawBufferPointer(rebasing: text[at..<at + 16])) else { return }
        let span = UInt64(bigEndian: text.loadUnaligned(fromByteOffset: at + 16, as: UInt64.self))
        at += 24
        guard readLabelPart(text, &at) != nil, let list = readLabelPart(text, &at), readVarint(text, &at) != nil, at + 4 <= text.count else { return }
        at += 4
        body(trace, span, UnsafeRawBufferPointer(rebasing: text[list]))
    }
}
