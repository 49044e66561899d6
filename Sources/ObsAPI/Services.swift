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

    package init(notReady: @escaping @Sendable () -> String?, reload: @escaping @Sendable () -> ObsError?, configuration: @escaping @Sendable () -> String) {
        self.notReady = notReady
        self.reload = reload
        self.configuration = configuration
    }
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
        if !accepted {
            responder.send(
                HTTPResponse(ObsError(.overloaded, "too many queries wait (query.queue is \(limits.queryQueueMax)); try again", retryAfterSeconds: 1), shape))
        }
    }

    /// Does work on the store on the thread for it and answers with what it returns, or with its error in the given shape.
    func operate(_ responder: any HTTPResponder, _ shape: ErrorShape, _ body: @escaping @Sendable () throws(ObsError) -> HTTPResponse) {
        let accepted = operations.submit {
            do throws(ObsError) { responder.send(try body()) } catch { responder.send(HTTPResponse(error, shape)) }
        }
        if !accepted { responder.send(HTTPResponse(ObsError(.overloaded, "too many requests wait"), shape)) }
    }
}
