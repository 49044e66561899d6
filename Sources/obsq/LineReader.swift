internal import Glibc

/// Lines of standard input, with a wait that can end before a line came.
final class LineReader {
    enum Outcome {
        case line([UInt8])
        case nothingYet
        case end
    }

    private var buffer: [UInt8] = []
    private var consumed = 0
    private var atEnd = false

    func next(waitMillis: Int?) -> Outcome {
        while true {
            if let newline = buffer[consumed...].firstIndex(of: UInt8(ascii: "\n")) {
                var line = Array(buffer[consumed..<newline])
                if line.last == UInt8(ascii: "\r") { line.removeLast() }
                consumed = newline + 1
                return .line(line)
            }
            if atEnd {
                guard consumed < buffer.count else { return .end }
                defer { consumed = buffer.count }
                return .line(Array(buffer[consumed...]))
            }
            if let waitMillis {
                var wanted = pollfd(fd: 0, events: Int16(POLLIN), revents: 0)
                if poll(&wanted, 1, Int32(waitMillis)) == 0 { return .nothingYet }
            }
            fill()
        }
    }

    private func fill() {
        buffer.removeFirst(consumed)
        consumed = 0
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        let count = read(0, &piece, piece.count)
        if count <= 0 { atEnd = true } else { buffer.append(contentsOf: piece[..<count]) }
    }
}

func pause(millis: Int) { usleep(UInt32(millis) * 1000) }
