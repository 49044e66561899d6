import XCTest

final class ObsStoreTests: XCTestCase {}
