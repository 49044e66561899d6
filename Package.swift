// swift-tools-version: 6.1
// The tree and its walls are drawn in docs/ARCHITECTURE.md; the build refuses an import against the drawing
// (`--explicit-target-dependency-import-check error`, see Makefile).
import PackageDescription

/// Set by `make fuzz`: what is built then is instrumented for libFuzzer, and Tests/Fuzz is a program instead of tests.
let isFuzzing = Context.environment["OBS_FUZZ"] != nil

/// Settings of every target. No unsafe flags in an ordinary build: SwiftPM would refuse ObsSDK as a dependency of services.
let plainSettings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
let settings = plainSettings + (isFuzzing ? [.unsafeFlags(["-sanitize=fuzzer", "-enable-testing"])] : [])

/// A library of the operating system's, behind a module map.
func system(_ name: String, pkgConfig: String? = nil, apt: String) -> Target {
    .systemLibrary(name: name, path: "Sources/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt])])
}

func module(_ name: String, path: String? = nil, exclude: [String] = [], _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, path: path ?? "Sources/\(name)", exclude: exclude, swiftSettings: settings)
}

func tests(_ name: String, path: String? = nil, exclude: [String] = [], _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, path: "Tests/\(path ?? name)", exclude: exclude, swiftSettings: settings)
}

/// Decoders under fuzzing, see Tests/Fuzz/README.md. The same sources are a test bundle, which runs what was found before, or the fuzzer.
func fuzz() -> Target {
    let path = "Tests/Fuzz"
    let dependencies: [Target.Dependency] = [
        "ObsCore", "ObsCompress", "ObsHash", "ObsYAML", "ObsWire", "ObsNet", "ObsStore", "ObsEncoding", "ObsDisk", "ObsWAL", "ObsSegment", "ObsPromQL",
        "ObsLogQL", "ObsTraceQL", "ObsIngest", "ObsRules", "ObsAPI", "ObsEngine", "ObsQueue",
    ]
    let others = ["README.md", "run", "corpus", "crashes"]
    if isFuzzing {
        // Not instrumented itself: -sanitize=fuzzer would take its main away.
        return .executableTarget(
            name: "obsfuzz", dependencies: dependencies, path: path, exclude: others + ["RegressionTests.swift"], sources: ["Targets", "Driver"],
            swiftSettings: plainSettings,
            linkerSettings: [.unsafeFlags([Context.environment["OBS_FUZZ"] ?? ""]), .linkedLibrary("stdc++"), .linkedLibrary("m")])
    }
    return .testTarget(
        name: "FuzzTests", dependencies: dependencies, path: path, exclude: others + ["Driver"], sources: ["Targets", "RegressionTests.swift"],
        swiftSettings: plainSettings)
}

