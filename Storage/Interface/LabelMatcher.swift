package import ObsCore
internal import ObsRegex

/// One label matcher of a selector. A label that is absent counts as "".
package struct LabelMatcher: Sendable {
    package enum Operation: Sendable {
        case equal, notEqual
        /// RE2, anchored at both ends.
        case matches, matchesNot
    }

    /// In deletions of logs a matcher of this name is on the line instead of a label: a pattern that some part of the line matches, or none does.
    package static let line = "__line__"

    package let name: String
    package let operation: Operation
    package let value: String
    private let regex: Regex?

    /// - Throws: `.badInput` for a pattern RE2 refuses.
    package init(_ name: String, _ operation: Operation, _ value: String) throws(ObsError) {
        self.name = name
        self.operation = operation
        self.value = value
        switch operation {
        case .matches, .matchesNot: regex = try Regex(value)
        case .equal, .notEqual: regex = nil
        }
    }

    /// An equality; cannot fail.
    package init(equal name: String, _ value: String) {
        self.name = name
        operation = .equal
        self.value = value
        regex = nil
    }

    package func matches(_ text: UnsafeRawBufferPointer) -> Bool {
        switch operation {
        case .equal: equalsValue(text)
        case .notEqual: !equalsValue(text)
        case .matches: regex?.matchesWhole(text) ?? false
        case .matchesNot: !(regex?.matchesWhole(text) ?? false)
        }
    }

    package func matches(_ text: String) -> Bool {
        var copy = text
        return copy.withUTF8 { matches(UnsafeRawBufferPointer($0)) }
    }

    package var matchesEmpty: Bool { matches("") }

    private func equalsValue(_ text: UnsafeRawBufferPointer) -> Bool {
        var copy = value
        return copy.withUTF8 { compareBytes(UnsafeRawBufferPointer($0), text) == 0 }
    }
}

extension [LabelMatcher] {
    /// Whether a canonical label set (see `Labels`) satisfies all matchers.
    package func match(_ labels: UnsafeRawBufferPointer) -> Bool {
        allSatisfy { matcher in
            var name = matcher.name
            return name.withUTF8 { wanted in
                let value = find(UnsafeRawBufferPointer(wanted), in: labels)
                return matcher.matches(value.map { UnsafeRawBufferPointer(rebasing: labels[$0]) } ?? UnsafeRawBufferPointer(start: nil, count: 0))
            }
        }
    }

    package func match(_ labels: Labels) -> Bool { labels.bytes.withUnsafeBytes { match($0) } }
}
