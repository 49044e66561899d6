// Many requests at once, on one thread. Where a thread for each would wait for the network (thousands of targets, some of which never answer), libcurl's multi
// interface waits for all of them: a slow server costs a socket and what it has sent, and holds up nobody.
internal import CCurl
internal import Glibc
package import ObsCore
internal import Synchronization

package final class HTTPClientLoop: Sendable {
    package typealias Completion = @Sendable (Result<HTTPClientResponse, ObsError>) -> Void

    private struct Submission {
        var request: HTTPClientRequest
        var completion: Completion
    }

    private struct State {
        var submitted: [Submission] = []
        var isStopping = false
        var isRunning = true
    }

    private let state = Monitor(State())
    /// Only `curl_multi_wakeup` may be called from other threads.
    private let multi: Multi

    private struct Multi: @unchecked Sendable { var pointer: UnsafeMutableRawPointer }

    private static let idleHandlesMax = 256
    private static let waitMillis: Int32 = 1000

    /// - Parameters:
    ///   - name: of the thread.
    ///   - connectionsMax: open at once; requests past that wait, and their time runs. Idle ones among them are kept for the next request. Nil takes half of the
    ///     files the process may open.
    package init(name: String, connectionsMax: Int? = nil) {
        let connectionsMax = connectionsMax ?? Self.halfOfFiles()
        guard isCurlReady, let multi = curl_multi_init() else { preconditionFailure("FATAL: libcurl cannot be initialised") }
        self.multi = Multi(pointer: multi)
        obs_curl_multi_set_number(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, connectionsMax)
        obs_curl_multi_set_number(multi, CURLMOPT_MAXCONNECTS, connectionsMax)
        startThread(name) { [self] in run() }
    }

    private static func halfOfFiles() -> Int {
        var limits = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limits) == 0 else { return 512 }
        return min(8192, max(64, Int(clamping: limits.rlim_cur) / 2))
    }

    /// Sends a request; `completion` runs once, on the loop's thread, and hands over. Errors are those of `HTTPClient.perform`, and `.unavailable` after `stop`.
    package func submit(_ request: HTTPClientRequest, completion: @escaping Completion) {
        let isTaken = state.read { state in
            guard !state.isStopping else { return false }
            state.submitted.append(Submission(request: request, completion: completion))
            return true
        }
        guard isTaken else { return completion(.failure(ObsError(.unavailable, "\(request.url): stopping"))) }
        curl_multi_wakeup(multi.pointer)
    }

    /// Sends a request and waits for its answer; not from a completion.
    package func perform(_ request: HTTPClientRequest) throws(ObsError) -> HTTPClientResponse {
        let box = Monitor<Result<HTTPClientResponse, ObsError>?>(nil)
        submit(request) { result in box.update { $0 = result } }
        guard let result = box.wait(until: { $0 }) else { throw ObsError(.internalError, "request gave no answer") }
        return try result.get()
    }

    /// Ends running requests with `.cancelled` and waits for the thread.
    package func stop() {
        state.update { $0.isStopping = true }
        curl_multi_wakeup(multi.pointer)
        _ = state.wait { $0.isRunning ? nil : () }
    }

    // MARK: - The thread

    private struct Running {
        var handle: CurlHandle
        var transfer: CurlTransfer
        var submission: Submission
    }

    private func run() {
        var running: [UnsafeMutableRawPointer: Running] = [:]
        var idle: [CurlHandle] = []
        while true {
            let (submitted, isStopping) = state.read { state in
                defer { state.submitted = [] }
                return (state.submitted, state.isStopping)
            }
            if isStopping {
                for submission in submitted { submission.completion(.failure(Self.cancelled(submission))) }
                break
            }
            for submission in submitted { begin(submission, &running, &idle) }
            var count: Int32 = 0
            curl_multi_perform(multi.pointer, &count)
            takeFinished(&running, &idle)
            curl_multi_poll(multi.pointer, nil, 0, Self.waitMillis, nil)
        }
        for entry in running.values {
            curl_multi_remove_handle(multi.pointer, entry.handle.curl)
            entry.handle.forget()
            entry.submission.completion(.failure(Self.cancelled(entry.submission)))
        }
        running = [:]
        idle = []
        curl_multi_cleanup(multi.pointer)
        state.update { $0.isRunning = false }
    }

    private static func cancelled(_ submission: Submission) -> ObsError { ObsError(.cancelled, "request to \(submission.request.url) was cancelled") }

    private func begin(_ submission: Submission, _ running: inout [UnsafeMutableRawPointer: Running], _ idle: inout [CurlHandle]) {
        do throws(ObsError) {
            let handle: CurlHandle
            if let last = idle.popLast() { handle = last } else { handle = try CurlHandle() }
            let transfer = CurlTransfer(bytesMax: submission.request.responseBytesMax, isCancelled: submission.request.isCancelled, onHead: nil, onBytes: nil)
            transfer.memory = submission.request.memory
            handle.begin(submission.request, transfer)
            guard curl_multi_add_handle(multi.pointer, handle.curl) == CURLM_OK else { throw ObsError(.internalError, "libcurl takes no more requests") }
            running[handle.curl] = Running(handle: handle, transfer: transfer, submission: submission)
        } catch {
            submission.completion(.failure(error))
        }
    }

    private func takeFinished(_ running: inout [UnsafeMutableRawPointer: Running], _ idle: inout [CurlHandle]) {
        var left: Int32 = 0
        while let message = curl_multi_info_read(multi.pointer, &left)?.pointee {
            guard message.msg == CURLMSG_DONE, let curl = message.easy_handle, let entry = running.removeValue(forKey: curl) else { continue }
            let result: Result<HTTPClientResponse, ObsError>
            do throws(ObsError) {
                result = .success(try entry.handle.result(message.data.result, entry.submission.request, entry.transfer))
            } catch {
                result = .failure(error)
            }
            curl_multi_remove_handle(multi.pointer, curl)
            entry.handle.forget()
            if idle.count < Self.idleHandlesMax { idle.append(entry.handle) }
            entry.submission.completion(result)
        }
    }
}
