// Functions of windows that hold histograms, or numbers and histograms, or start timestamps. Where numbers and histograms do not go together there is no answer
// but a warning. Sums and differences of histograms are those of `FloatHistogram`; that counting began anew, a histogram's buckets tell.
internal import ObsCore

extension Window {
    var isMixed: Bool { !values.isEmpty && !histograms.isEmpty }
}

// MARK: first and last

func firstOf(_ window: Window) -> (timeMillis: Int64, value: StepValue) {
    guard let point = window.histograms.first else { return (window.times[0], .number(window.values[0])) }
    if let time = window.times.first, time < point.timeMillis { return (time, .number(window.values[0])) }
    return (point.timeMillis, .histogram(point.histogram))
}

func lastOf(_ window: Window) -> (timeMillis: Int64, value: StepValue) {
    guard let point = window.histograms.last else { return (window.times[window.count - 1], .number(window.values[window.count - 1])) }
    if let time = window.times.last, time > point.timeMillis { return (time, .number(window.values[window.count - 1])) }
    return (point.timeMillis, .histogram(point.histogram))
}

// MARK: sum and mean

/// Notes what came up while histograms of one window, or of one group, were added.
struct BlendNotes {
    private var sawReset = false
    private var sawNoReset = false
    private var boundsDiffered = false

    mutating func look(at histogram: FloatHistogram) {
        if histogram.reset == .reset { sawReset = true }
        if histogram.reset == .noReset { sawNoReset = true }
    }

    mutating func look(at blend: FloatHistogram.Blend) { if blend.boundsDiffered { boundsDiffered = true } }

    var annotations: [Annotation] {
        (sawReset && sawNoReset ? [.resetsCollide(.aggregation)] : []) + (boundsDiffered ? [.boundsDiffered(.aggregation)] : [])
    }
}

func sumOverTime(_ window: Window, _ notes: inout WindowNotes) -> StepValue {
    if window.isMixed { return refuseMix(&notes) }
    guard let first = window.histograms.first?.histogram else { return .number(sum(window.values)) }
    var total = HistogramSum(first)
    var blends = BlendNotes()
    blends.look(at: first)
    for point in window.histograms.dropFirst() {
        blends.look(at: point.histogram)
        guard let blend = total.add(point.histogram) else { return refuseBounds(&notes) }
        blends.look(at: blend)
    }
    for annotation in blends.annotations { notes.note(annotation) }
    return .histogram(total.total)
}

func meanOverTime(_ window: Window, _ notes: inout WindowNotes) -> StepValue {
    if window.isMixed { return refuseMix(&notes) }
    guard let first = window.histograms.first?.histogram else { return .number(mean(window.values)) }
    var average = HistogramMean(first)
    var blends = BlendNotes()
    blends.look(at: first)
    for point in window.histograms.dropFirst() {
        blends.look(at: point.histogram)
        guard let blend = average.add(point.histogram) else { return refuseBounds(&notes) }
        blends.look(at: blend)
    }
    for annotation in blends.annotations { notes.note(annotation) }
    return .histogram(average.mean)
}

func refuseMix(_ notes: inout WindowNotes) -> StepValue {
    notes.note(.mixedSamples(metric: notes.metric))
    return .nothing
}

func refuseBounds(_ notes: inout WindowNotes) -> StepValue {
    notes.note(.mixedBounds(metric: notes.metric))
    return .nothing
}

// MARK: rates

func extrapolatedMixed(_ window: Window, _ notes: inout WindowNotes, isCounter: Bool, isRate: Bool) -> StepValue {
    if window.isMixed { return refuseMix(&notes) }
    return window.histograms.isEmpty
        ? extrapolatedNumbers(window, &notes, isCounter: isCounter, isRate: isRate)
        : extrapolatedHistograms(window, &notes, isCounter: isCounter, isRate: isRate)
}

/// Numbers that say since when they are counted: a start within the window stands for a sample of 0.
private func extrapolatedNumbers(_ window: Window, _ notes: inout WindowNotes, isCounter: Bool, isRate: Bool) -> StepValue {
    let (values, times) = (window.values, window.times)
    guard let first = values.first, let last = values.last else { return .nothing }
    var change = last - first
    var overlaps = false
    for index in values.indices.dropFirst() where isCounter {
        let before = sampleStart(window, index - 1)
        let now = sampleStart(window, index)
        if now.overlaps(before) { overlaps = true }
        if values[index] < values[index - 1] || now.isReset(after: before) { change += values[index - 1] }
    }
    if overlaps { notes.note(.startsOverlap(metric: notes.metric)) }
    var scale = Extrapolation(first: times[0], last: times[times.count - 1], count: times.count)
    if isCounter { scale.zeroMillis = sampleStart(window, 0).startWithin(window) }
    if scale.zeroMillis != nil { change += first } else if values.count < 2 { return .nothing }
    return .number(change * scale.factor(window.edges, isRate: isRate, counter: isCounter ? (first, change) : nil))
}

