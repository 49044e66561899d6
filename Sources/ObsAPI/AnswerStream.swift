// Answers whose size is not known before they are made. Text is gathered in a writer; what has grown past a piece leaves at once, chunked, so that an answer of
// gigabytes takes two megabytes here. A small answer never becomes a stream: it goes out whole, with its length.
//
// A slow client holds its query's thread while it reads, until the query's deadline or until it goes away: rows cannot be made again.
internal import Glibc
internal import ObsCompress
internal import ObsCore
internal import ObsNet
internal import ObsStore
internal import ObsWire

final class AnswerStream {
    /// Text gathered before it leaves.
    static let pieceBytes = 256 << 10
    /// What a stream holds: its piece, packed and unpacked, and what the connection queues.
    private static let heldBytes = 2 << 20
    private static let waitMicros: UInt32 = 1000

    var json = JSONWriter(reserving: 4096)
    private let responder: any HTTPResponder
    private let context: QueryContext
    private let headers: [(name: String, value: String)]
    private let acceptsGzip: Bool
    private var stream: (any HTTPStream)?
    private var gzip: GzipStream?

    /// - Parameter type: Content-Type.
    init(_ request: HTTPRequest, _ responder: any HTTPResponder, type: String, context: QueryContext, compresses: Bool = true) {
        self.responder = responder
        self.context = context
        headers = [("Content-Type", type)]
        acceptsGzip = compresses && (request.header("accept-encoding")?.contains("gzip") ?? false)
    }

    /// Whether the status has left: then an error can only cut the connection.
    var isStarted: Bool { stream != nil }

    /// To be called after every row or few hundred points.
    func flushIfLarge() throws(ObsError) { try flushIfLarge(&json) }

    /// For who has the writer in hand.
    func flushIfLarge(_ writer: inout JSONWriter) throws(ObsError) {
        guard writer.bytes.count >= Self.pieceBytes else { return }
        try context.check()
        try send(writer.drain())
    }

    /// Sends bytes that are not the writer's.
    func send(_ bytes: [UInt8]) throws(ObsError) {
        if stream == nil { try start() }
        try queue(gzip.map { $0.compress(bytes) } ?? bytes)
    }

    /// The end of the answer. An answer dropped without it is cut.
    func finish() throws(ObsError) {
        guard let stream else { return responder.send(HTTPResponse(status: 200, headers: headers, body: json.drain())) }
        try send(json.drain())
        if let gzip { try queue(gzip.finish()) }
        stream.finish()
    }

    private func start() throws(ObsError) {
        try context.charge(bytes: Self.heldBytes)
        var headers = headers
        if acceptsGzip {
            gzip = GzipStream()
            headers += [("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding")]
        }
        stream = responder.stream(status: 200, headers: headers)
    }

    private func queue(_ bytes: [UInt8]) throws(ObsError) {
        guard let stream, !bytes.isEmpty else { return }
        // False is a full queue or a client that went away; the context knows which.
        while !stream.write(bytes) {
            try context.check()
            usleep(Self.waitMicros)
        }
    }
}
