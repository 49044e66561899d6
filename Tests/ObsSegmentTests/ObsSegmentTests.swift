import XCTest

final class ObsSegmentTests: XCTestCase {}
