import XCTest

final class ObsEngineTests: XCTestCase {}
