package import ObsCore

/// What is known of a block's fields without reading it: of fields with few different values how many rows have each, of numbers between which they lie.
///
/// Whatever is said is said of all rows of the block; nothing is said of a field that some row's text would have to be read for.
/// ```
/// fields of lines · fields of attributes, each: varint n << 1 | whether they are all that any row has · field × n
/// field    varint keys · text key × keys · form u8
///   0 nothing is known   1 counts   varint v · (text value · varint rows) × v     2 integers   zigzag least · varint greatest - least
///   3 doubles   u64 least · u64 greatest
/// ```
package struct FieldStatistics: Sendable {
    package enum Values: Sendable {
        case unknown
        /// Each value's text, and its rows; the other rows lack the field.
        case counts([(text: [UInt8], rows: Int)])
        /// Values that are numbers lie within.
        case numbers(least: FieldNumber, greatest: FieldNumber)
    }
    package struct Field: Sendable {
        package var path: FieldPath
        package var values: Values
    }
    /// Fields of lines, or of attributes.
    package struct Fields: Sendable {
        package var fields: [Field] = []
        /// Whether no row has another one.
        package var isComplete = false
    }
    package static let keysMax = JSONFieldWalk.depthMax
    package static let fieldsMax = 64
    package static let valuesMax = 32

    package var lines = Fields()
    package var attributes = Fields()

    /// Nothing is known.
    package init() {}

    /// - Parameter rows: of the block.
    package init(_ cursor: inout ByteCursor, rows: Int) throws(ObsError) {
        lines = try Self.fields(&cursor, rows)
        attributes = try Self.fields(&cursor, rows)
    }

    private static func fields(_ cursor: inout ByteCursor, _ rows: Int) throws(ObsError) -> Fields {
        let tagged = try cursor.count(max: fieldsMax * 2 + 1)
        var result = Fields(isComplete: tagged & 1 == 1)
        for _ in 0..<tagged >> 1 {
            var keys: [[UInt8]] = []
            for _ in 0..<(try cursor.count(max: keysMax)) { keys.append(Array(try cursor.text())) }
            result.fields.append(Field(path: FieldPath(keys: keys), values: try values(&cursor, rows)))
        }
        return result
    }

    private static func values(_ cursor: inout ByteCursor, _ rows: Int) throws(ObsError) -> Values {
        switch try cursor.u8() {
        case 0: return .unknown
        case 1:
            var counts: [(text: [UInt8], rows: Int)] = []
            var rest = rows
            for _ in 0..<(try cursor.count(max: valuesMax)) {
                let text = Array(try cursor.text())
                let part = try cursor.count(max: rest)
                rest -= part
                counts.append((text, part))
            }
            return .counts(counts)
        case 2:
            let least = try cursor.zigzag()
            return .numbers(least: .integer(least), greatest: .integer(Int64(bitPattern: UInt64(bitPattern: least) &+ (try cursor.varint()))))
        case 3:
            let least = Double(bitPattern: try cursor.u64())
            return .numbers(least: .double(least), greatest: .double(Double(bitPattern: try cursor.u64())))
        case let form: throw ObsError(.corrupt, "unknown statistics of a field \(form)")
        }
    }

    package func fields(_ source: FieldSource) -> Fields { source == .line ? lines : attributes }

    /// What is known of a field; nil: no row has it.
    package func values(of path: FieldPath, _ source: FieldSource) -> Values? {
        let known = fields(source)
        if let field = known.fields.first(where: { $0.path == path }) { return field.values }
        return known.isComplete ? nil : .unknown
    }
}

extension FieldStatistics.Values {
    /// Whether no value passes, for certain.
    package func excludes(_ test: FieldTest) -> Bool {
        switch self {
        case .unknown: return false
        case .counts(let counts): return !counts.contains { test.passesText($0.text) }
        case .numbers(let least, let greatest):
            guard case .compares(let order, .number(let wanted)) = test else { return false }
            guard let low = FieldNumber.compare(least, wanted), let high = FieldNumber.compare(greatest, wanted) else { return true }
            switch order {
            case .equal: return low > 0 || high < 0
            case .less: return low >= 0
            case .lessOrEqual: return low > 0
            case .greater: return high <= 0
            case .greaterOrEqual: return high < 0
            }
        }
    }

    /// Rows that have the field, and rows whose value passes; nil when that is not known.
    package func counts(_ test: FieldTest) -> (having: Int, passing: Int)? {
        guard case .counts(let counts) = self else { return nil }
        return counts.reduce(into: (0, 0)) { result, value in
            result.0 += value.rows
            if test.passesText(value.text) { result.1 += value.rows }
        }
    }
}

extension FieldTest {
    /// Whether a value passes, of which only the text is left.
    func passesText(_ text: [UInt8]) -> Bool { text.withUnsafeBytes { passes(.text, $0) } }
}
