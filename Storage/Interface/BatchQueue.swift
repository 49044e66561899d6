package import ObsCore

/// Batches of metrics on their way to another server, kept until that has them. One queue for each receiver.
///
/// **Order**: batches are numbered as they are appended, and read in that order.
/// **Durability**: what was appended outlives the process; a power cut takes at most what came after the last `sync`.
/// **Bounds**: the oldest batches go when there are too many bytes, which `dropped` counts.
/// **Threads**: any thread appends; one reads and removes.
package protocol BatchQueue: AnyObject, Sendable {
    /// - Parameter nowMillis: when the batch came, for its age.
    /// - Throws: `.overloaded` for a full disk; the batch is not kept then.
    func append(_ batch: MetricBatch, nowMillis: Int64) throws(ObsError)
    /// Batches from number `first` on, or what follows it when that is gone: at least one if there is any, and no more once they hold `samplesMax` samples.
    /// A damaged batch is passed over and counted. `next` is the number to go on with.
    func read(from first: UInt64, samplesMax: Int) throws(ObsError) -> (batches: [QueuedBatch], next: UInt64)
    /// Says that the batches up to this number are being sent: another process knows then, by `status.sendingNumber`, which may be known to the receiver already.
    func begin(through number: UInt64) throws(ObsError)
    /// Forgets all batches up to this number. After a power cut, what was forgotten since the last `sync` may be there again.
    func remove(through number: UInt64) throws(ObsError)
    /// Makes durable what was appended and removed.
    func sync() throws(ObsError)
    /// Waits until there is a batch of number `first` or later, or time is up.
    func wait(for first: UInt64, timeoutMillis: Int64)
    /// Ends every wait under way.
    func interrupt()
    var status: BatchQueueStatus { get }
}

package struct QueuedBatch: Sendable {
    package var number: UInt64
    /// When it was appended.
    package var timeMillis: Int64
    package var batch: MetricBatch

    package init(number: UInt64, timeMillis: Int64, batch: MetricBatch) {
        self.number = number
        self.timeMillis = timeMillis
        self.batch = batch
    }
}

package struct BatchQueueStatus: Sendable {
    /// Number of the oldest batch kept, or the next one's.
    package var firstNumber: UInt64 = 1
    package var nextNumber: UInt64 = 1
    /// Newest batch of `begin`.
    package var sendingNumber: UInt64 = 0
    package var samples = 0
    package var bytes = 0
    /// When the oldest batch was appended; nil when there is none.
    package var oldestMillis: Int64?
    /// Samples that went because of the bound on bytes, or were damaged.
    package var droppedSamples = 0

    package init() {}
}
