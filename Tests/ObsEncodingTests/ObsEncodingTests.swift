import XCTest

final class ObsEncodingTests: XCTestCase {}
