internal import ObsCore
internal import ObsHash
internal import Synchronization

/// What one receiver gets of a batch: labels of its configuration added and relabeled, parts it does not want left out.
final class ForwardedSeries: Sendable {
    private let configuration: RemoteWriteConfiguration
    /// Labels change here.
    private let isIdentity: Bool
    /// Final labels by a hash of the given ones; nil for what relabeling drops.
    private let cache = Mutex<[Hash128: [UInt8]?]>([:])
    private let hashKey = UInt64.random(in: .min ... .max)

    private static let cachedMax = 500_000

    init(_ configuration: RemoteWriteConfiguration) {
        self.configuration = configuration
        isIdentity = configuration.externalLabels.isEmpty && configuration.relabeling.isEmpty
    }

    /// Without metadata, which goes another way.
    func take(_ batch: MetricBatch) -> MetricBatch {
        var taken = batch
        taken.metadata = []
        if !configuration.sendsExemplars { taken.exemplars = [] }
        if !configuration.sendsHistograms {
            taken.histograms = HistogramColumns()
            taken.histogramSeries = []
        }
        return isIdentity ? taken : relabeled(taken)
    }

    private func relabeled(_ batch: MetricBatch) -> MetricBatch {
        var batch = batch
        var keep = [Bool](repeating: true, count: batch.series.count)
        cache.withLock { cache in
            if cache.count > Self.cachedMax { cache = [:] }
            for index in batch.series.indices {
                let range = batch.series[index].labels.range
                let key = batch.bytes.withUnsafeBytes { hash128(UnsafeRawBufferPointer(rebasing: $0[range]), key: hashKey) }
                let final: [UInt8]?
                if let known = cache[key] {
                    final = known
                } else {
                    final = labels(Labels(canonical: Array(batch.bytes[range])))
                    cache.updateValue(final, forKey: key)
                }
                if let final { batch.series[index].labels = batch.bytes.intern(final) } else { keep[index] = false }
            }
        }
        if keep.contains(false) { batch.keepSeries(keep) }
        return batch
    }

    private func labels(_ given: Labels) -> [UInt8]? {
        var builder = LabelsBuilder(given)
        for label in configuration.externalLabels where builder[label.name] == nil { builder.set(label.name, label.value) }
        guard configuration.relabeling.apply(to: &builder) else { return nil }
        let labels = builder.labels()
        return labels.isEmpty ? nil : labels.bytes
    }
}
