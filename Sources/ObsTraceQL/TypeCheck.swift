internal import ObsCore

/// What an expression can be, as far as its text tells; attributes can be anything.
enum FieldType: String {
    case any, null = "nil", string, number, bool, duration, status, kind

    /// Numbers and durations mix; `nil` compares with anything.
    func fits(_ other: FieldType) -> Bool {
        if self == .any || other == .any || self == .null || other == .null || self == other { return true }
        return isNumeric && other.isNumeric
    }

    var isOrdered: Bool { self == .string || isNumeric }
    var isNumeric: Bool { self == .number || self == .duration || self == .any }
}

/// The type of an expression.
/// - Throws: `.badInput` where operands cannot go together.
func check(_ expression: FieldExpression, _ token: Token) throws(ObsError) -> FieldType {
    switch expression {
    case .literal(let value):
        switch value {
        case .null: return .null
        case .string: return .string
        case .int, .float: return .number
        case .bool: return .bool
        case .duration: return .duration
        case .status: return .status
        case .kind: return .kind
        }
    case .attribute(.field): return .any
    case .attribute(.intrinsic(let intrinsic)):
        switch intrinsic {
        case .status: return .status
        case .kind: return .kind
        case .duration, .traceDuration, .eventTimeSinceStart: return .duration
        case .nestedSetLeft, .nestedSetRight, .nestedSetParent, .childCount: return .number
        default: return .string
        }
    case .not(let inner):
        let type = try check(inner, token)
        guard type == .bool || type == .any else { throw parseError("illegal operation for the given type: !\(type.rawValue)", token) }
        return .bool
    case .negate(let inner):
        let type = try check(inner, token)
        guard type.isNumeric else { throw parseError("illegal operation for the given type: -\(type.rawValue)", token) }
        return type
    case .match(let inner, _, _):
        let type = try check(inner, token)
        guard type == .string || type == .any else { throw parseError("illegal operation for the given types: \(type.rawValue) =~ string", token) }
        return .bool
    case .binary(let operation, let a, let b):
        let left = try check(a, token)
        let right = try check(b, token)
        let illegal = parseError("illegal operation for the given types: \(left.rawValue) \(operation.rawValue) \(right.rawValue)", token)
        if operation.isLogical {
            guard left == .bool || left == .any, right == .bool || right == .any else { throw illegal }
            return .bool
        }
        if operation.isComparison {
            guard left.fits(right) else {
                throw parseError("binary operations must operate on the same type: \(left.rawValue) \(operation.rawValue) \(right.rawValue)", token)
            }
            let ordered = operation != .equal && operation != .notEqual
            if ordered, !left.isOrdered || !right.isOrdered { throw illegal }
            return .bool
        }
        guard left.isNumeric, right.isNumeric else { throw illegal }
        if left == .any || right == .any { return .any }
        return left == .duration || right == .duration ? .duration : .number
    }
}
