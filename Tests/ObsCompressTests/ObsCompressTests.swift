import XCTest

final class ObsCompressTests: XCTestCase {}
