internal import Glibc

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

/// A sum that carries its rounding error along (Kahan, Neumaier), as Prometheus sums.
struct CompensatedSum {
    var sum = 0.0
    var compensation = 0.0

    @inline(__always) mutating func add(_ value: Double) {
        let total = sum + value
        if total.isInfinite {
            compensation = 0
        } else if abs(sum) >= abs(value) {
            compensation += (sum - total) + value
        } else {
            compensation += (value - total) + sum
        }
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
