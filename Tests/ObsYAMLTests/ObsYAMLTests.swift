import XCTest

final class ObsYAMLTests: XCTestCase {}
