internal import ObsCompress
internal import ObsCore
internal import ObsHash
internal import ObsStore
internal import ObsWire

/// One request to a receiver, ready to be sent, with what is in it.
struct RemoteWriteRequest: Sendable {
    var body: [UInt8] = []
    var samples = 0
    var histograms = 0
    var exemplars = 0
    var newestMillis = Int64.min
}

/// Makes requests of queued batches. Series are spread over shards by their labels: a shard's requests are sent one after the other, so that a series' samples
/// arrive in order however many shards send at once.
struct RemoteWriteRequests {
    private struct Shard {
        var encoder: RemoteWriteEncoder
        var request = RemoteWriteRequest()
        var done: [RemoteWriteRequest] = []
    }

    private let samplesMax: Int
    /// Older samples are left out.
    private let oldestMillis: Int64
    private let version: RemoteWriteVersion
    private let family: ([UInt8]) -> RemoteWriteFamily?
    private var shards: [Shard]
    /// Samples left out for their age.
    private(set) var tooOld = 0

    init(_ version: RemoteWriteVersion, shards: Int, samplesMax: Int, oldestMillis: Int64, family: @escaping ([UInt8]) -> RemoteWriteFamily?) {
        self.version = version
        self.samplesMax = samplesMax
        self.oldestMillis = oldestMillis
        self.family = family
        self.shards = [Shard](repeating: Shard(encoder: RemoteWriteEncoder(version)), count: max(1, shards))
    }

    mutating func add(_ given: MetricBatch) {
        let batch = oldestMillis == .min ? given : young(given)
        let rows = batch.histogramRows()
        let exemplars = batch.exemplarIndices()
        for index in batch.series.indices {
            let series = batch.series[index]
            let ownRows = rows.isEmpty ? [] : rows[index]
            let ownExemplars = exemplars.isEmpty ? [] : exemplars[index]
            let samples = Int(series.sampleCount) + ownRows.count
            guard samples > 0 else { continue }
            let hash = batch.bytes.withUnsafeBytes { hash64(UnsafeRawBufferPointer(rebasing: $0[series.labels.range])) }
            let shard = Int(hash % UInt64(shards.count))
            if !shards[shard].encoder.isEmpty, shards[shard].request.samples + shards[shard].request.histograms + samples > samplesMax { finish(shard) }
            shards[shard].encoder.add(batch, series: index, rows: ownRows, exemplars: ownExemplars, family: family)
            let newest = (Int(series.firstSample)..<Int(series.firstSample) + Int(series.sampleCount)).reduce(Int64.min) { max($0, batch.timesMillis[$1]) }
            let newestRow = ownRows.reduce(Int64.min) { max($0, batch.histograms.timesMillis[$1]) }
            shards[shard].request.newestMillis = max(shards[shard].request.newestMillis, newest, newestRow)
            shards[shard].request.samples += Int(series.sampleCount)
            shards[shard].request.histograms += ownRows.count
            shards[shard].request.exemplars += ownExemplars.count
        }
    }

    /// The batch without samples past their age.
    private mutating func young(_ batch: MetricBatch) -> MetricBatch {
        var keep = [Bool](repeating: true, count: batch.series.count)
        for index in batch.series.indices {
            let series = batch.series[index]
            let samples = Int(series.firstSample)..<Int(series.firstSample) + Int(series.sampleCount)
            if !samples.isEmpty, samples.allSatisfy({ batch.timesMillis[$0] < oldestMillis }) { keep[index] = false }
        }
        for (row, series) in batch.histogramSeries.enumerated() { keep[Int(series)] = batch.histograms.timesMillis[row] >= oldestMillis }
        guard keep.contains(false) else { return batch }
        var young = batch
        young.keepSeries(keep)
        tooOld += batch.sampleCount - young.sampleCount
        return young
    }

    private mutating func finish(_ shard: Int) {
        guard !shards[shard].encoder.isEmpty else { return }
        shards[shard].request.body = snappyCompress(shards[shard].encoder.message())
        shards[shard].done.append(shards[shard].request)
        shards[shard].request = RemoteWriteRequest()
        shards[shard].encoder = RemoteWriteEncoder(version)
    }

    /// Each shard's requests, in their order.
    mutating func take() -> [[RemoteWriteRequest]] {
        for shard in shards.indices { finish(shard) }
        return shards.map(\.done).filter { !$0.isEmpty }
    }

    /// A request of metadata alone.
    static func metadata(_ families: some Sequence<(name: [UInt8], family: RemoteWriteFamily)>) -> RemoteWriteRequest {
        RemoteWriteRequest(body: snappyCompress(RemoteWriteEncoder.metadata(families)))
    }
}
