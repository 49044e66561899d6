package import ObsCore

/// A condition on a field of a log record, or of a span. What fields are and how they compare: ObsCore/FieldTest.
///
/// The field is that of the first of `paths` that the record has; when it has none, or the value does not pass the test, the condition holds if it is negated.
/// So `status != 500` holds where there is no status; who wants it to be there asks for that too.
package struct FieldFilter: Sendable {
    package var source: FieldSource
    package var paths: [FieldPath]
    package var test: FieldTest
    package var isNegated: Bool

    package init(_ source: FieldSource, _ paths: [FieldPath], _ test: FieldTest, isNegated: Bool = false) {
        self.source = source
        self.paths = paths
        self.test = test
        self.isNegated = isNegated
    }

    package init(_ source: FieldSource, _ path: FieldPath, _ test: FieldTest, isNegated: Bool = false) {
        self.init(source, [path], test, isNegated: isNegated)
    }

    /// Whether a record passes.
    /// - Parameter text: its line or its attributes, as `source` says.
    package func passes(_ text: UnsafeRawBufferPointer) -> Bool {
        for path in paths {
            guard case .at(let place) = path.find(in: ShapedText(text), source) else { continue }
            guard case .bytes(let range) = place.value else { return test.isExists != isNegated }
            let payload = UnsafeRawBufferPointer(rebasing: text[range])
            if place.form.isNull(payload) { continue }
            return test.passes(place.form, payload) != isNegated
        }
        return isNegated
    }
}

extension [FieldFilter] {
    /// Whether all hold of a row of a batch.
    package func pass(line: ByteRange, attributes: ByteRange, in bytes: UnsafeRawBufferPointer) -> Bool {
        allSatisfy { filter in
            switch filter.source {
            case .line: filter.passes(UnsafeRawBufferPointer(rebasing: bytes[line.range]))
            case .attributes: filter.passes(UnsafeRawBufferPointer(rebasing: bytes[attributes.range]))
            }
        }
    }
}

/// Records of a value of a field, of one stream or of all.
package struct FieldValueCount: Sendable, Equatable {
    /// The value's text.
    package var value: [UInt8]
    /// Nil when streams are not told apart.
    package var labels: Labels?
    package var count: Int

    package init(value: [UInt8], labels: Labels?, count: Int) {
        self.value = value
        self.labels = labels
        self.count = count
    }
}
