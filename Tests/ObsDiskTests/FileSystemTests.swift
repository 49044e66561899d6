import Foundation
import ObsCore
import ObsDisk
import XCTest

/// One suite for both file systems: what the store relies on.
final class FileSystemTests: XCTestCase {
    private func onBoth(_ body: (any FileSystem, String) throws -> Void) throws {
        let folder = NSTemporaryDirectory() + "obs-disk-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        try LocalFileSystem().makeDirectories(folder + "/a/b")
        try body(LocalFileSystem(), folder + "/a/b")
        let memory = MemoryFileSystem()
        try memory.makeDirectories("/a/b")
        try body(memory, "/a/b")
    }

    func testWriteThenRead() throws {
        try onBoth { disk, folder in
            let path = folder + "/file"
            let writer = try disk.create(path)
            try writer.append([1, 2, 3])
            try writer.append([])
            try writer.append([4, 5])
            XCTAssertEqual(writer.size, 5)
            try writer.sync()
            try writer.close()
            try writer.close()
            let reader = try disk.open(path)
            XCTAssertEqual(reader.size, 5)
            XCTAssertEqual(try reader.read(at: 1, count: 3), [2, 3, 4])
            XCTAssertEqual(try reader.read(at: 5, count: 0), [])
            XCTAssertEqual(try disk.readAll(path), [1, 2, 3, 4, 5])
            XCTAssertEqual(try disk.size(path), 5)
            try disk.truncate(path, to: 2)
            XCTAssertEqual(try disk.readAll(path), [1, 2])
            _ = try disk.create(path)
            XCTAssertEqual(try disk.size(path), 0)
        }
    }

    func testReadsPastTheEndAreCorruption() throws {
        try onBoth { disk, folder in
            try disk.writeAtomically(folder + "/file", [1, 2, 3])
            let reader = try disk.open(folder + "/file")
            for (offset, count) in [(0, 4), (3, 1), (4, 0), (-1, 1), (0, Int.max), (Int.max, 1), (1, -1)] {
                XCTAssertThrowsError(try reader.read(at: offset, count: count)) { error in
                    XCTAssertEqual((error as? ObsError)?.code, .corrupt)
                    XCTAssertEqual((error as? ObsError)?.place?.hasPrefix(folder), true)
                }
            }
        }
    }

    func testNames() throws {
        try onBoth { disk, folder in
            try disk.writeAtomically(folder + "/b", [1])
            try disk.writeAtomically(folder + "/a", [2])
            try disk.makeDirectories(folder + "/c/d")
            try disk.makeDirectories(folder + "/c/d")
            XCTAssertEqual(try disk.list(folder), ["a", "b", "c"])
            XCTAssertEqual(try disk.list(folder + "/none"), [])
            try disk.rename(folder + "/a", to: folder + "/b")
            XCTAssertEqual(try disk.readAll(folder + "/b"), [2])
            XCTAssertFalse(disk.exists(folder + "/a"))
            try disk.hardLink(folder + "/b", to: folder + "/e")
            try disk.remove(folder + "/b")
            XCTAssertEqual(try disk.readAll(folder + "/e"), [2])
            XCTAssertTrue(disk.isDirectory(folder + "/c"))
            XCTAssertFalse(disk.isDirectory(folder + "/e"))
            XCTAssertThrowsError(try disk.removeDirectory(folder + "/c"))
            try disk.removeDirectory(folder + "/c/d")
            try disk.removeDirectory(folder + "/c")
            XCTAssertFalse(disk.exists(folder + "/c"))
            XCTAssertGreaterThan(try disk.freeBytes(folder), 0)
        }
    }

    func testWhatIsMissing() throws {
        try onBoth { disk, folder in
            let path = folder + "/none"
            let actions: [() throws -> Void] = [
                { _ = try disk.open(path) }, { try disk.remove(path) }, { try disk.rename(path, to: path + "2") }, { _ = try disk.size(path) },
                { try disk.hardLink(path, to: path + "2") },
            ]
            for action in actions {
                XCTAssertThrowsError(try action()) { error in
                    XCTAssertEqual((error as? ObsError)?.code, .notFound)
                    XCTAssertEqual((error as? ObsError)?.message.contains(path), true)
                }
            }
        }
    }

    func testLock() throws {
        try onBoth { disk, folder in
            let lock = try disk.lock(folder + "/LOCK")
            XCTAssertThrowsError(try disk.lock(folder + "/LOCK")) { XCTAssertEqual(($0 as? ObsError)?.code, .unavailable) }
            lock.release()
            lock.release()
            _ = try disk.lock(folder + "/LOCK")
        }
    }

    func testAFolderIsNotAFile() throws {
        try onBoth { disk, folder in XCTAssertThrowsError(try disk.open(folder)) }
    }

    func testAFullDiskSaysSo() throws {
        guard FileManager.default.fileExists(atPath: "/dev/full") else { throw XCTSkip("no /dev/full") }
        let file = try LocalFileSystem().create("/dev/full")
        XCTAssertThrowsError(try file.append([1])) { error in
            XCTAssertEqual((error as? ObsError)?.code, .overloaded)
            XCTAssertEqual((error as? ObsError)?.message, "cannot write /dev/full: no space left on device; free disk space or lower the retention")
        }
    }

    func testPowerCutForgetsWhatWasNotSynced() throws {
        let disk = MemoryFileSystem()
        try disk.makeDirectories("/d")
        let kept = try disk.create("/d/kept")
        try kept.append([1])
        try kept.sync()
        try kept.append([2])
        try disk.syncDirectory("/d")
        let unnamed = try disk.create("/d/unnamed")
        try unnamed.append([1])
        try unnamed.sync()
        try disk.remove("/d/kept")
        disk.cutPower()
        XCTAssertEqual(try disk.list("/d"), ["kept"])
        XCTAssertEqual(try disk.readAll("/d/kept"), [1])
    }
}
