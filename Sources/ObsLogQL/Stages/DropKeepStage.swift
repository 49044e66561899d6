internal import ObsStore

/// `| drop a, b="x"`: removes labels, those with a condition only where it holds.
struct DropStage: Stage {
    private let choices: [(name: [UInt8], matcher: LabelMatcher?)]

    init(_ choices: [StageExpression.LabelChoice]) { self.choices = choices.map { (Array($0.name.utf8), $0.matcher) } }

    func process(_ row: Row) -> Bool {
        for choice in choices where row.find(choice.name) != nil {
            if let matcher = choice.matcher, !row.withValue(choice.name, { matcher.matches($0) }) { continue }
            row.remove(choice.name)
            // Details without their error say nothing.
            if choice.name == errorName { row.remove(errorDetailsName) }
        }
        return true
    }
}

/// `| keep a, b="x"`: removes all other labels but `__error__` and `__error_details__`.
struct KeepStage: Stage {
    private let choices: [(name: [UInt8], matcher: LabelMatcher?)]

    init(_ choices: [StageExpression.LabelChoice]) { self.choices = choices.map { (Array($0.name.utf8), $0.matcher) } }

    func process(_ row: Row) -> Bool {
        for index in row.entries.indices.reversed() {
            let entry = row.entries[index]
            let name = row.texts[entry.name]
            let stays =
                name.elementsEqual(errorName) || name.elementsEqual(errorDetailsName)
                || choices.contains { choice in
                    guard name.elementsEqual(choice.name) else { return false }
                    guard let matcher = choice.matcher else { return true }
                    return row.withText(entry.value) { matcher.matches($0) }
                }
            if !stays { row.remove(at: index) }
        }
        return true
    }
}
