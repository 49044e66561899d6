import Foundation
import ObsCore
import ObsPromQL
import ObsStore
import ObsTestSupport

/// A store, an engine, and the judgement whether a case holds.
final class PromQLTestRunner {
    private let store = InMemoryStore()
    private let engine: PromQLEngine
    private var loaded: [Labels: [Int64: LoadedSample]] = [:]
    private(set) var evaluations = 0

    private struct LoadedSample {
        var startMillis: Int64 = 0
        var value: PromQLTestFile.Value
    }

    /// - Parameter threads: that help each query.
    init(removesNamesLate: Bool = false, threads: Int = 0) {
        var options = PromQLOptions.experimental
        options.hasTypeAndUnitLabels = false
        options.removesNamesLate = removesNamesLate
        engine = PromQLEngine(reader: store, options: options, threads: threads)
    }

    // MARK: samples

    func clear() {
        store.clear()
        loaded = [:]
    }

    func load(_ series: [PromQLTestFile.Series], withHistograms: Bool = false) throws {
        // Of a series given twice the last counts.
        let given = Dictionary(series.map { ($0.labels, $0) }, uniquingKeysWith: { $1 })
        var samples: [Labels: [Int64: LoadedSample]] = [:]
        for one in given.values {
            for (index, value) in one.values.enumerated() {
                guard let value else { continue }
                let time = Int64(index) * one.stepMillis
                let offset = index < one.startOffsetsMillis.count ? one.startOffsetsMillis[index] : nil
                samples[one.labels, default: [:]][time] = LoadedSample(startMillis: offset.map { time + $0 } ?? 0, value: value)
            }
        }
        if withHistograms {
            for (labels, converted) in try histogramsOfBuckets(samples) { samples[labels, default: [:]].merge(converted) { $1 } }
        }
        for (labels, added) in samples { loaded[labels, default: [:]].merge(added) { known, _ in known } }
        store.clear()
        _ = try store.appendAndWait(batch(), origin: WriteOrigin(tenant: .default, receivedAtNanos: 0))
    }

    private func batch() -> MetricBatch {
        var batch = MetricBatch()
        for (labels, samples) in loaded {
            var last: FloatHistogram?
            for (time, sample) in samples.sorted(by: { $0.key < $1.key }) {
                switch sample.value {
                case .number(let value):
                    batch.append(labels, timeMillis: time, value: value)
                    if sample.startMillis != 0 { batch.setStarts(sample.startMillis, from: batch.timesMillis.count - 1) }
                    last = nil
                case .histogram(var histogram, _):
                    histogram.reset = storedReset(histogram, after: last)
                    last = histogram
                    var row = HistogramColumns()
                    row.append(histogram, timeMillis: time, startMillis: sample.startMillis)
                    batch.append(labels, row, row: 0)
                }
            }
        }
        // Of those that say nothing it is not known.
        if !batch.startsMillis.isEmpty { batch.startsMillis += [Int64](repeating: 0, count: batch.timesMillis.count - batch.startsMillis.count) }
        return batch
    }

    /// What Prometheus' storage says of a histogram: it keeps runs of histograms in which counting went on, and knows nothing of the first of a run.
    private func storedReset(_ histogram: FloatHistogram, after last: FloatHistogram?) -> CounterReset {
        if histogram.reset == .gauge { return .gauge }
        guard histogram.reset != .reset, let last, last.reset != .gauge else { return .unknown }
        let sameLayout = last.schema == histogram.schema && last.zeroThreshold == histogram.zeroThreshold && last.bounds == histogram.bounds
        guard sameLayout, histogram.count >= last.count, histogram.zeroCount >= last.zeroCount else { return .unknown }
        let goesOn = !isLess(histogram.positive, last.positive) && !isLess(histogram.negative, last.negative)
        return goesOn ? .noReset : .unknown
    }

    private func isLess(_ now: BucketCounts, _ before: BucketCounts) -> Bool {
        let counts = Dictionary(uniqueKeysWithValues: zip(now.indices, now.counts))
        return zip(before.indices, before.counts).contains { index, count in counts[index].map { $0 < count } ?? (count != 0) }
    }

