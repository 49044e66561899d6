package import ObsCore

/// What a reader says of bytes that a newer obsd wrote (FORMAT.md, "Versions"). They are not damage: nothing of them is changed, set aside or passed over.
/// - Parameter known: the newest version this program reads.
package func newerFormat(_ what: String, _ version: Int, known: Int, place: String? = nil) -> ObsError {
    ObsError(
        .unprocessable,
        "\(what) version \(version) was written by a newer obsd, this one reads up to version \(known); nothing is changed: start the newer obsd again",
        place: place)
}
