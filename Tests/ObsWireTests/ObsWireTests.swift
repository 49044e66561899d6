import XCTest

final class ObsWireTests: XCTestCase {}
