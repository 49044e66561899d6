internal import ObsCore

/// Rows of a span batch as OTLP nests them: by resource, within it by scope, in the order of first appearance.
struct TraceGroups {
    struct Scope {
        var scope: Int
        var rows: [Int] = []
    }

    struct Resource {
        var resource: Int
        var scopes: [Scope] = []
    }

    private(set) var resources: [Resource] = []

    init(_ batch: SpanBatch, rows: [Int]) {
        var places: [UInt64: (resource: Int, scope: Int)] = [:]
        var resourcePlaces: [UInt32: Int] = [:]
        for row in rows {
            let key = UInt64(batch.resource[row]) << 32 | UInt64(batch.scope[row])
            if let place = places[key] {
                resources[place.resource].scopes[place.scope].rows.append(row)
                continue
            }
            let resource = resourcePlaces[batch.resource[row]] ?? resources.count
            if resource == resources.count {
                resources.append(Resource(resource: Int(batch.resource[row])))
                resourcePlaces[batch.resource[row]] = resource
            }
            places[key] = (resource, resources[resource].scopes.count)
            resources[resource].scopes.append(Scope(scope: Int(batch.scope[row]), rows: [row]))
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
