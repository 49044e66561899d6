// swift-tools-version: 6.1
// A package of its own, so that it depends on the SDK as any service does: one product, no package of the operating system.
import PackageDescription

let package = Package(
    name: "shop",
    dependencies: [.package(name: "obs", path: "../..")],
    targets: [.executableTarget(name: "shop", dependencies: [.product(name: "ObsSDK", package: "obs")])],
    swiftLanguageModes: [.v6]
)