    /// Native histograms with the bounds of classic ones.
    private func histogramsOfBuckets(_ samples: [Labels: [Int64: LoadedSample]]) throws -> [Labels: [Int64: LoadedSample]] {
        struct Classic {
            var buckets: [Double: Double] = [:]
            var count: Double?
            var sum = 0.0
        }
        var classic: [Labels: [Int64: Classic]] = [:]
        for (labels, values) in samples {
            let name = labels["__name__"] ?? ""
            guard let suffix = ["_bucket", "_count", "_sum"].first(where: name.hasSuffix) else { continue }
            let bound = suffix == "_bucket" ? bound(labels["le"] ?? "") : 0
            guard let bound else { continue }
            var builder = LabelsBuilder(labels)
            builder.set("__name__", String(name.dropLast(suffix.count)))
            builder.remove("le")
            for (time, sample) in values {
                guard case .number(let value) = sample.value else { continue }
                var one = classic[builder.labels()]?[time] ?? Classic()
                switch suffix {
                case "_bucket": one.buckets[bound] = value
                case "_count": one.count = value
                default: one.sum = value
                }
                classic[builder.labels(), default: [:]][time] = one
            }
        }
        return classic.mapValues { rows in
            rows.mapValues { one in
                var buckets = one.buckets.sorted { $0.key < $1.key }
                let count = one.count ?? buckets.last?.value ?? 0
                if buckets.last?.key != .infinity { buckets.append((.infinity, count)) }
                var histogram = FloatHistogram(schema: HistogramLayout.customSchema, count: count, sum: one.sum)
                histogram.bounds = buckets.map(\.key).filter { $0 != .infinity }
                let counts = buckets.enumerated().map { $0.offset == 0 ? $0.element.value : $0.element.value - buckets[$0.offset - 1].value }
                histogram.positive = BucketCounts(offset: 0, counts: counts)
                histogram.compact()
                return LoadedSample(value: .histogram(histogram, tellsReset: false))
            }
        }
    }

    private func bound(_ text: String) -> Double? {
        ["+Inf", "Inf", "inf"].contains(text) ? .infinity : Double(text)
    }

    // MARK: judgement

    /// What is wrong with a case; nil when it holds.
    func problem(of evaluation: PromQLTestFile.Evaluation) -> String? {
        evaluations += 1
        let expression: ObsPromQL.Expression
        do throws(ObsError) { expression = try engine.parse(evaluation.expression) } catch {
            return failureProblem(evaluation, error)
        }
        if let problem = problem(of: evaluation, expression, at: evaluation.startMillis) { return problem }
        guard evaluation.stepMillis == 0, evaluation.fails == nil else { return nil }
        // The same query pinned to its time gives the same at any other.
        guard let pinned = expression.pinned(toMillis: evaluation.startMillis) else { return nil }
        for time in [-10 * evaluation.startMillis, 0, evaluation.startMillis / 5, 10 * evaluation.startMillis + 1000] {
            if let problem = problem(of: evaluation, pinned, at: time) { return "pinned by @, asked at \(time): \(problem)" }
        }
        return nil
    }

    private func problem(of evaluation: PromQLTestFile.Evaluation, _ expression: ObsPromQL.Expression, at time: Int64) -> String? {
        let result: PromQLResult
        do throws(ObsError) { result = try evaluate(evaluation, expression, at: time) } catch {
            return failureProblem(evaluation, error)
        }
        if evaluation.fails != nil { return "did not fail but gave \(result.value)" }
        if let problem = annotationProblem(evaluation, result) { return problem }
        if let problem = valueProblem(evaluation, result.value) { return problem }
        return evaluation.stepMillis == 0 ? rangeProblem(evaluation, expression, at: time, result.value) : nil
    }

    private func failureProblem(_ evaluation: PromQLTestFile.Evaluation, _ error: ObsError) -> String? {
        guard let wanted = evaluation.fails else { return "failed: \(error.message)" }
        return matches(wanted, error.message) ? nil : "failed with \(error.message)"
    }

    private func evaluate(_ evaluation: PromQLTestFile.Evaluation, _ expression: ObsPromQL.Expression, at time: Int64) throws(ObsError) -> PromQLResult {
        let context = QueryContext(tenant: .default)
        if evaluation.stepMillis == 0 { return try engine.instant(expression, atMillis: time, context: context) }
        return try engine.range(
            expression, startMillis: evaluation.startMillis, endMillis: evaluation.endMillis, stepMillis: evaluation.stepMillis, context: context)
    }

    /// An instant query must equal the middle step of a range query around it.
    private func rangeProblem(_ evaluation: PromQLTestFile.Evaluation, _ expression: ObsPromQL.Expression, at: Int64, _ value: PromQLValue) -> String? {
        // What depends on the query's own bounds rightly differs.
        if ["step()", "range()", "start()", "end()"].contains(where: evaluation.expression.lowercased().contains) { return nil }
        let wanted: [VectorSample]
        switch value {
        case .vector(let samples): wanted = samples
        case .scalar(let time, let value): wanted = [VectorSample(labels: .empty, timeMillis: time, value: value)]
        case .string, .matrix: return nil
        }
        do {
            let context = QueryContext(tenant: .default)
            let range = try engine.range(expression, startMillis: at - 60_000, endMillis: at + 60_000, stepMillis: 60_000, context: context)
            guard case .matrix(let matrix) = range.value else { return "range query gave no matrix" }
            let found = matrix.compactMap { sample(of: $0, at: at) }
            let same = found.count == wanted.count && wanted.allSatisfy { sample in found.contains { $0.labels == sample.labels && isAlmost($0, sample) } }
            return same ? nil : "as a range query gave \(show(found))"
        } catch {
            // A neighbouring step may clash where this one does not.
            return nil
        }
    }

