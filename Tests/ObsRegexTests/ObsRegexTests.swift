import XCTest

final class ObsRegexTests: XCTestCase {}
