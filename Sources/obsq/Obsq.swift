@main
enum Obsq {
    nonisolated static func main() {}
}