    private func sample(of series: SeriesSamples, at time: Int64) -> VectorSample? {
        if let index = series.timesMillis.firstIndex(of: time) {
            return VectorSample(labels: series.labels, timeMillis: time, value: series.values[index])
        }
        guard let columns = series.histograms, let row = columns.timesMillis.firstIndex(of: time) else { return nil }
        var decoder = HistogramDecoder(columns)
        return VectorSample(labels: series.labels, timeMillis: time, value: .nan, histogram: decoder.histogram(row))
    }

    private func annotationProblem(_ evaluation: PromQLTestFile.Evaluation, _ result: PromQLResult) -> String? {
        if evaluation.noWarnings, !result.warnings.isEmpty { return "warned \(result.warnings)" }
        if evaluation.noInfos, !result.infos.isEmpty { return "informed \(result.infos)" }
        return annotationProblem("warning", evaluation.warns, result.warnings) ?? annotationProblem("info", evaluation.informs, result.infos)
    }

    /// Where any is expected, all must be.
    private func annotationProblem(_ kind: String, _ wanted: [PromQLTestFile.Text], _ found: [String]) -> String? {
        if wanted.isEmpty { return nil }
        for text in wanted where !found.contains(where: { matches(text, $0) }) { return "no such \(kind) in \(found)" }
        for text in found where !wanted.contains(where: { matches($0, text) }) { return "unexpected \(kind) \(text)" }
        return nil
    }

    private func valueProblem(_ evaluation: PromQLTestFile.Evaluation, _ value: PromQLValue) -> String? {
        switch value {
        case .string(_, let text): return evaluation.string == text ? nil : "gave string \(text)"
        case .scalar(_, let number):
            guard let wanted = evaluation.scalar else { return "gave scalar \(number)" }
            return isAlmost(wanted, number) ? nil : "gave \(number), expected \(wanted)"
        case .vector(let samples): return vectorProblem(evaluation, samples)
        case .matrix(let series): return matrixProblem(evaluation, series)
        }
    }

    private func vectorProblem(_ evaluation: PromQLTestFile.Evaluation, _ samples: [VectorSample]) -> String? {
        if evaluation.scalar != nil || evaluation.string != nil { return "gave a vector" }
        let wanted = evaluation.series.map { ($0.labels, ($0.values.first ?? nil) ?? .number(.nan)) }
        guard wanted.count == samples.count else { return "gave \(samples.count) samples, expected \(wanted.count): \(show(samples))" }
        for (place, (labels, value)) in wanted.enumerated() {
            guard let index = samples.firstIndex(where: { $0.labels == labels }) else { return "has no \(labels) in \(show(samples))" }
            if evaluation.ordered, index != place { return "is not in order: \(show(samples))" }
            if !isAlmost(samples[index], value) { return "gave \(show([samples[index]])), expected \(value)" }
        }
        return nil
    }

    private func matrixProblem(_ evaluation: PromQLTestFile.Evaluation, _ matrix: [SeriesSamples]) -> String? {
        let start = evaluation.matrix?.startMillis ?? evaluation.startMillis
        let step = evaluation.matrix?.stepMillis ?? evaluation.stepMillis
        if let scalar = evaluation.scalar { return matrix.allSatisfy { $0.values.allSatisfy { isAlmost($0, scalar) } } ? nil : "gave other scalars" }
        let wanted = evaluation.series.filter { $0.values.contains { $0 != nil } }
        let shown = matrix.map { "\($0.labels) \($0.timesMillis) \($0.values) \($0.histograms?.timesMillis ?? [])" }.joined(separator: "; ")
        guard wanted.count == matrix.count else { return "gave \(matrix.count) series, expected \(wanted.count): \(shown)" }
        for series in wanted {
            guard let found = matrix.first(where: { $0.labels == series.labels }) else { return "has no \(series.labels) in \(shown)" }
            let points = series.values.enumerated().compactMap { index, value in value.map { (start + Int64(index) * step, $0) } }
            guard points.count == found.values.count + (found.histograms?.count ?? 0) else { return "differs for \(series.labels): \(shown)" }
            for (time, value) in points {
                guard let sample = sample(of: found, at: time) else { return "has nothing at \(time) for \(series.labels): \(shown)" }
                if !isAlmost(sample, value) { return "gave \(show([sample])) at \(time), expected \(value)" }
            }
        }
        return nil
    }

