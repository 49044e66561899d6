import XCTest

final class ObsHashTests: XCTestCase {}
