/// What a decoder made of a request: the good part, and how much was refused.
///
/// Refused records don't fail a request: protocols with partial success report them, so that senders neither lose nor repeat the rest.
package struct Decoded<Batch: Sendable>: Sendable {
    package var batch: Batch
    /// Records left out as invalid.
    package var rejected = 0
    /// Why the first of them was left out.
    package var reason: String?

    package init(batch: Batch, rejected: Int = 0, reason: String? = nil) {
        self.batch = batch
        self.rejected = rejected
        self.reason = reason
    }

    /// Counts `count` refused records; the first reason is kept.
    package mutating func reject(_ count: Int = 1, _ why: @autoclosure () -> String) {
        rejected += count
        if reason == nil { reason = why() }
    }
}
