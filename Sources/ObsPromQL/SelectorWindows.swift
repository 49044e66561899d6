package import ObsCore

/// A selector with the times whose samples a query looks at.
package struct SelectorWindow: Sendable {
    package var selector: VectorSelector
    /// Milliseconds, both ends inclusive.
    package var range: ClosedRange<Int64>
    /// How far a selector of instants looks back; nil for one of ranges, which says itself.
    package var lookbackMillis: Int64?
}

extension Expression {
    /// Of each selector within, in reading order. Roughly right: never less than what is read.
    /// - Parameter stepMillis: 0 for an instant query.
    package func windows(startMillis: Int64, endMillis: Int64, stepMillis: Int64, lookbackMillis: Int64) -> [SelectorWindow] {
        var found: [SelectorWindow] = []
        let walk = WindowWalk(startMillis: startMillis, endMillis: endMillis, stepMillis: stepMillis, lookbackMillis: lookbackMillis)
        walk.visit(self, startMillis, endMillis, &found)
        return found
    }
}

private struct WindowWalk {
    let startMillis: Int64
    let endMillis: Int64
    let stepMillis: Int64
    let lookbackMillis: Int64

    /// - Parameters: the first and last time the expression is evaluated at.
    func visit(_ expression: Expression, _ first: Int64, _ last: Int64, _ found: inout [SelectorWindow]) {
        switch expression {
        case .number, .string: break
        case .selector(let selector):
            let (first, last) = shifted(first, last, selector.at, selector.offset)
            let after = selector.rangeExtension == .smoothed ? lookbackMillis : 0
            add(selector, first &- lookbackMillis &+ 1, last &+ after, lookbackMillis, &found)
        case .range(let node):
            let (first, last) = shifted(first, last, node.selector.at, node.selector.offset)
            let beyond = node.selector.rangeExtension == nil ? 0 : lookbackMillis
            add(node.selector, first &- millis(node.range) &- beyond &+ 1, last &+ beyond, nil, &found)
        case .subquery(let node):
            let (first, last) = shifted(first, last, node.at, node.offset)
            visit(node.expression, first &- millis(node.range) &+ 1, last, &found)
        case .call(let node): for argument in node.arguments { visit(argument, first, last, &found) }
        case .aggregation(let node):
            if let parameter = node.parameter { visit(parameter, first, last, &found) }
            visit(node.expression, first, last, &found)
        case .binary(let node):
            visit(node.left, first, last, &found)
            visit(node.right, first, last, &found)
        case .unary(let node): visit(node.operand, first, last, &found)
        case .parentheses(let inner, _): visit(inner, first, last, &found)
        }
    }

    private func add(_ selector: VectorSelector, _ first: Int64, _ last: Int64, _ lookback: Int64?, _ found: inout [SelectorWindow]) {
        found.append(SelectorWindow(selector: selector, range: first...max(first, last), lookbackMillis: lookback))
    }

    private func shifted(_ first: Int64, _ last: Int64, _ at: AtModifier?, _ offset: DurationExpression?) -> (Int64, Int64) {
        let back = offset.map { millis($0) } ?? 0
        switch at {
        case nil: return (first &- back, last &- back)
        case .time(let pinned): return (pinned &- back, pinned &- back)
        case .start: return (startMillis &- back, startMillis &- back)
        case .end: return (endMillis &- back, endMillis &- back)
        }
    }

    private func millis(_ duration: DurationExpression) -> Int64 {
        let seconds = duration.seconds(step: Double(stepMillis) / 1000, range: Double(endMillis &- startMillis) / 1000)
        return abs(seconds) < secondsMax ? Int64((seconds * 1000).rounded()) : 0
    }
}
