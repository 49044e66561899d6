package import ObsCore

/// What is certainly in no text of a column, from few bytes.
package struct TextFilter: Sendable {
    private let bytes: [UInt8]

    /// - Parameter bytes: what `TextColumn.append` gave; none: everything may be inside.
    package init(_ bytes: [UInt8]) throws(ObsError) { self.bytes = bytes }

    /// Memory, about.
    package var byteSize: Int { bytes.count }

    /// False: certainly in no row. For attribute lists: in no value.
    /// - Parameter ignoringCase: of ASCII letters; the needle is in lower case then.
    package func mayContain(_ needle: [UInt8], ignoringCase: Bool) -> Bool { true }
}