let package = Package(
    name: "obs",
    products: [
        .executable(name: "obsd", targets: ["obsd"]),
        .executable(name: "obsq", targets: ["obsq"]),
        .library(name: "ObsSDK", targets: ["ObsSDK"]),
    ],
    targets: [
        // 0. C libraries
        system("CMicrohttpd", pkgConfig: "libmicrohttpd", apt: "libmicrohttpd-dev"),
        system("CCurl", pkgConfig: "libcurl", apt: "libcurl4-gnutls-dev"),
        system("CGnuTLS", pkgConfig: "gnutls", apt: "libgnutls28-dev"),
        system("CZstd", pkgConfig: "libzstd", apt: "libzstd-dev"),
        system("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev"),
        system("CSnappy", apt: "libsnappy-dev"),
        system("CXXHash", apt: "libxxhash-dev"),
        system("CRoaring", apt: "libroaring-dev"),
        system("CYAML", pkgConfig: "yaml-0.1", apt: "libyaml-dev"),
        system("CSQLite", pkgConfig: "sqlite3", apt: "libsqlite3-dev"),
        system("CMalloc", apt: "libc6-dev"),
        .target(name: "CSystem", path: "Sources/CSystem", linkerSettings: [.linkedLibrary("resolv")]),
        .target(name: "CRE2", path: "Sources/CRE2", linkerSettings: [.linkedLibrary("re2")]),
        .target(name: "CSimdjson", path: "Sources/CSimdjson", linkerSettings: [.linkedLibrary("simdjson")]),
        .target(name: "CProtobufs", path: "Sources/CProtobufs", exclude: ["proto"], linkerSettings: [.linkedLibrary("protobuf-c")]),
        .target(name: "CDashboards", path: "dashboards", exclude: ["index.html", "app.js", "style.css"], sources: ["embed.c"], publicHeadersPath: "include"),

        // 1. leaves
        module("ObsCore", []),
        module("ObsCompress", ["ObsCore", "CZstd", "CZlib", "CSnappy"]),
        module("ObsRegex", ["ObsCore", "CRE2"]),
        module("ObsHash", ["CXXHash", "CGnuTLS"]),
        module("ObsYAML", ["ObsCore", "CYAML"]),
        module("ObsWire", ["ObsCore", "CSimdjson", "CProtobufs"]),
        module("ObsNet", ["ObsCore", "ObsHash", "CMicrohttpd", "CCurl", "CSystem"]),

        // 2. the contract between the asking and the keeping side
        module("ObsStore", path: "Storage/Interface", ["ObsCore", "ObsRegex"]),

        // 3.-4. the keeping side
        module("ObsEncoding", path: "Storage/Encoding", ["ObsCore", "ObsCompress", "ObsHash", "CRoaring"]),
        module("ObsDisk", path: "Storage/Disk", ["ObsCore"]),
        module("ObsWAL", path: "Storage/WAL", ["ObsCore", "ObsCompress", "ObsDisk", "ObsEncoding", "ObsHash"]),
        module("ObsSegment", path: "Storage/Segment", ["ObsCore", "ObsEncoding", "ObsDisk", "ObsHash", "ObsStore"]),
        module(
            "ObsQueue", path: "Storage/Queue", ["ObsCore", "ObsStore", "ObsDisk", "ObsEncoding", "ObsHash", "ObsWAL"]),
        module("ObsIndex", path: "Storage/Index", exclude: ["schema"], ["ObsCore", "CSQLite"]),
        module(
            "ObsEngine", path: "Storage/Engine",
            ["ObsCore", "ObsStore", "ObsEncoding", "ObsDisk", "ObsWAL", "ObsSegment", "ObsIndex", "ObsHash", "CMalloc"]),

        // 4. the asking side
        module("ObsPromQL", ["ObsCore", "ObsStore", "ObsRegex"]),
        module("ObsLogQL", ["ObsCore", "ObsStore", "ObsRegex", "ObsWire"]),
        module("ObsTraceQL", ["ObsCore", "ObsStore", "ObsRegex"]),
        module("ObsIngest", ["ObsCore", "ObsCompress", "ObsRegex", "ObsHash", "ObsYAML", "ObsWire", "ObsNet", "ObsStore", "ObsLogQL"]),
        module("ObsRules", ["ObsCore", "ObsStore", "ObsNet", "ObsWire", "ObsYAML", "ObsRegex", "ObsPromQL"]),
        module(
            "ObsAPI",
            [
                "ObsCore", "ObsCompress", "ObsHash", "ObsYAML", "ObsRegex", "ObsWire", "ObsNet", "ObsStore", "ObsIngest",
                "ObsPromQL", "ObsLogQL", "ObsTraceQL", "ObsRules", "CDashboards",
            ]),

        // 5. programs
        .executableTarget(
            name: "obsd",
            dependencies: [
                "ObsCore", "ObsHash", "ObsYAML", "ObsWire", "ObsNet", "ObsStore", "ObsIngest", "ObsRules", "ObsAPI", "ObsDisk",
                "ObsEngine", "ObsSegment", "ObsQueue", "CMalloc",
            ], swiftSettings: settings),
        .executableTarget(name: "codecs", dependencies: ["ObsCore", "ObsCompress", "ObsEncoding"], path: "Benchmarks/codecs", swiftSettings: plainSettings),
        .executableTarget(
            name: "scans", dependencies: ["ObsCore", "ObsRegex", "ObsStore", "ObsDisk", "ObsEngine", "ObsPromQL"], path: "Benchmarks/scans",
            swiftSettings: plainSettings),
        .executableTarget(
            name: "scrape", dependencies: ["ObsCore", "ObsIngest", "ObsNet", "ObsYAML"], path: "Benchmarks/scrape", swiftSettings: plainSettings),
        .executableTarget(name: "obsq", dependencies: ["ObsCore", "ObsNet", "ObsWire"], swiftSettings: settings),
        .target(name: "ObsSDK", swiftSettings: settings),

        // tests
        .target(name: "ObsTestSupport", dependencies: ["ObsCore", "ObsStore", "ObsDisk"], path: "Tests/ObsTestSupport", swiftSettings: settings),
        tests("ObsCoreTests", ["ObsCore"]),
        tests("ObsCompressTests", ["ObsCore", "ObsCompress"]),
        tests("ObsRegexTests", ["ObsCore", "ObsRegex"]),
        tests("ObsHashTests", ["ObsHash"]),
        tests("ObsYAMLTests", ["ObsCore", "ObsYAML"]),
        tests("ObsWireTests", ["ObsCore", "ObsWire", "ObsCompress", "ObsTestSupport", "CProtobufs"]),
        tests("ObsNetTests", ["ObsCore", "ObsNet"]),
        tests("ObsStoreTests", ["ObsCore", "ObsStore", "ObsRegex"]),
        tests("ObsEncodingTests", ["ObsCore", "ObsCompress", "ObsEncoding", "ObsTestSupport"]),
        tests("ObsDiskTests", ["ObsCore", "ObsDisk"]),
        tests("ObsWALTests", ["ObsCore", "ObsWAL", "ObsDisk", "ObsTestSupport"]),
        tests("ObsSegmentTests", ["ObsCore", "ObsSegment", "ObsDisk", "ObsStore", "ObsTestSupport"]),
        tests("ObsQueueTests", ["ObsCore", "ObsStore", "ObsQueue", "ObsDisk", "ObsTestSupport"]),
        tests("ObsIndexTests", ["ObsCore", "ObsIndex"]),
        tests(
            "ObsEngineTests",
            ["ObsCore", "ObsRegex", "ObsCompress", "ObsStore", "ObsWire", "ObsIngest", "ObsEngine", "ObsDisk", "ObsSegment", "ObsHash", "ObsTestSupport"]),
        tests(
            "SimulationTests", path: "Simulation",
            ["ObsCore", "ObsStore", "ObsIngest", "ObsEngine", "ObsDisk", "ObsSegment", "ObsYAML", "ObsTestSupport"]),
        tests("ObsPromQLTests", ["ObsCore", "ObsStore", "ObsPromQL", "ObsTestSupport"]),
        tests("ObsLogQLTests", ["ObsCore", "ObsStore", "ObsLogQL", "ObsTestSupport"]),
        tests("ObsTraceQLTests", ["ObsCore", "ObsStore", "ObsTraceQL", "ObsTestSupport"]),
        tests(
            "ObsIngestTests",
            ["ObsCore", "ObsStore", "ObsDisk", "ObsQueue", "ObsIngest", "ObsLogQL", "ObsNet", "ObsWire", "ObsYAML", "ObsCompress", "ObsTestSupport"]),
        tests("ObsRulesTests", ["ObsCore", "ObsStore", "ObsRules", "ObsPromQL", "ObsNet", "ObsYAML", "ObsTestSupport"]),
        tests(
            "ObsAPITests",
            [
                "ObsCore", "ObsCompress", "ObsHash", "ObsStore", "ObsAPI", "ObsNet", "ObsIngest", "ObsWire", "ObsPromQL", "ObsLogQL", "ObsTraceQL", "ObsRules",
                "ObsYAML", "ObsTestSupport",
            ]),
        tests("ObsSDKTests", ["ObsSDK"]),
        fuzz(),
        tests("ConformanceTests", ["ObsCore", "ObsStore", "ObsPromQL", "ObsLogQL", "ObsTraceQL", "ObsTestSupport"]),
        tests("EndToEndTests", exclude: ["clients"], ["ObsCore", "ObsNet", "ObsWire", "ObsCompress", "ObsSDK", "CZlib", "ObsTestSupport"]),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .c2x,
    cxxLanguageStandard: .cxx17
)

// One test bundle and what it needs, for builds that are slow: `make tsan`.
if let tests = Context.environment["OBS_TESTS"] { package.targets.removeAll { $0.type == .test && $0.name != tests } }
