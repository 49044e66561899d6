/// A typed attribute value; literals convert by themselves: `["amount": 12.5, "retry": true]`.
public enum ObsValue: Sendable, Equatable, ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral
{
    case string(String)
    case int(Int)
    case double(Double)
    case bool(Bool)
    case array([ObsValue])
    /// A value that must not leave the process: it is exported as `***`.
    case sensitive(String)

    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .int(value) }
    public init(floatLiteral value: Double) { self = .double(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(arrayLiteral elements: ObsValue...) { self = .array(elements) }
}

/// Attributes of a span, a log record or a measurement.
public typealias ObsAttributes = [String: ObsValue]
