import XCTest

final class ObsTraceQLTests: XCTestCase {}
