package import ObsCore
package import ObsIngest
package import ObsLogQL
internal import ObsNet
package import ObsPromQL
package import ObsRules
package import ObsStore
package import ObsTraceQL

/// Everything the handlers use, wired once by `obsd`.
package struct Services: Sendable {
    package var clock: any Clock
    package var limits: Limits
    package var authenticator: Authenticator
    package var pipeline: IngestPipeline
    package var tails: TailHub
    package var reader: any Reader
    package var store: any StoreAdministration
    package var promQL: PromQLEngine
    package var logQL: LogQLEngine
    package var traceQL: TraceQLEngine
    package var rules: RuleManager
    package var scrapes: ScrapeManager
    /// Queries run here, never on a connection's thread.
    package var queries: WorkerPool
    /// Reloads and flushes run here, one at a time, so that slow queries cannot hold them up.
    package var operations: WorkerPool
    package var lifecycle: Lifecycle
    package var build: BuildInfo
    let queried = QueriedMetrics()

    package init(
        clock: any Clock, limits: Limits, authenticator: Authenticator, pipeline: IngestPipeline, tails: TailHub, reader: any Reader,
        store: any StoreAdministration,
        promQL: PromQLEngine, logQL: LogQLEngine, traceQL: TraceQLEngine, rules: RuleManager, scrapes: ScrapeManager, queries: WorkerPool,
        operations: WorkerPool, lifecycle: Lifecycle,
        build: BuildInfo
    ) {
        self.clock = clock
        self.limits = limits
        self.authenticator = authenticator
        self.pipeline = pipeline
        self.tails = tails
        self.reader = reader
        self.store = store
        self.promQL = promQL
        self.logQL = logQL
        self.traceQL = traceQL
        self.rules = rules
        self.scrapes = scrapes
        self.queries = queries
        self.operations = operations
        self.lifecycle = lifecycle
        self.build = build
    }
}

/// What operators may ask of the process.
package struct Lifecycle: Sendable {
    /// Nil when ready, else why not.
    package var notReady: @Sendable () -> String?
    /// Reads the configuration again, all or nothing.
    package var reload: @Sendable () -> ObsError?
    /// The configuration as loaded, for `/api/v1/status/config`.
    package var configuration: @Sendable () -> String
    /// What the process runs with, for `/api/v1/status/runtimeinfo` and `status/flags`.
    package var runtime: @Sendable () -> RuntimeInfo
    /// `external_labels` of the configuration, for who federates or reads remotely.
    package var externalLabels: @Sendable () -> Labels
    /// Where alerts are posted.
    package var alertmanagers: @Sendable () -> [String]

    package init(
        notReady: @escaping @Sendable () -> String?, reload: @escaping @Sendable () -> ObsError?, configuration: @escaping @Sendable () -> String,
        runtime: @escaping @Sendable () -> RuntimeInfo = { RuntimeInfo() }, externalLabels: @escaping @Sendable () -> Labels = { .empty },
        alertmanagers: @escaping @Sendable () -> [String] = { [] }
    ) {
        self.notReady = notReady
        self.reload = reload
        self.configuration = configuration
        self.runtime = runtime
        self.externalLabels = externalLabels
        self.alertmanagers = alertmanagers
    }
}

package struct RuntimeInfo: Sendable {
    package var startedMillis: Int64 = 0
    /// Whether the last reading of the configuration succeeded, and when it was.
    package var isConfigurationCurrent = true
    package var configuredMillis: Int64 = 0
    /// As Prometheus spells it: `30d`, `30d or 2TiB`.
    package var retention = ""
    /// How long samples are kept, nil for ever.
    package var retentionMillis: Int64?
    package var memoryBytesMax = 0
    /// Names without dashes, values as in force.
    package var flags: [(name: String, value: String)] = []

    package init() {}
}

package struct BuildInfo: Sendable {
    package var version: String
    package var revision: String
    package init(version: String, revision: String) {
        self.version = version
        self.revision = revision
    }
}

extension Services {
    /// Runs a query on the query threads and answers with what it returns, or with its error in the given shape.
    func query(
        _ request: HTTPRequest, _ responder: any HTTPResponder, _ shape: ErrorShape, timeoutMillis: Int64? = nil,
        _ body: @escaping @Sendable (QueryContext) throws(ObsError) -> HTTPResponse
    ) {
        let context = QueryContext(tenant: request.tenant, limits: limits, timeoutMillis: timeoutMillis, clock: clock, clientGone: request.clientGone)
        let accepted = queries.submit {
            do throws(ObsError) {
                try context.check()
                responder.send(try body(context))
            } catch {
                responder.send(HTTPResponse(error, shape))
            }
        }
        if !accepted { refuseQuery(responder, shape) }
    }

    /// Runs a query whose answer leaves while it is made; `body` finishes it. An error after the first piece cuts the connection.
    /// - Parameter compresses: gzip, where the client takes it.
    func stream(
        _ request: HTTPRequest, _ responder: any HTTPResponder, _ shape: ErrorShape, type: String = "application/json", compresses: Bool = true,
        timeoutMillis: Int64? = nil, _ body: @escaping @Sendable (QueryContext, AnswerStream) throws(ObsError) -> Void
    ) {
        let context = QueryContext(tenant: request.tenant, limits: limits, timeoutMillis: timeoutMillis, clock: clock, clientGone: request.clientGone)
        let accepted = queries.submit {
            let answer = AnswerStream(request, responder, type: type, context: context, compresses: compresses)
            do throws(ObsError) {
                try context.check()
                try body(context, answer)
            } catch {
                if !answer.isStarted { responder.send(HTTPResponse(error, shape)) }
            }
        }
        if !accepted { refuseQuery(responder, shape) }
    }

    private func refuseQuery(_ responder: any HTTPResponder, _ shape: ErrorShape) {
        responder.send(
            HTTPResponse(ObsError(.overloaded, "too many queries wait (query.queue is \(limits.queryQueueMax)); try again", retryAfterSeconds: 1), shape))
    }

    /// Does work on the store on the thread for it and answers with what it returns, or with its error in the given shape.
    func operate(_ responder: any HTTPResponder, _ shape: ErrorShape, _ body: @escaping @Sendable () throws(ObsError) -> HTTPResponse) {
        let accepted = operations.submit {
            do throws(ObsError) { responder.send(try body()) } catch { responder.send(HTTPResponse(error, shape)) }
        }
        if !accepted { responder.send(HTTPResponse(ObsError(.overloaded, "too many requests wait"), shape)) }
    }
}
