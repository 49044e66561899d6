// Increments of senders that report "since my last report", added up to the running totals Prometheus' functions expect; as the OpenTelemetry collector's
// delta-to-cumulative does. The totals live in memory: after a restart a series begins at its first increment again, which readers see as a counter reset.
package import ObsCore
internal import ObsHash
package import ObsWire
internal import Synchronization

package final class DeltaToCumulative: Sendable {
    private struct Series {
        /// End of the interval added last.
        var timeMillis: Int64
        /// Begin of the first interval added; 0 unknown.
        var startMillis: Int64
        var sum: Double
        /// Monotonic, when last touched.
        var touchedNanos: Int64
    }

    private struct Histogram {
        var timeMillis: Int64
        var startMillis: Int64
        var sum: HistogramSum
        var touchedNanos: Int64
    }

    private struct State {
        var series: [Key: Series] = [:]
        var histograms: [Key: Histogram] = [:]
        var sweptNanos: Int64 = 0
    }

    private struct Key: Hashable {
        var tenant: TenantID
        var labels: Hash128
    }

    private let state = Mutex(State())
    private let hashKey = UInt64.random(in: .min ... .max)
    private let seriesMax: Int
    private let idleNanos: Int64

    /// - Parameters:
    ///   - seriesMax: series remembered at once; increments of more are refused.
    ///   - idleMillis: after this a series is forgotten; longer than any sender's interval.
    package init(seriesMax: Int = 1_000_000, idleMillis: Int64 = 60 * 60_000) {
        self.seriesMax = seriesMax
        idleNanos = idleMillis * nanosPerMilli
    }

    /// Adds the points up, in their order, and appends samples of the totals to `batch`. Gives back what was refused: points out of order, and new series past the bound.
    package func add(_ points: DeltaPoints, tenant: TenantID, to batch: inout MetricBatch, monotonicNanos now: Int64) -> (rejected: Int, reason: String?) {
        var rejected = 0
        var reason: String?
        var outputs = [UInt32?](repeating: nil, count: points.count)
        state.withLock { state in
            sweep(&state, now)
            for index in 0..<points.count {
                do throws(ObsError) {
                    let (total, start) = try total(points, index, tenant, &state, now)
                    outputs[index] = UInt32(batch.series.count)
                    batch.series.append(
                        MetricBatch.Series(
                            labels: batch.bytes.intern(points.bytes[points.labels[index].range]), firstSample: UInt32(batch.timesMillis.count), sampleCount: 1))
                    batch.timesMillis.append(points.timesMillis[index])
                    batch.values.append(total)
                    if start != 0 { batch.setStarts(start, from: batch.values.count - 1) }
                } catch {
                    rejected += 1
                    if reason == nil { reason = error.message }
                }
            }
        }
        for exemplar in points.exemplars {
            guard let series = outputs[Int(exemplar.series)] else { continue }
            batch.exemplars.append(
                MetricBatch.Exemplar(
                    series: series, labels: batch.bytes.intern(points.bytes[exemplar.labels.range]), value: exemplar.value, timeMillis: exemplar.timeMillis))
        }
        addHistograms(points, tenant, &batch, now) { error in
            rejected += 1
            if reason == nil { reason = error.message }
        }
        batch.setStarts(0, from: batch.timesMillis.count)
        return (rejected, reason)
    }

    private func addHistograms(_ points: DeltaPoints, _ tenant: TenantID, _ batch: inout MetricBatch, _ now: Int64, _ refuse: (ObsError) -> Void) {
        var outputs = [UInt32?](repeating: nil, count: points.histograms.count)
        state.withLock { state in
            for row in 0..<points.histograms.count {
                do throws(ObsError) {
                    try addHistogram(points, row, tenant, &state, &batch.histograms, now)
                    outputs[row] = UInt32(batch.series.count)
                    batch.histogramSeries.append(UInt32(batch.series.count))
                    batch.series.append(
                        MetricBatch.Series(
                            labels: batch.bytes.intern(points.bytes[points.histogramLabels[row].range]), firstSample: UInt32(batch.timesMillis.count),
                            sampleCount: 0))
                } catch {
                    refuse(error)
                }
            }
        }
        for exemplar in points.histogramExemplars {
            guard let series = outputs[Int(exemplar.series)] else { continue }
            batch.exemplars.append(
                MetricBatch.Exemplar(
                    series: series, labels: batch.bytes.intern(points.bytes[exemplar.labels.range]), value: exemplar.value, timeMillis: exemplar.timeMillis))
        }
    }

    private func addHistogram(
        _ points: DeltaPoints, _ row: Int, _ tenant: TenantID, _ state: inout State, _ output: inout HistogramColumns, _ now: Int64
    ) throws(ObsError) {
        let columns = points.histograms
        let key = key(points, points.histogramLabels[row], tenant)
        let time = columns.timesMillis[row]
        let start = columns.startsMillis[row]
        guard var known = state.histograms[key] else {
            try hasRoom(state)
            let sum = HistogramSum(columns, row: row)
            sum.append(to: &output, timeMillis: time, startMillis: start)
            state.histograms[key] = Histogram(timeMillis: time, startMillis: start, sum: sum, touchedNanos: now)
            return
        }
        guard time > known.timeMillis else {
            throw ObsError(
                .badInput,
                "delta point at \(time) ms of \(Labels(canonical: Array(points.bytes[points.histogramLabels[row].range]))) is not later than the one before (\(known.timeMillis) ms)"
            )
        }
        if start != 0 && start < known.timeMillis || !known.sum.add(columns, row: row) {
            known.sum = HistogramSum(columns, row: row)
            known.startMillis = start
        }
        known.timeMillis = time
        known.touchedNanos = now
        known.sum.append(to: &output, timeMillis: time, startMillis: known.startMillis)
        state.histograms[key] = known
    }

    private func key(_ points: DeltaPoints, _ labels: ByteRange, _ tenant: TenantID) -> Key {
        Key(tenant: tenant, labels: points.bytes.withUnsafeBytes { hash128(UnsafeRawBufferPointer(rebasing: $0[labels.range]), key: hashKey) })
    }

    private func hasRoom(_ state: State) throws(ObsError) {
        guard state.series.count + state.histograms.count < seriesMax else {
            throw ObsError(.limitExceeded, "more than \(seriesMax) series of delta temporality (ingest.delta-series-max)")
        }
    }

    private func total(_ points: DeltaPoints, _ index: Int, _ tenant: TenantID, _ state: inout State, _ now: Int64) throws(ObsError) -> (
        total: Double, startMillis: Int64
    ) {
        let key = key(points, points.labels[index], tenant)
        let start = points.startsMillis[index]
        let time = points.timesMillis[index]
        let increment = points.increments[index]
        guard var series = state.series[key] else {
            try hasRoom(state)
            state.series[key] = Series(timeMillis: time, startMillis: start, sum: increment, touchedNanos: now)
            return (increment, start)
        }
        guard time > series.timeMillis else {
            throw ObsError(
                .badInput, "delta point at \(time) ms of \(points.labels(ofPoint: index)) is not later than the one before (\(series.timeMillis) ms)")
        }
        // An interval that begins before the last one ended was counted in part already: the sender started over, and so do we.
        if start != 0 && start < series.timeMillis {
            series.sum = increment
            series.startMillis = start
        } else {
            series.sum += increment
        }
        series.timeMillis = time
        series.touchedNanos = now
        state.series[key] = series
        return (series.sum, series.startMillis)
    }

    private func sweep(_ state: inout State, _ now: Int64) {
        guard now - state.sweptNanos > idleNanos / 4 else { return }
        state.sweptNanos = now
        state.series = state.series.filter { now - $0.value.touchedNanos <= idleNanos }
        state.histograms = state.histograms.filter { now - $0.value.touchedNanos <= idleNanos }
    }

    package var seriesCount: Int { state.withLock { $0.series.count + $0.histograms.count } }
}