private func extrapolatedHistograms(_ window: Window, _ notes: inout WindowNotes, isCounter: Bool, isRate: Bool) -> StepValue {
    let points = window.histograms
    guard let first = points.first, let last = points.last else { return .nothing }
    var change: FloatHistogram?
    if points.count > 1 {
        guard let increase = increase(points, &notes, isCounter: isCounter) else { return .nothing }
        change = increase
    }
    var scale = Extrapolation(first: first.timeMillis, last: last.timeMillis, count: points.count)
    if isCounter { scale.zeroMillis = SampleStart(first).startWithin(window) }
    if scale.zeroMillis != nil {
        guard add(first.histogram, to: &change, &notes) else { return .nothing }
    }
    guard var change else { return .nothing }
    let counter = isCounter ? (first.histogram.count, change.count) : nil
    change.multiply(by: scale.factor(window.edges, isRate: isRate, counter: counter))
    return .histogram(change)
}

private func add(_ histogram: FloatHistogram, to sum: inout FloatHistogram?, _ notes: inout WindowNotes) -> Bool {
    guard sum != nil else {
        sum = histogram
        return true
    }
    guard let blend = sum?.combine(histogram, sign: 1) else {
        notes.note(.mixedBounds(metric: notes.metric))
        return false
    }
    if blend.boundsDiffered { notes.note(.boundsDiffered(.addition)) }
    return true
}

/// Change from first to last histogram, with what was counted before each new start.
private func increase(_ points: UnsafeBufferPointer<HistogramPoint>, _ notes: inout WindowNotes, isCounter: Bool) -> FloatHistogram? {
    var previous = points[0].histogram
    let last = points[points.count - 1].histogram
    if isCounter, points.contains(where: { $0.histogram.reset == .gauge }) { notes.note(.notCounter(metric: notes.metric)) }
    if isCounter {
        // After a new start the first sample does not count, and need not fit the others.
        let second = points[1].histogram
        if SampleStart(points[1]).isReset(after: SampleStart(points[0])) || second.isReset(after: previous) {
            previous = FloatHistogram(schema: second.schema, bounds: second.bounds)
        }
    }
    let middle = points.dropFirst().dropLast()
    let compared = isCounter ? middle.map(\.histogram) + [last] : [last]
    guard compared.allSatisfy(previous.isCompatible(with:)) else {
        notes.note(.mixedBounds(metric: notes.metric))
        return nil
    }
    var change = last
    if isCounter, let lowest = compared.map(\.schema).min(), !change.hasCustomBounds { change.reduce(toSchema: lowest) }
    if let blend = change.combine(previous, sign: -1), blend.boundsDiffered { notes.note(.boundsDiffered(.subtraction)) }
    if isCounter {
        var overlaps = false
        for index in points.indices.dropFirst() {
            let (before, now) = (SampleStart(points[index - 1]), SampleStart(points[index]))
            if now.overlaps(before) { overlaps = true }
            if now.isReset(after: before) || points[index].histogram.isReset(after: previous) {
                if let blend = change.combine(previous, sign: 1), blend.boundsDiffered { notes.note(.boundsDiffered(.addition)) }
            }
            previous = points[index].histogram
        }
        if overlaps { notes.note(.startsOverlap(metric: notes.metric)) }
    } else if points[0].histogram.reset != .gauge || last.reset != .gauge {
        notes.note(.notGauge(metric: notes.metric))
    }
    change.reset = .gauge
    return change.compacted()
}

/// Change between the last two samples.
func instantChangeMixed(_ window: Window, _ notes: inout WindowNotes, isRate: Bool) -> StepValue {
    guard window.count + window.histograms.count > 1 else { return .nothing }
    let (before, now) = lastTwo(window)
    let interval = now.timeMillis - before.timeMillis
    guard interval != 0 else { return .nothing }
    let seconds = Double(interval) / 1000
    switch (before.value, now.value) {
    case (.number(let old), .number(let new)):
        let began = isRate && (new < old || now.start.isReset(after: before.start))
        let change = began ? new : new - old
        return .number(isRate ? change / seconds : change)
    case (.histogram(let old), .histogram(let new)):
        if isRate, old.reset == .gauge || new.reset == .gauge { notes.note(.notCounter(metric: notes.metric)) }
        if !isRate, old.reset != .gauge || new.reset != .gauge { notes.note(.notGauge(metric: notes.metric)) }
        var change = new
        if !isRate || !(now.start.isReset(after: before.start) || new.isReset(after: old)) {
            guard let blend = change.combine(old, sign: -1) else { return refuseBounds(&notes) }
            if blend.boundsDiffered { notes.note(.boundsDiffered(.subtraction)) }
        }
        change.reset = .gauge
        change.compact()
        if isRate { change.divide(by: seconds) }
        return .histogram(change)
    default: return refuseMix(&notes)
    }
}

