@main
enum Obsd {
    nonisolated static func main() {}
}
