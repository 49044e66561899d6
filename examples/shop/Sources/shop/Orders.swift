import ObsSDK

/// Places orders: reserves the goods, charges the card, writes the order; gives the goods back when the charge fails.
enum Orders {
    static func routes(_ obs: Obs, _ ports: Ports) -> [Service.Route] {
        let inventory = Peer("inventory", port: ports.inventory, obs: obs)
        let payments = Peer("payments", port: ports.payments, obs: obs)
        let database = Database(obs, name: "orders")
        let log = obs.logger("orders")
        let orders = obs.counter("shop.orders", unit: "{order}", help: "Orders by how they ended.")
        let revenue = obs.counter("shop.revenue", unit: "EUR", help: "Value of the orders placed.")

        return [
            Service.Route("GET", "/orders/{id}") { request in
                let id = request["id"] ?? ""
                database.run("SELECT", "orders", "SELECT * FROM orders WHERE id = $1", slowShare: 0.03)
                return Response(body: #"{"id":"\#(id)","state":"shipped"}"#)
            },
            Service.Route("POST", "/orders") { request in
                let product = try Product.named(request["sku"])
                let quantity = Int(request["quantity"] ?? "") ?? 1
                let customer = request["customer"] ?? ""
                let order = String(UInt32.random(in: 0x1000_0000...UInt32.max), radix: 16)
                let amount = product.price * Double(quantity)
                let orderLog = log.with(["order.id": .string(order), "customer": .string(customer), "sku": .string(product.sku), "amount": .double(amount)])
                let goods = "/reservations/\(product.sku)?quantity=\(quantity)"
                do {
                    _ = try inventory.call("POST", goods)
                } catch let failure as Failure where failure.status == 409 {
                    orders.add(1, ["outcome": "out_of_stock"])
                    orderLog.warning("order refused: out of stock")
                    throw failure
                }
                do {
                    _ = try payments.call("POST", "/charges?order=\(order)&amount=\(amount)&customer=\(customer)")
                } catch let failure as Failure {
                    _ = try? inventory.call("DELETE", goods)
                    let declined = failure.status == 402
                    orders.add(1, ["outcome": declined ? "declined" : "payment_failed"])
                    if declined { orderLog.warning("card declined") } else { orderLog.error("payment failed, goods released", error: failure) }
                    throw declined ? failure : Failure(502, "payment failed: \(failure)")
                }
                database.run("INSERT", "orders", "INSERT INTO orders (id, customer, sku, quantity, amount) VALUES ($1, $2, $3, $4, $5)", slowShare: 0.01)
                orders.add(1, ["outcome": "placed"])
                revenue.add(amount)
                orderLog.info("order placed", ["quantity": .int(quantity)])
                return Response(status: 201, body: #"{"id":"\#(order)","amount":\#(amount)}"#)
            },
        ]
    }
}

/// What the shop sells.
struct Product: Sendable {
    let sku: String
    let price: Double

    static let all = [
        Product(sku: "teapot", price: 34.5), Product(sku: "kettle", price: 49), Product(sku: "mug", price: 9.5), Product(sku: "green-tea", price: 12),
        Product(sku: "black-tea", price: 8), Product(sku: "strainer", price: 4.5),
    ]

    /// - Throws: `Failure` 404.
    static func named(_ sku: String?) throws -> Product {
        guard let product = all.first(where: { $0.sku == sku }) else { throw Failure(404, "no product \(sku ?? "")") }
        return product
    }
}