// MARK: samples one after the other

private struct WindowSample {
    var timeMillis: Int64
    var start: SampleStart
    var value: StepValue
}

private func sampleStart(_ window: Window, _ index: Int) -> SampleStart {
    SampleStart(timeMillis: window.times[index], startMillis: window.starts.isEmpty ? 0 : window.starts[index])
}

/// Numbers and histograms of a window in the order of time.
private func forEachSample(_ window: Window, _ body: (WindowSample) -> Void) {
    var (number, point) = (0, 0)
    while number < window.count || point < window.histograms.count {
        if point == window.histograms.count || (number < window.count && window.times[number] < window.histograms[point].timeMillis) {
            body(WindowSample(timeMillis: window.times[number], start: sampleStart(window, number), value: .number(window.values[number])))
            number += 1
        } else {
            let next = window.histograms[point]
            body(WindowSample(timeMillis: next.timeMillis, start: SampleStart(next), value: .histogram(next.histogram)))
            point += 1
        }
    }
}

private func lastTwo(_ window: Window) -> (WindowSample, WindowSample) {
    let numbers = window.values.indices.suffix(2).map {
        WindowSample(timeMillis: window.times[$0], start: sampleStart(window, $0), value: .number(window.values[$0]))
    }
    let points = window.histograms.suffix(2).map { WindowSample(timeMillis: $0.timeMillis, start: SampleStart($0), value: .histogram($0.histogram)) }
    let samples = (numbers + points).sorted { $0.timeMillis < $1.timeMillis }
    return (samples[samples.count - 2], samples[samples.count - 1])
}

/// What `resets` and `changes` count.
enum Transition {
    case reset, change

    fileprivate func counts(_ before: WindowSample, _ now: WindowSample) -> Bool {
        switch (before.value, now.value) {
        case (.number(let old), .number(let new)):
            return self == .reset ? new < old || now.start.isReset(after: before.start) : old != new && !(old.isNaN && new.isNaN)
        case (.histogram(let old), .histogram(let new)):
            return self == .reset ? now.start.isReset(after: before.start) || new.isReset(after: old) : new != old
        default: return true
        }
    }
}

func countTransitions(_ window: Window, _ kind: Transition) -> StepValue {
    var count = 0
    var previous: WindowSample?
    forEachSample(window) { sample in
        if let previous, kind.counts(previous, sample) { count += 1 }
        previous = sample
    }
    return .number(Double(count))
}

/// The same from the last sample at or before the window's left edge on.
func countTransitionsFromAnchor(_ window: Window, _ kind: Transition) -> StepValue {
    var count = 0
    var previous: WindowSample?
    var isInside = false
    forEachSample(window) { sample in
        if sample.timeMillis > window.start {
            isInside = true
            if let previous, kind.counts(previous, sample) { count += 1 }
        }
        previous = sample
    }
    return isInside ? .number(Double(count)) : .nothing
}

// MARK: start timestamps

/// When a sample was taken, and since when it counts.
struct SampleStart {
    var timeMillis: Int64
    /// 0 where unknown.
    var startMillis: Int64

    init(timeMillis: Int64, startMillis: Int64) {
        self.timeMillis = timeMillis
        self.startMillis = startMillis
    }

    init(_ point: HistogramPoint) { self.init(timeMillis: point.timeMillis, startMillis: point.startMillis) }

    /// Whether it counts since after another sample, or since that sample, where that one knew its own start. (OpenTelemetry writes a start equal to the time
    /// where it is unknown.)
    func isReset(after before: SampleStart) -> Bool {
        if startMillis == 0 || startMillis >= timeMillis || startMillis < before.timeMillis { return false }
        if startMillis > before.timeMillis { return true }
        return before.startMillis < before.timeMillis && before.startMillis != 0
    }

    /// Whether it counts since before another sample, but not since that one's start.
    func overlaps(_ before: SampleStart) -> Bool { startMillis != 0 && startMillis < before.timeMillis && startMillis != before.startMillis }

    /// Its start, if that lies in a window and before the sample.
    func startWithin(_ window: Window) -> Int64? {
        startMillis != 0 && startMillis > window.start && startMillis < timeMillis ? startMillis : nil
    }
}
