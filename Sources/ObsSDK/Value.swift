/// A typed attribute value; literals convert by themselves: `["amount": 12.5, "retry": true]`.
public enum ObsValue: Sendable, Equatable, ExpressibleByStringLiteral, ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral,
    ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral
{
    /// Text.
    case string(String)
    /// A whole number.
    case int(Int)
    /// A number.
    case double(Double)
    /// True or false.
    case bool(Bool)
    /// Several values; OpenTelemetry wants them of one type.
    case array([ObsValue])
    /// A value that must not leave the process: it is exported as `***`.
    case sensitive(String)

    /// `"text"`, also interpolated.
    public init(stringLiteral value: String) { self = .string(value) }
    /// `3`.
    public init(integerLiteral value: Int) { self = .int(value) }
    /// `12.5`.
    public init(floatLiteral value: Double) { self = .double(value) }
    /// `true`.
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    /// `["a", "b"]`.
    public init(arrayLiteral elements: ObsValue...) { self = .array(elements) }
}

/// Attributes of a span, a log record or a measurement.
public typealias ObsAttributes = [String: ObsValue]

extension ObsAttributes {
    /// These attributes and more; of the same name, `more` has the last word.
    public func adding(_ more: ObsAttributes) -> ObsAttributes { merging(more) { $1 } }
}
