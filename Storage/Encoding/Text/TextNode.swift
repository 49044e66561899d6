internal import ObsCore

/// A column of the plan. How many rows it has is known when the shapes above it are read.
final class TextNode: Sendable {
    enum Form: Sendable {
        /// Where in the plan.
        case constant(Range<Int>)
        case plain(lengths: Int, bytes: Int)
        case dictionary(TextNode, count: Int, indices: Int)
        case number(NumberText, stream: Int)
        case hex(HexText, stream: Int)
        case shapes(count: Int, pieces: Int, shapeOf: Int, columns: [TextNode])
    }
    /// In the order of the plan.
    let number: Int
    let form: Form

    init(number: Int, form: Form) {
        self.number = number
        self.form = form
    }
}

/// How a number is printed.
enum NumberText: Sendable {
    case integer(IntegerText)
    case decimal(DecimalText)
    case time(TimeText)
    case clock(ClockText, IntegerText, DecimalText)
    case int64, float64, instant

    /// Of what is stored together with the row's time.
    var needsTimes: Bool {
        switch self {
        case .time, .clock, .instant: true
        default: false
        }
    }
}

/// Reads the plan.
struct TextPlan {
    let streams: StreamReader
    private var nextStream = 1
    private(set) var nodes = 0

    init(_ streams: StreamReader) { self.streams = streams }

    /// - Parameter count: of rows.
    mutating func read(count: Int) throws(ObsError) -> TextNode? {
        var cursor = ByteCursor(try streams.stream(0))
        let root = count > 0 ? try node(&cursor, depth: 0) : nil
        try cursor.expectEnd()
        if nextStream != streams.count { throw ObsError(.corrupt, "\(streams.count - nextStream) streams too many") }
        return root
    }

    private mutating func stream() throws(ObsError) -> Int {
        guard nextStream < streams.count else { throw ObsError(.corrupt, "stream \(nextStream) of \(streams.count)") }
        nextStream += 1
        return nextStream - 1
    }

    private mutating func node(_ plan: inout ByteCursor, depth: Int) throws(ObsError) -> TextNode {
        guard depth <= TextColumn.depthMax else { throw ObsError(.corrupt, "columns nested deeper than \(TextColumn.depthMax)") }
        let number = nodes
        nodes += 1
        return TextNode(number: number, form: try form(&plan, depth))
    }

    private mutating func form(_ plan: inout ByteCursor, _ depth: Int) throws(ObsError) -> TextNode.Form {
        let tag = try plan.u8()
        guard let form = TextColumn.Form(rawValue: tag) else { throw ObsError(.corrupt, "unknown text encoding \(tag)") }
        switch form {
        case .constant:
            let count = try plan.text().count
            return .constant(plan.position - count..<plan.position)
        case .plain: return .plain(lengths: try stream(), bytes: try stream())
        case .dictionary:
            let count = try plan.count(max: TextShapes.valuesMax)
            let texts = try node(&plan, depth: depth + 1)
            return .dictionary(texts, count: count, indices: try stream())
        case .integers: return .number(.integer(try integer(&plan)), stream: try stream())
        case .decimals:
            let scale = try plan.count(max: DecimalText.scaleMax)
            guard let ending = DecimalText.Ending(rawValue: try plan.u8()) else { throw ObsError(.corrupt, "unknown ending of decimals") }
            return .number(.decimal(DecimalText(scale: scale, ending: ending)), stream: try stream())
        case .hex:
            return .hex(HexText(digits: try plan.count(max: HexText.digitsMax), isUpper: try plan.u8() != 0), stream: try stream())
        case .times: return .number(.time(TimeText(digits: try plan.count(max: 9))), stream: try stream())
        case .clock:
            guard let part = ClockText.Part(rawValue: try plan.u8()) else { throw ObsError(.corrupt, "unknown part of a time") }
            let clock = ClockText(part: part, digits: try plan.count(max: 9))
            let width = try integer(&plan)
            let scale = try plan.count(max: DecimalText.scaleMax)
            return .number(.clock(clock, width, DecimalText(scale: scale, ending: .fixed)), stream: try stream())
        case .int64: return .number(.int64, stream: try stream())
        case .float64: return .number(.float64, stream: try stream())
        case .instants: return .number(.instant, stream: try stream())
        case .shapes:
            let count = try plan.count(max: TextShapes.valuesMax)
            let columns = try plan.count(max: TextShapes.valuesMax)
            let pieces = try stream()
            let shapeOf = try stream()
            var nodes: [TextNode] = []
            for _ in 0..<columns { nodes.append(try node(&plan, depth: depth + 1)) }
            return .shapes(count: count, pieces: pieces, shapeOf: shapeOf, columns: nodes)
        }
    }

    private func integer(_ plan: inout ByteCursor) throws(ObsError) -> IntegerText { IntegerText(width: try plan.count(max: IntegerText.unsigned)) }
}
