internal import ObsCore
internal import ObsDisk
internal import ObsSegment

/// Segment files as the folders name them, in folder order; files in the making apart.
struct SegmentListing {
    var segments: [String] = []
    var unfinished: [String] = []

    init(_ files: any FileSystem, _ layout: DiskLayout) throws(ObsError) {
        for name in try files.list(layout.tenantsRoot) {
            guard let tenant = try? TenantID(name) else { continue }
            for signal in Signal.allCases {
                for dayFolder in try files.list(layout.signalFolder(tenant, signal)) {
                    guard let day = DiskLayout.partitionDay(dayFolder) else { continue }
                    let folder = layout.partition(tenant, signal, day: day)
                    for file in try files.list(folder) {
                        if DiskLayout.isTemporary(file) {
                            unfinished.append("\(folder)/\(file)")
                        } else if DiskLayout.segmentID(file) != nil {
                            segments.append("\(folder)/\(file)")
                        }
                    }
                }
            }
        }
    }
}

/// Reads a segment's footer and checks that it lies where it says it belongs.
func readPlacedSegmentInfo(_ files: any FileSystem, _ layout: DiskLayout, _ path: String) throws(ObsError) -> SegmentInfo {
    let info = try readSegmentInfo(files, path)
    guard layout.segment(info.tenant, info.signal, day: info.day, id: info.id) == path else {
        throw ObsError(.corrupt, "segment says it is \(info.tenant)/\(info.signal.rawValue)/\(dayName(info.day))/\(info.id)", place: path)
    }
    return info
}
