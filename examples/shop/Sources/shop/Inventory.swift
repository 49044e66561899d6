import ObsSDK
import Synchronization

/// Keeps the stock; a delivery comes when a product runs low.
final class Inventory: Sendable {
    private static let delivery = 60
    private static let low = 5

    private let counts = Mutex<[String: Int]>(Dictionary(uniqueKeysWithValues: Product.all.map { ($0.sku, delivery) }))
    private let database: Database
    private let log: ObsLogger
    private let stock: ObsGauge

    init(_ obs: Obs) {
        database = Database(obs, name: "inventory")
        log = obs.logger("inventory")
        stock = obs.gauge("shop.inventory.stock", unit: "{item}", help: "Items in stock.")
        for product in Product.all { stock.record(Double(Self.delivery), ["sku": .string(product.sku)]) }
    }

    var routes: [Service.Route] {
        [
            Service.Route("GET", "/stock") { [self] _ in
                database.run("SELECT", "stock", "SELECT sku, count FROM stock", slowShare: 0.01)
                return Response(body: "[" + counts.withLock { $0.map { Self.json($0.key, $0.value) } }.sorted().joined(separator: ",") + "]")
            },
            Service.Route("GET", "/stock/{sku}") { [self] request in
                let sku = try Product.named(request["sku"]).sku
                database.run("SELECT", "stock", "SELECT count FROM stock WHERE sku = $1")
                return Response(body: Self.json(sku, counts.withLock { $0[sku] ?? 0 }))
            },
            Service.Route("POST", "/reservations/{sku}") { [self] request in
                let sku = try Product.named(request["sku"]).sku
                database.run("UPDATE", "stock", "UPDATE stock SET count = count - $1 WHERE sku = $2 AND count >= $1", slowShare: 0.02)
                return Response(status: 201, body: Self.json(sku, try take(sku, Int(request["quantity"] ?? "") ?? 1)))
            },
            Service.Route("DELETE", "/reservations/{sku}") { [self] request in
                let sku = try Product.named(request["sku"]).sku
                database.run("UPDATE", "stock", "UPDATE stock SET count = count + $1 WHERE sku = $2")
                change(sku, by: Int(request["quantity"] ?? "") ?? 1)
                return Response()
            },
        ]
    }

    /// Number left.
    /// - Throws: `Failure` 409 when there are not enough; the next delivery comes then.
    private func take(_ sku: String, _ quantity: Int) throws -> Int {
        let left: Int? = counts.withLock { counts in
            guard let count = counts[sku], count >= quantity else { return nil }
            counts[sku] = count - quantity
            return count - quantity
        }
        guard let left else {
            log.notice("delivery arrived", ["sku": .string(sku), "quantity": .int(Self.delivery)])
            change(sku, by: Self.delivery)
            throw Failure(409, "\(sku) is out of stock")
        }
        stock.record(Double(left), ["sku": .string(sku)])
        if left < Self.low { log.warning("stock is low", ["sku": .string(sku), "left": .int(left)]) }
        return left
    }

    private func change(_ sku: String, by amount: Int) {
        let count = counts.withLock { counts in
            counts[sku, default: 0] += amount
            return counts[sku] ?? 0
        }
        stock.record(Double(count), ["sku": .string(sku)])
    }

    private static func json(_ sku: String, _ count: Int) -> String { #"{"sku":"\#(sku)","count":\#(count)}"# }
}
