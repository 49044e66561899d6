/// `| unwrap latency`, `| unwrap duration(latency)`: takes a label's value as the sample. Rows without the label are dropped;
/// a value that is none sets `SampleExtractionErr`.
struct UnwrapStage: Stage {
    private let name: [UInt8]
    private let conversion: UnwrapConversion

    init(label: String, conversion: UnwrapConversion) {
        name = Array(label.utf8)
        self.conversion = conversion
    }

    func process(_ row: Row) -> Bool {
        guard row.find(name) != nil else { return false }
        let value: Double? = row.withValue(name) { text in
            switch conversion {
            case .number: readQuantity(text, .number)
            case .duration, .durationSeconds: readQuantity(text, .duration).map { $0 / 1e9 }
            case .bytes: readQuantity(text, .bytes)
            }
        }
        if let value {
            row.sample = value
        } else {
            row.setError("SampleExtractionErr", "cannot convert \"\(String(decoding: row.value(name) ?? [], as: UTF8.self))\" to a \(conversion.rawValue)")
        }
        return true
    }
}
