import XCTest

final class ObsPromQLTests: XCTestCase {}
