import Foundation
import ObsNet
import XCTest

/// The commands that look into a store: what they print and what they exit with.
final class StoreCommandTests: XCTestCase {
    func testFsckAndItsKin() throws {
        let folder = try TemporaryFolder()
        let obsd = try ObsdProcess(data: folder.path + "/data")
        XCTAssertEqual(try obsd.post("/insert/jsonline?_stream_fields=app", #"{"app":"a","msg":"kept"}"#).status, 200)
        let busy = try Run(Place.obsd, ["fsck", "--data", obsd.data])
        XCTAssertEqual(busy.status, 2)
        XCTAssertTrue(busy.errors.contains("running obsd"), busy.errors)
        XCTAssertEqual(obsd.stop(), 0)
        let clean = try Run(Place.obsd, ["fsck", "--data", obsd.data])
        XCTAssertEqual(clean.status, 0, clean.output)
        XCTAssertTrue(clean.output.hasPrefix("clean: 1 segments"), clean.output)
        let listed = try Run(Place.obsd, ["segments", "ls", "--data", obsd.data])
        XCTAssertEqual(listed.output.split(separator: "\n").count, 2, listed.output)
        XCTAssertEqual(try Run(Place.obsd, ["segments", "ls", "--data", obsd.data, "--signal", "metrics", "--json"]).output, "")
        XCTAssertEqual(try Run(Place.obsd, ["segments", "ls", "--data", obsd.data, "--signal", "smoke"]).status, 2)

        let files = try XCTUnwrap(FileManager.default.enumerator(atPath: obsd.data)?.compactMap { $0 as? String })
        let segment = try obsd.data + "/" + XCTUnwrap(files.first { $0.hasSuffix(".seg") })
        let row = try Run(Place.obsd, ["segment", "dump", segment, "--rows", "5"])
        XCTAssertTrue(row.output.contains("kept") && row.output.hasPrefix("{\"stream\":{\"app\":\"a\""), row.output)
        XCTAssertTrue(try Run(Place.obsd, ["segment", "dump", segment, "--blocks"]).output.contains("COLUMN"))

        var bytes = try Data(contentsOf: URL(fileURLWithPath: segment))
        bytes[20] ^= 1
        try bytes.write(to: URL(fileURLWithPath: segment))
        let damaged = try Run(Place.obsd, ["fsck", "--data", obsd.data])
        XCTAssertEqual(damaged.status, 1)
        XCTAssertTrue(damaged.output.hasPrefix("damage: \(segment):"), damaged.output)
        XCTAssertEqual(try Run(Place.obsd, ["fsck", "--data", obsd.data, "--repair"]).status, 1)
        XCTAssertEqual(try Run(Place.obsd, ["fsck", "--data", obsd.data]).status, 0)
        XCTAssertEqual(try Run(Place.obsd, ["index", "rebuild", "--data", obsd.data]).status, 0)
        try obsd.start()
        XCTAssertEqual(obsd.stop(), 0)
    }

    func testWrongUsage() throws {
        for arguments in [
            ["fsck", "--data", "/nowhere"], ["fsck", "more"], ["index"], ["segments", "rm"], ["segment", "dump"], ["fsck", "--rows", "3"], ["--repair"],
        ] {
            XCTAssertEqual(try Run(Place.obsd, arguments).status, 2, "\(arguments)")
        }
    }
}
