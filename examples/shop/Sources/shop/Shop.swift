import Glibc
import ObsSDK

/// Where the services are: `ORDERS_PORT` and its like in the environment, else the defaults.
struct Ports: Sendable {
    let orders = Self.port("ORDERS_PORT", 8092)
    let payments = Self.port("PAYMENTS_PORT", 8093)
    let inventory = Self.port("INVENTORY_PORT", 8094)

    private static func port(_ name: String, _ fallback: UInt16) -> UInt16 { getenv(name).flatMap { UInt16(String(cString: $0)) } ?? fallback }
}

@main
enum Shop {
    static let usage = """
        usage: shop gateway|orders|payments|inventory PORT   a service on 127.0.0.1:PORT
               shop customers PORT                           load for the shop behind PORT

        """

    static func main() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard arguments.count == 2, let name = arguments.first, let port = arguments.last.flatMap({ UInt16($0) }) else { return complain() }
        // Before the first thread starts: each inherits it, so that the signal is left to the wait below.
        var stop = sigset_t()
        sigemptyset(&stop)
        sigaddset(&stop, SIGTERM)
        sigaddset(&stop, SIGINT)
        pthread_sigmask(SIG_BLOCK, &stop, nil)

        var signal: Int32 = 0
        if name == "customers" {
            Customers.come(to: port)
            sigwait(&stop, &signal)
            return
        }
        var configuration = ObsConfiguration()
        configuration.serviceName = name
        configuration.resource["service.namespace"] = "shop"
        let obs = try Obs.start(configuration)
        guard let routes = routes(of: name, obs) else { return complain() }
        let service = Service(obs, routes)
        try HTTPServer(answer: service.answer).listen(port: port)
        obs.logger("shop").info("service started", ["server.port": .int(Int(port))])
        sigwait(&stop, &signal)
        obs.logger("shop").info("service stops")
        await obs.shutdown()
    }

    private static func routes(of name: String, _ obs: Obs) -> [Service.Route]? {
        switch name {
        case "gateway": Gateway.routes(obs, Ports())
        case "orders": Orders.routes(obs, Ports())
        case "payments": Payments.routes(obs)
        case "inventory": Inventory(obs).routes
        default: nil
        }
    }

    private static func complain() {
        _ = write(2, usage, usage.utf8.count)
        exit(2)
    }
}
