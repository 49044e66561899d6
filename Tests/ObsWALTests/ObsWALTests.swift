import XCTest

final class ObsWALTests: XCTestCase {}
