import XCTest

final class ObsDiskTests: XCTestCase {}
