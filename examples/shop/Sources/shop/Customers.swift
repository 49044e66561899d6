import Glibc

/// The load: customers who look around and sometimes buy, until the process ends. They know nothing of the SDK.
enum Customers {
    static let count = 6

    static func come(to port: UInt16) {
        for number in 1...count {
            startThread {
                while true {
                    visit(port, customer: "customer-\(number * 100 + .random(in: 0..<100))")
                    pause(millis: .random(in: 100...900))
                }
            }
        }
    }

    private static func visit(_ port: UInt16, customer: String) {
        let sku = Product.all.randomElement()?.sku ?? "mug"
        send(port, "GET", "/products")
        pause(millis: .random(in: 50...400))
        send(port, "GET", "/products/\(Double.random(in: 0..<1) < 0.03 ? "samovar" : sku)")
        pause(millis: .random(in: 50...400))
        guard Double.random(in: 0..<1) < 0.6 else { return }
        send(port, "POST", "/checkout?customer=\(customer)&sku=\(sku)&quantity=\(Int.random(in: 1...3))")
        if Double.random(in: 0..<1) < 0.5 { send(port, "GET", "/orders/\(String(UInt32.random(in: 0x1000_0000...UInt32.max), radix: 16))") }
    }

    private static func send(_ port: UInt16, _ method: String, _ target: String) {
        guard let connection = Connection.to(port: port, timeoutMillis: 10_000) else { return pause(millis: 500) }
        let sent = connection.send(
            "\(method) \(target) HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: shop-customers/1.0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        if sent { _ = connection.receive() }
    }
}
