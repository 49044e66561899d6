/// Who is to be scraped when: a heap, so that a look at the next of thousands costs nothing. Used under the manager's lock.
struct ScrapeSchedule {
    private struct Entry {
        var dueMillis: Int64
        var target: ScrapedTarget
    }

    private var heap: [Entry] = []

    var isEmpty: Bool { heap.isEmpty }
    var firstMillis: Int64? { heap.first?.dueMillis }

    mutating func add(_ target: ScrapedTarget, dueMillis: Int64) {
        heap.append(Entry(dueMillis: dueMillis, target: target))
        var at = heap.count - 1
        while at > 0, heap[at].dueMillis < heap[(at - 1) / 2].dueMillis {
            heap.swapAt(at, (at - 1) / 2)
            at = (at - 1) / 2
        }
    }

    /// Takes the targets whose time has come, earliest first.
    mutating func take(until now: Int64) -> [ScrapedTarget] {
        var due: [ScrapedTarget] = []
        while let first = heap.first, first.dueMillis <= now {
            due.append(first.target)
            removeFirst()
        }
        return due
    }

    /// Takes all targets, for a clock that was set back.
    mutating func takeAll() -> [ScrapedTarget] {
        defer { heap = [] }
        return heap.map(\.target)
    }

    private mutating func removeFirst() {
        let last = heap.removeLast()
        guard !heap.isEmpty else { return }
        heap[0] = last
        var at = 0
        while true {
            let left = 2 * at + 1
            guard left < heap.count else { return }
            let smaller = left + 1 < heap.count && heap[left + 1].dueMillis < heap[left].dueMillis ? left + 1 : left
            guard heap[smaller].dueMillis < heap[at].dueMillis else { return }
            heap.swapAt(at, smaller)
            at = smaller
        }
    }
}
