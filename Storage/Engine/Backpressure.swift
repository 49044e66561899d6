internal import ObsCore
internal import ObsStore

/// Answers to writers that come faster than they can be flushed: held back until memory is free again, so that they slow down instead of being refused.
///
/// Rows are durable and visible before their answer is held. Held is only while a flush runs, and every way it can end lets go: nobody waits longer than that.
struct HeldAnswers {
    private var answers: [@Sendable () -> Void] = []
    private(set) var isFlushing = false

    mutating func beginFlush() { isFlushing = true }

    /// - Returns: what is to be run, without any lock.
    mutating func endFlush() -> [@Sendable () -> Void] {
        isFlushing = false
        defer { answers = [] }
        return answers
    }

    mutating func hold(_ answer: @escaping @Sendable () -> Void) { answers.append(answer) }
}
