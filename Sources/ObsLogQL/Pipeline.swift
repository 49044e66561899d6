internal import ObsCore
internal import ObsStore

/// One step of a pipeline. Stages are immutable and hold no state between rows: one pipeline serves many threads, each with its own `Row`.
protocol Stage: Sendable {
    /// Works on the row; false drops it.
    func process(_ row: Row) -> Bool
}

/// The stages of a query, compiled.
struct Pipeline: Sendable {
    /// Line filters before any other stage: they run on the raw bytes, before a label is made.
    private(set) var lineFilters: [LineFilter] = []
    private(set) var stages: [any Stage] = []
    /// All filters on lines as they were stored, also those behind other stages: what the scan applies.
    private(set) var storedLineFilters: [LineFilter] = []

    /// - Throws: `.badInput` for patterns, expressions and templates that cannot be compiled.
    init(_ expressions: [StageExpression]) throws(ObsError) {
        var lineIsRaw = true
        for expression in expressions {
            if case .lineFilter(let filter) = expression {
                let stage = try LineFilterStage(filter)
                if lineIsRaw { storedLineFilters.append(stage.filter) }
                if stages.isEmpty { lineFilters.append(stage.filter) } else { stages.append(stage) }
                continue
            }
            switch expression {
            case .lineFormat, .unpack, .decolorize: lineIsRaw = false
            default: break
            }
            stages.append(try Self.compile(expression))
        }
    }

    private static func compile(_ expression: StageExpression) throws(ObsError) -> any Stage {
        switch expression {
        case .lineFilter(let filter): return try LineFilterStage(filter)
        case .json(let extractions): return extractions.isEmpty ? JSONStage() : try JSONPathStage(extractions)
        case .logfmt(let strict, let keepEmpty, let extractions): return LogfmtStage(strict: strict, keepEmpty: keepEmpty, extractions)
        case .regexp(let pattern): return try RegexpStage(pattern)
        case .pattern(let pattern): return try PatternStage(pattern)
        case .unpack: return UnpackStage()
        case .labelFilter(let filter): return try LabelFilterStage(filter)
        case .lineFormat(let template): return LineFormatStage(template: try Template(template))
        case .labelFormat(let formats): return try LabelFormatStage(formats)
        case .decolorize: return DecolorizeStage()
        case .drop(let choices): return DropStage(choices)
        case .keep(let choices): return KeepStage(choices)
        case .unwrap(let label, let conversion): return UnwrapStage(label: label, conversion: conversion)
        }
    }

    func linePasses(_ line: UnsafeRawBufferPointer) -> Bool {
        for filter in lineFilters where !filter.passes(line) { return false }
        return true
    }

    /// Runs the stages after `lineFilters`.
    func process(_ row: Row) -> Bool {
        for stage in stages where !stage.process(row) { return false }
        return true
    }
}
