import XCTest

final class ObsRulesTests: XCTestCase {}
