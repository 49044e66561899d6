internal import Glibc
internal import ObsCore

extension BinaryOperator {
    func arithmetic(_ left: Double, _ right: Double) -> Double {
        switch self {
        case .add: left + right
        case .subtract: left - right
        case .multiply: left * right
        case .divide: left / right
        case .modulo: fmod(left, right)
        case .power: pow(left, right)
        case .atan2: Glibc.atan2(left, right)
        default: compares(left, right) ? 1 : 0
        }
    }

    func compares(_ left: Double, _ right: Double) -> Bool {
        switch self {
        case .equal: left == right
        case .notEqual: left != right
        case .less: left < right
        case .lessEqual: left <= right
        case .greater: left > right
        case .greaterEqual: left >= right
        default: false
        }
    }
}

/// What an operator makes of two samples.
struct OperatorResult {
    var value: StepValue
    /// Of a comparison: whether it holds.
    var holds = true
    var annotation: Annotation?
}

extension BinaryOperator {
    /// Numbers and histograms; a comparison gives its left side. `.nothing` where the two do not go together.
    func result(_ left: StepValue, _ right: StepValue) -> OperatorResult {
        switch (left, right) {
        case (.number(let left), .number(let right)):
            if isTrim { return refused("float", "float") }
            return isComparison ? OperatorResult(value: .number(left), holds: compares(left, right)) : OperatorResult(value: .number(arithmetic(left, right)))
        case (.number(let factor), .histogram(let histogram)):
            return self == .multiply ? OperatorResult(value: .histogram(histogram.multiplied(by: factor).compacted())) : refused("float", "histogram")
        case (.histogram(let histogram), .number(let number)):
            switch self {
            case .multiply: return OperatorResult(value: .histogram(histogram.multiplied(by: number).compacted()))
            case .divide: return OperatorResult(value: .histogram(histogram.divided(by: number).compacted()))
            case .trimAbove: return OperatorResult(value: .histogram(histogram.trimmed(.above, at: number)))
            case .trimBelow: return OperatorResult(value: .histogram(histogram.trimmed(.below, at: number)))
            default: return refused("histogram", "float")
            }
        case (.histogram(let left), .histogram(let right)): return result(left, right)
        case (.nothing, _), (_, .nothing): return OperatorResult(value: .nothing)
        }
    }

    private func result(_ left: FloatHistogram, _ right: FloatHistogram) -> OperatorResult {
        switch self {
        case .equal: return OperatorResult(value: .histogram(left), holds: left == right)
        case .notEqual: return OperatorResult(value: .histogram(left), holds: left != right)
        case .add, .subtract:
            var sum = left
            guard let blend = sum.combine(right, sign: self == .add ? 1 : -1) else {
                return OperatorResult(value: .nothing, annotation: .incompatibleBounds(operation: rawValue))
            }
            if self == .subtract { sum.reset = .gauge }
            let operation = self == .add ? Annotation.HistogramOperation.addition : .subtraction
            // As Prometheus has it: what contradicts itself is told and left out.
            if blend.resetsCollide { return OperatorResult(value: .nothing, annotation: .resetsCollide(operation)) }
            return OperatorResult(value: .histogram(sum.compacted()), annotation: blend.boundsDiffered ? .boundsDiffered(operation) : nil)
        default: return refused("histogram", "histogram")
        }
    }

    private func refused(_ left: String, _ right: String) -> OperatorResult {
        OperatorResult(value: .nothing, annotation: .incompatibleSamples(operation: rawValue, left: left, right: right))
    }
}

/// A sum that carries its rounding error along (Kahan, Neumaier), as Prometheus sums.
struct CompensatedSum {
    var sum = 0.0
    var compensation = 0.0

    /// The error of the addition is exact, whichever of the two is greater (Knuth), unless the sum is no number any more.
    @inline(__always) mutating func add(_ value: Double) {
        let total = sum + value
        let part = total - sum
        let error = (sum - (total - part)) + (value - part)
        compensation = total.isFinite ? compensation + error : 0
        sum = total
    }

    var value: Double { sum.isInfinite ? sum : sum + compensation }
}

/// A mean computed as sum / count, going over to an incremental mean only when the sum overflows.
struct CompensatedMean {
    private var total = CompensatedSum()
    private var count = 0.0
    private var incremental = false

    @inline(__always) mutating func add(_ value: Double) {
        count += 1
        if !incremental {
            var next = total
            next.add(value)
            if count == 1 || !next.sum.isInfinite {
                total = next
                return
            }
            incremental = true
            total.sum /= count - 1
            total.compensation /= count - 1
        }
        let share = (count - 1) / count
        total.sum *= share
        total.compensation *= share
        total.add(value / count)
    }

    var value: Double { incremental ? total.sum + total.compensation : total.sum / count + total.compensation / count }
}
