import XCTest

final class ObsLogQLTests: XCTestCase {}
