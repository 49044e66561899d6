import ObsSDK

/// What customers talk to: products from the inventory, orders to the orders service.
enum Gateway {
    static func routes(_ obs: Obs, _ ports: Ports) -> [Service.Route] {
        let inventory = Peer("inventory", port: ports.inventory, obs: obs)
        let orders = Peer("orders", port: ports.orders, obs: obs)
        let log = obs.logger("gateway")
        return [
            Service.Route("GET", "/products") { _ in try inventory.call("GET", "/stock") },
            Service.Route("GET", "/products/{sku}") { request in try inventory.call("GET", "/stock/\(request["sku"] ?? "")") },
            Service.Route("GET", "/orders/{id}") { request in try orders.call("GET", "/orders/\(request["id"] ?? "")") },
            Service.Route("POST", "/checkout") { request in
                let (customer, sku, quantity) = (request["customer"] ?? "anonymous", request["sku"] ?? "", request["quantity"] ?? "1")
                let response = try orders.call("POST", "/orders?customer=\(customer)&sku=\(sku)&quantity=\(quantity)")
                log.info("checkout done", ["customer": .string(customer), "sku": .string(sku)])
                return response
            },
        ]
    }
}
