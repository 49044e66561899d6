package import Glibc
internal import Synchronization

/// Starts a named pthread we own; data paths run on these, never on Swift's cooperative pool. The thread is detached unless `joinable`.
@discardableResult
package func startThread(_ name: String, stackBytes: Int = 1 << 20, joinable: Bool = false, _ body: @escaping @Sendable () -> Void) -> pthread_t {
    final class Box {
        let name: String
        let body: @Sendable () -> Void
        init(name: String, body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    pthread_attr_setstacksize(&attributes, stackBytes)
    pthread_attr_setdetachstate(&attributes, Int32(joinable ? PTHREAD_CREATE_JOINABLE : PTHREAD_CREATE_DETACHED))
    var thread = pthread_t()
    let status = pthread_create(
        &thread, &attributes,
        { context in
            guard let context else { return nil }
            let box = Unmanaged<Box>.fromOpaque(context).takeRetainedValue()
            nameThread(box.name)
            box.body()
            return nil
        }, Unmanaged.passRetained(Box(name: name, body: body)).toOpaque())
    precondition(status == 0, "FATAL: cannot start thread \(name): error \(status)")
    pthread_attr_destroy(&attributes)
    return thread
}

/// Names the calling thread for `top` and debuggers; Glibc's module hides `pthread_setname_np`.
private func nameThread(_ name: String) {
    let file = open("/proc/thread-self/comm", O_WRONLY)
    guard file >= 0 else { return }
    var bytes = Array(name.utf8.prefix(15))
    _ = write(file, &bytes, bytes.count)
    close(file)
}

/// A mutex with a condition: what hand-overs between our threads wait on.
package final class Monitor<State>: @unchecked Sendable {  // all access to `state` is under `mutex`
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var state: State

    package init(_ state: State) {
        self.state = state
        mutex = .allocate(capacity: 1)
        condition = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    /// Runs `body` under the lock and wakes all who wait.
    package func update<R>(_ body: (inout State) throws -> R) rethrows -> R {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }
        return try body(&state)
    }

    /// Runs `body` under the lock without waking anyone.
    package func read<R>(_ body: (inout State) throws -> R) rethrows -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&state)
    }

    /// Waits until `body` gives a value, asking again after every `update`. Nil once `timeoutNanos` have passed.
    package func wait<R>(timeoutNanos: Int64? = nil, until body: (inout State) -> R?) -> R? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        var deadline = timespec()
        if let timeoutNanos {
            let end = SystemClock().monotonicNanos() &+ timeoutNanos
            deadline = timespec(tv_sec: Int(end / 1_000_000_000), tv_nsec: Int(end % 1_000_000_000))
        }
        while true {
            if let result = body(&state) { return result }
            if timeoutNanos == nil {
                pthread_cond_wait(condition, mutex)
            } else if pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT {
                return body(&state)
            }
        }
    }
}

/// A bounded queue of work and the threads that do it: queries, scrapes, deliveries. A full queue refuses, it never blocks the caller.
package final class WorkerPool: Sendable {
    private struct State {
        var queue: [@Sendable () -> Void] = []
        var head = 0
        var idle = 0
        var stopping = false
        var running: Int
    }
    private let state: Monitor<State>
    private let queueMax: Int

    package init(name: String, threads: Int, queueMax: Int, stackBytes: Int = 8 << 20) {
        self.queueMax = queueMax
        state = Monitor(State(running: threads))
        for index in 0..<threads {
            startThread("\(name)-\(index)", stackBytes: stackBytes) { [state] in
                while let job = state.wait(until: { Self.next(&$0) }), let job { job() }
                state.update { $0.running -= 1 }
            }
        }
    }

    private static func next(_ state: inout State) -> (@Sendable () -> Void)?? {
        if state.head < state.queue.count {
            let job = state.queue[state.head]
            state.head += 1
            if state.head == state.queue.count {
                state.queue.removeAll(keepingCapacity: true)
                state.head = 0
            }
            return .some(.some(job))
        }
        return state.stopping ? .some(.none) : .none
    }

    /// False when the queue is full or the pool is stopping.
    package func submit(_ job: @escaping @Sendable () -> Void) -> Bool {
        state.update { state in
            guard !state.stopping, state.queue.count - state.head < queueMax else { return false }
            state.queue.append(job)
            return true
        }
    }

    /// Lets queued work finish and waits for the threads.
    package func stop() {
        state.update { $0.stopping = true }
        _ = state.wait(until: { $0.running == 0 ? () : nil })
    }
}
