internal import ObsCore

/// Rows of a span batch as OTLP nests them: by resource and its schema URL, within it by scope, in the order of first appearance.
struct TraceGroups {
    struct Scope {
        var scope: InstrumentationScope
        var rows: [Int] = []
    }

    struct Resource {
        var resource: Int
        var schemaURL: String
        var scopes: [Scope] = []
    }

    private struct ResourceKey: Hashable {
        var resource: UInt32
        var schemaURL: String
    }

    private(set) var resources: [Resource] = []

    init(_ batch: SpanBatch, rows: [Int]) {
        var places: [UInt64: (resource: Int, scope: Int)] = [:]
        var resourcePlaces: [ResourceKey: Int] = [:]
        for row in rows {
            let pair = UInt64(batch.resource[row]) << 32 | UInt64(batch.scope[row])
            if let place = places[pair] {
                resources[place.resource].scopes[place.scope].rows.append(row)
                continue
            }
            let scope = InstrumentationScope(batch.bytes[batch.scopes[Int(batch.scope[row])].range])
            let key = ResourceKey(resource: batch.resource[row], schemaURL: scope.resourceSchemaURL)
            let resource = resourcePlaces[key] ?? resources.count
            if resource == resources.count {
                resources.append(Resource(resource: Int(batch.resource[row]), schemaURL: scope.resourceSchemaURL))
                resourcePlaces[key] = resource
            }
            places[pair] = (resource, resources[resource].scopes.count)
            resources[resource].scopes.append(Scope(scope: scope, rows: [row]))
        }
    }
}

/// An instrumentation scope decoded from its attribute list (see `LogBatch.scopes`).
struct InstrumentationScope {
    private(set) var name = ""
    private(set) var version = ""
    private(set) var schemaURL = ""
    private(set) var resourceSchemaURL = ""
    private(set) var droppedAttributes: Int64 = 0
    private(set) var attributes: [(key: String, value: AttributeValue)] = []

    init(_ list: some Collection<UInt8>) {
        for entry in attributeList(list) {
            switch (entry.key, entry.value) {
            case ("name", .string(let text)): name = text
            case ("version", .string(let text)): version = text
            case ("schema_url", .string(let text)): schemaURL = text
            case ("resource_schema_url", .string(let text)): resourceSchemaURL = text
            case ("dropped_attributes_count", .int(let count)): droppedAttributes = count
            default: attributes.append((entry.key.hasPrefix("attr.") ? String(entry.key.dropFirst(5)) : entry.key, entry.value))
            }
        }
    }
}
