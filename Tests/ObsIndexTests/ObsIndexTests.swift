import XCTest

final class ObsIndexTests: XCTestCase {}
