import XCTest

final class ConformanceTests: XCTestCase {}
