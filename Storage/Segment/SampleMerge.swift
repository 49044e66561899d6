/// Two sample columns as one; of equal instants the first's stays.
package func mergeSamples(_ a: (times: [Int64], values: [Double]), _ b: (times: [Int64], values: [Double])) -> (times: [Int64], values: [Double]) {
    guard let aFirst = a.times.first, let aLast = a.times.last else { return b }
    guard let bFirst = b.times.first, let bLast = b.times.last else { return a }
    if aLast < bFirst { return (a.times + b.times, a.values + b.values) }
    if bLast < aFirst { return (b.times + a.times, b.values + a.values) }
    var times: [Int64] = []
    var values: [Double] = []
    times.reserveCapacity(a.times.count + b.times.count)
    values.reserveCapacity(a.times.count + b.times.count)
    var x = 0
    var y = 0
    while x < a.times.count || y < b.times.count {
        if y == b.times.count || (x < a.times.count && a.times[x] <= b.times[y]) {
            if y < b.times.count, a.times[x] == b.times[y] { y += 1 }
            times.append(a.times[x])
            values.append(a.values[x])
            x += 1
        } else {
            times.append(b.times[y])
            values.append(b.values[y])
            y += 1
        }
    }
    return (times, values)
}
