internal import ObsCore

/// `| line_format "{{.method}} {{.path}}"`
struct LineFormatStage: Stage {
    let template: Template

    func process(_ row: Row) -> Bool {
        var output: [UInt8] = []
        if let failure = template.render(row, into: &output) {
            row.setError("TemplateFormatErr", failure)
        } else {
            row.setLine(output)
        }
        return true
    }
}

/// `| label_format dst=src, name="{{.a}}-{{.b}}"`: a rename takes the source away, a template leaves it.
struct LabelFormatStage: Stage {
    private enum Source: Sendable {
        case label([UInt8])
        case template(Template)
    }
    private let formats: [(label: [UInt8], source: Source)]

    init(_ expressions: [StageExpression.LabelFormat]) throws(ObsError) {
        var formats: [(label: [UInt8], source: Source)] = []
        for expression in expressions {
            switch expression.source {
            case .label(let name): formats.append((Array(expression.label.utf8), .label(Array(name.utf8))))
            case .template(let text): formats.append((Array(expression.label.utf8), .template(try Template(text))))
            }
        }
        self.formats = formats
    }

    func process(_ row: Row) -> Bool {
        for (label, source) in formats {
            switch source {
            case .label(let name):
                guard let at = row.find(name), name != label else { continue }
                let group = row.entries[at].group
                let value = Array(row.texts[row.entries[at].value])
                row.remove(at: at)
                row.set(label, value, group)
            case .template(let template):
                var output: [UInt8] = []
                if let failure = template.render(row, into: &output) {
                    row.setError("TemplateFormatErr", failure)
                } else {
                    row.set(label, output)
                }
            }
        }
        return true
    }
}
