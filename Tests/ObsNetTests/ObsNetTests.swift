import XCTest

final class ObsNetTests: XCTestCase {}
