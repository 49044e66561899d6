import XCTest

final class ObsSDKTests: XCTestCase {}
