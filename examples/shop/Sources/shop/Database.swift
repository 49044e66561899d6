import ObsSDK

/// A database that is not there: it waits as one would and leaves the spans a driver would leave.
struct Database: Sendable {
    let obs: Obs
    let log: ObsLogger
    let name: String
    private let duration: ObsHistogram

    init(_ obs: Obs, name: String) {
        self.obs = obs
        self.name = name
        log = obs.logger("db")
        duration = obs.histogram("db.client.operation.duration", unit: "s", help: "Duration of database statements.")
    }

    /// - Parameter slowShare: share of calls that wait for a lock, as happens to tables that everybody updates.
    func run(_ operation: String, _ table: String, _ statement: String, slowShare: Double = 0) {
        let attributes: ObsAttributes = [
            "db.system": "postgresql", "db.namespace": .string(name), "db.operation.name": .string(operation), "db.collection.name": .string(table),
        ]
        obs.span("\(operation) \(table)", kind: .client, attributes.adding(["db.query.text": .string(statement)])) { span in
            let start = ContinuousClock.now
            pause(millis: .random(in: 1...4) * .random(in: 0.5...3))
            if Double.random(in: 0..<1) < slowShare {
                span.addEvent("lock wait", ["db.collection.name": .string(table)])
                pause(millis: .random(in: 400...900))
            }
            let taken = ContinuousClock.now - start
            duration.record(taken, attributes)
            if taken > .milliseconds(200) {
                let millis = taken.components.attoseconds / 1_000_000_000_000_000 + taken.components.seconds * 1000
                log.warning("slow query", attributes.adding(["db.query.text": .string(statement), "duration_ms": .int(Int(millis))]))
            }
        }
    }
}
