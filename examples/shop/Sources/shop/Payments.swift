import ObsSDK

/// Charges cards over a network that declines, times out, and every few minutes is down for a while.
enum Payments {
    /// The card network's bad time: `lasting` seconds of every `every`, the first after `first`.
    private static let outage = (first: Duration.seconds(45), lasting: Int64(25), every: Int64(180))
    private static let providerTimeoutMillis = 1500.0

    static func routes(_ obs: Obs) -> [Service.Route] {
        let log = obs.logger("payments")
        let charges = obs.counter("shop.payments.charges", unit: "{charge}", help: "Charges by their result.")
        let started = ContinuousClock.now

        return [
            Service.Route("POST", "/charges") { request in
                let fields: ObsAttributes = ["order.id": .string(request["order"] ?? ""), "amount": .double(Double(request["amount"] ?? "") ?? 0)]
                pause(millis: .random(in: 2...6))
                do {
                    try authorise(obs, fields, isDown: isDown(after: ContinuousClock.now - started))
                } catch let failure as Failure {
                    charges.add(1, ["result": failure.status == 402 ? "declined" : failure.status == 504 ? "timeout" : "unavailable"])
                    if failure.status != 402 { log.error("card network failed", error: failure, fields) }
                    throw failure
                }
                charges.add(1, ["result": "ok"])
                log.info("card charged", fields.adding(["card": .sensitive(request["customer"] ?? "")]))
                return Response(status: 201, body: #"{"charged":true}"#)
            }
        ]
    }

    private static func isDown(after running: Duration) -> Bool {
        running >= outage.first && (running - outage.first).components.seconds % outage.every < outage.lasting
    }

    /// The call to the card network, outside the shop: a span without children.
    private static func authorise(_ obs: Obs, _ fields: ObsAttributes, isDown: Bool) throws {
        let attributes = fields.adding(["http.request.method": "POST", "server.address": "api.cardnetwork.example", "peer.service": "card-network"])
        try obs.span("POST card-network", kind: .client, attributes) { span in
            pause(millis: .random(in: 15...60) * .random(in: 0.6...2))
            let fate = Double.random(in: 0..<1)
            if isDown, fate < 0.8 {
                span.set("http.response.status_code", 503)
                throw Failure(503, "card network unavailable")
            }
            if fate < 0.02 {
                pause(millis: providerTimeoutMillis)
                throw Failure(504, "card network did not answer within \(Int(providerTimeoutMillis)) ms")
            }
            span.set("http.response.status_code", fate < 0.06 ? 402 : 200)
            if fate < 0.06 { throw Failure(402, "card declined") }
        }
    }
}
