package import ObsCore
package import ObsRegex

/// Which log records a scan is to give. What is said here the scan knows before it reads: blocks are left out by it, and columns are not decoded.
package struct LogSelection: Sendable {
    package enum Direction: Sendable { case forward, backward }

    /// All must hold on the stream labels.
    package var matchers: [LabelMatcher]
    package var startNanos: Int64
    /// Exclusive.
    package var endNanos: Int64
    package var direction: Direction
    /// All must hold on the line as it is stored. The scan applies them exactly.
    package var lines: [LineFilter]
    /// All must hold on the fields of the line or of the attributes. The scan applies them exactly.
    package var fields: [FieldFilter]
    /// What the sink looks at; the rest may come as defaults. Stream, time, flags and arrival always come.
    package var columns: LogColumns
    /// How many rows the sink means to keep: a block's are handed out in portions of as many, the wanted end first. Nil: all at once.
    package var limit: Int?

    package init(
        matchers: [LabelMatcher], startNanos: Int64, endNanos: Int64, direction: Direction = .backward, lines: [LineFilter] = [],
        fields: [FieldFilter] = [], columns: LogColumns = .all, limit: Int? = nil
    ) {
        self.matchers = matchers
        self.startNanos = startNanos
        self.endNanos = endNanos
        self.direction = direction
        self.lines = lines
        self.fields = fields
        self.columns = columns
        self.limit = limit
    }
}

/// Columns of log records beside stream, time, flags and arrival.
package struct LogColumns: OptionSet, Sendable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    package static let severity = LogColumns(rawValue: 1)
    package static let line = LogColumns(rawValue: 2)
    package static let attributes = LogColumns(rawValue: 4)
    /// Trace and span id.
    package static let identifiers = LogColumns(rawValue: 8)
    package static let resource = LogColumns(rawValue: 16)
    package static let scope = LogColumns(rawValue: 32)
    package static let all: LogColumns = [.severity, .line, .attributes, .identifiers, .resource, .scope]
}

/// A condition on a line: one of the tests holds, or none does.
package struct LineFilter: Sendable {
    package enum Test: Sendable {
        /// The bytes occur; none occur always.
        case contains(ByteSearch)
        /// Anything else. Whatever it holds on contains, ignoring the case of ASCII letters, one of each set of literals (in lower case).
        case holds(@Sendable (UnsafeRawBufferPointer) -> Bool, literals: [[[UInt8]]])

        /// Some part of the line matches.
        package static func matches(_ regex: Regex) -> Test { .holds({ regex.matchesPart($0) }, literals: regex.literals) }
    }
    package var tests: [Test]
    package var isNegated: Bool

    package init(_ tests: [Test], isNegated: Bool = false) {
        self.tests = tests
        self.isNegated = isNegated
    }

    package init(contains text: String) { self.init([.contains(ByteSearch(Array(text.utf8)))]) }

    package func passes(_ line: UnsafeRawBufferPointer) -> Bool {
        for test in tests {
            switch test {
            case .contains(let search): if search.isIn(line) { return !isNegated }
            case .holds(let body, _): if body(line) { return !isNegated }
            }
        }
        return isNegated
    }
}

package protocol LogSink: AnyObject {
    /// Times still wanted. A sink that has its fill narrows it, and blocks outside are not read.
    var wantedNanos: Range<Int64> { get }
    /// `rows` are indices into the batch's row columns, all satisfying the selection, in ascending order.
    func consume(_ batch: LogBatch, rows: [Int]) throws(ObsError)
}

/// Buckets of equal width, one after the other: bucket i holds the times from `startNanos + i * widthNanos` on, up to the next.
package struct LogCountGrid: Sendable {
    package var startNanos: Int64
    /// 1 and up; 0 for one bucket that holds all times.
    package var widthNanos: Int64
    package var count: Int

    package init(startNanos: Int64, widthNanos: Int64, count: Int) {
        self.startNanos = startNanos
        self.widthNanos = widthNanos
        self.count = count
    }

    /// One bucket for all times.
    package static let whole = LogCountGrid(startNanos: .min, widthNanos: 0, count: 1)

    /// Nil before the first bucket and behind the last.
    package func bucket(_ timeNanos: Int64) -> Int? {
        if widthNanos == 0 { return 0 }
        let (distance, overflow) = timeNanos.subtractingReportingOverflow(startNanos)
        guard !overflow, distance >= 0 else { return nil }
        let bucket = distance / widthNanos
        return bucket < Int64(count) ? Int(bucket) : nil
    }
}

/// Records of one stream.
package struct LogCounts: Sendable, Equatable {
    package var labels: Labels
    /// In each bucket of the grid.
    package var counts: [Int]

    package init(labels: Labels, counts: [Int]) {
        self.labels = labels
        self.counts = counts
    }
}
