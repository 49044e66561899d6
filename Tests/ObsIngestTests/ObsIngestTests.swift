import XCTest

final class ObsIngestTests: XCTestCase {}
