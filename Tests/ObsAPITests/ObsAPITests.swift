import XCTest

final class ObsAPITests: XCTestCase {}