    private func show(_ samples: [VectorSample]) -> String {
        samples.map { sample in
            let histogram = sample.histogram.map { "\($0) schema \($0.schema) bounds \($0.bounds) zero \($0.zeroThreshold) \($0.reset)" }
            return "\(sample.labels) \(histogram ?? String(sample.value))"
        }.joined(separator: "; ")
    }

    private func matches(_ wanted: PromQLTestFile.Text, _ text: String) -> Bool {
        switch wanted {
        case .any: true
        case .exact(let exact): text == exact
        case .pattern(let pattern): text.range(of: pattern, options: .regularExpression) != nil
        }
    }

    // MARK: almost equal

    private func isAlmost(_ sample: VectorSample, _ wanted: PromQLTestFile.Value) -> Bool {
        switch (sample.histogram, wanted) {
        case (nil, .number(let value)): isAlmost(sample.value, value)
        case (let histogram?, .histogram(let wanted, let tellsReset)):
            isAlmost(histogram, wanted) && (!tellsReset || histogram.reset == wanted.reset)
        default: false
        }
    }

    private func isAlmost(_ a: VectorSample, _ b: VectorSample) -> Bool {
        if let first = a.histogram, let second = b.histogram { return isAlmost(first, second) }
        return a.histogram == nil && b.histogram == nil && isAlmost(a.value, b.value)
    }

    private func isAlmost(_ first: FloatHistogram, _ second: FloatHistogram) -> Bool {
        let (a, b) = (first.compacted(), second.compacted())
        return a.schema == b.schema && a.zeroThreshold == b.zeroThreshold && a.bounds == b.bounds && isAlmost(a.count, b.count) && isAlmost(a.sum, b.sum)
            && isAlmost(a.zeroCount, b.zeroCount) && isAlmost(a.positive, b.positive) && isAlmost(a.negative, b.negative)
    }

    private func isAlmost(_ a: BucketCounts, _ b: BucketCounts) -> Bool {
        a.indices == b.indices && zip(a.counts, b.counts).allSatisfy { isAlmost($0, $1) }
    }

    private func isAlmost(_ a: Double, _ b: Double) -> Bool {
        if a == b || (a.isNaN && b.isNaN) { return true }
        let difference = abs(a - b)
        if a == 0 || b == 0 { return difference < 1e-12 }
        return difference / (abs(a) + abs(b)) < 1e-6
    }
}

extension ObsPromQL.Expression {
    private func pinned(_ at: AtModifier?, _ time: Int64) -> AtModifier {
        if case .time = at { return at ?? .time(millis: time) }
        return .time(millis: time)
    }

    /// The expression with every selector and subquery that says no time set to one; nil where its value depends on the time all the same.
    fileprivate func pinned(toMillis time: Int64) -> ObsPromQL.Expression? {
        switch self {
        case .number, .string: return self
        case .selector(var node):
            node.at = pinned(node.at, time)
            return .selector(node)
        case .range(var node):
            node.selector.at = pinned(node.selector.at, time)
            return .range(node)
        case .subquery(var node):
            // What is within it follows from where it stands.
            node.at = pinned(node.at, time)
            return .subquery(node)
        case .call(var node):
            let varies = [
                "time", "timestamp", "start", "end", "step", "range", "predict_linear", "minute", "hour", "day_of_week", "day_of_month", "day_of_year",
                "days_in_month", "month", "year",
            ]
            if varies.contains(node.function.name) { return nil }
            let arguments = node.arguments.compactMap { $0.pinned(toMillis: time) }
            guard arguments.count == node.arguments.count else { return nil }
            // The selector of labels is none of samples.
            node.arguments = node.function.name == "info" ? Array(arguments.prefix(1) + node.arguments.dropFirst()) : arguments
            return .call(node)
        case .aggregation(var node):
            guard let inner = node.expression.pinned(toMillis: time) else { return nil }
            node.expression = inner
            if let parameter = node.parameter {
                guard let pinned = parameter.pinned(toMillis: time) else { return nil }
                node.parameter = pinned
            }
            return .aggregation(node)
        case .binary(var node):
            guard let left = node.left.pinned(toMillis: time), let right = node.right.pinned(toMillis: time) else { return nil }
            (node.left, node.right) = (left, right)
            return .binary(node)
        case .unary(var node):
            guard let operand = node.operand.pinned(toMillis: time) else { return nil }
            node.operand = operand
            return .unary(node)
        case .parentheses(let inner, let position): return inner.pinned(toMillis: time).map { .parentheses($0, position) }
        }
    }
}
