internal import ObsCore

extension Parser {
    func check(_ arguments: [Expression], of function: Function, at position: Position) throws(ObsError) {
        let types = function.arguments
        let count = arguments.count
        if function.variadic == 0 {
            guard count == types.count else {
                throw error("expected \(types.count) argument(s) in call to \"\(function.name)\", got \(count)", at: position)
            }
        } else {
            let least = types.count - 1
            guard count >= least else { throw error("expected at least \(least) argument(s) in call to \"\(function.name)\", got \(count)", at: position) }
            let most = least + function.variadic
            if function.variadic > 0, count > most {
                throw error("expected at most \(most) argument(s) in call to \"\(function.name)\", got \(count)", at: position)
            }
        }
        if function.name == "info", arguments.count > 1 {
            if arguments[1].type != .vector {
                throw error("expected type instant vector in call to function \"info\", got \(arguments[1].type.documented)", at: position)
            }
            guard case .selector(let selector) = arguments[1] else { throw error("expected label selectors only", at: arguments[1].position) }
            if selector.name != nil { throw error("expected label selectors only, got vector selector instead", at: selector.position) }
        }
        for (index, argument) in arguments.enumerated() {
            guard let type = index < types.count ? types[index] : types.last else { continue }
            if argument.type != type {
                throw error("expected type \(type.documented) in call to function \"\(function.name)\", got \(argument.type.documented)", at: argument.position)
            }
        }
    }

    /// The node with its matching left out unless both sides are vectors.
    func checked(_ node: BinaryOperation, matchingGiven: Bool, at position: Position) throws(ObsError) -> BinaryOperation {
        let (left, right) = (node.left.type, node.right.type)
        for side in [node.left, node.right] where side.type != .scalar && side.type != .vector {
            throw error("binary expression must contain only scalar and instant vector types", at: side.position)
        }
        if node.operation.isComparison, !node.returnsBool, left == .scalar, right == .scalar {
            throw error("comparisons between scalars must use BOOL modifier", at: position)
        }
        if left == .vector, right == .vector { return node }
        if node.operation.isSet { throw error("set operator \"\(node.operation.rawValue)\" not allowed in binary scalar expression", at: position) }
        if matchingGiven { throw error("vector matching only allowed between instant vectors", at: position) }
        if node.matching?.fillLeft != nil || node.matching?.fillRight != nil {
            throw error("filling in missing series only allowed between instant vectors", at: position)
        }
        var node = node
        node.matching = nil
        return node
    }
}
