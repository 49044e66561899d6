internal import ObsCore

/// What the spans of a trace are to each other. Rows are those of the trace's own batch.
///
/// A span whose parent is not there hangs at the top, as does one of a parent cycle; the root is the first span without a parent id.
struct TraceShape {
    /// Row of the parent, -1 at the top.
    private(set) var parent: [Int]
    private(set) var children: [[Int]]
    /// Row of the root span; nil while it has not been received.
    let root: Int?
    let startNanos: Int64
    let endNanos: Int64
    /// Nested set numbers from 1, see Tempo.
    private(set) var left: [Int]
    private(set) var right: [Int]

    init(_ batch: SpanBatch) {
        let count = batch.count
        var places: [SpanID: Int] = [:]
        // Of spans that share an id (Zipkin's shared spans) children belong to the first.
        for row in 0..<count where places[batch.spanID[row]] == nil { places[batch.spanID[row]] = row }
        parent = (0..<count).map { row in
            let id = batch.parentID[row]
            guard id != 0, let place = places[id], place != row else { return -1 }
            return place
        }
        children = Array(repeating: [], count: count)
        left = Array(repeating: 0, count: count)
        right = Array(repeating: 0, count: count)
        root = (0..<count).first { batch.parentID[$0] == 0 }
        startNanos = batch.startNanos.min() ?? 0
        endNanos =
            (0..<count).map { batch.startNanos[$0].addingReportingOverflow(batch.durationNanos[$0]) }.map { $0.overflow ? .max : $0.partialValue }.max() ?? 0
        breakCycles()
        for row in 0..<count where parent[row] >= 0 { children[parent[row]].append(row) }
        number()
    }

    private mutating func breakCycles() {
        // 0 unseen, 1 on the way up now, 2 known to end at the top.
        var state = [UInt8](repeating: 0, count: parent.count)
        for start in parent.indices {
            var path: [Int] = []
            var at = start
            while at >= 0, state[at] == 0 {
                state[at] = 1
                path.append(at)
                at = parent[at]
            }
            if at >= 0, state[at] == 1 { parent[at] = -1 }
            for row in path { state[row] = 2 }
        }
    }

    private mutating func number() {
        var next = 1
        // Explicit stack: traces are as deep as their sender likes.
        for top in parent.indices where parent[top] < 0 {
            var stack: [(row: Int, child: Int)] = [(top, 0)]
            left[top] = next
            next += 1
            while let (row, child) = stack.last {
                if child < children[row].count {
                    stack[stack.count - 1].child += 1
                    let inner = children[row][child]
                    left[inner] = next
                    next += 1
                    stack.append((inner, 0))
                } else {
                    right[row] = next
                    next += 1
                    stack.removeLast()
                }
            }
        }
    }
}
