// How late scrapes are when there are many targets and some of them misbehave. See Benchmarks/README.md.
//
//     scrape [targets] [interval in seconds] [rounds]

private let words = CommandLine.arguments.dropFirst().compactMap { Int($0) }

benchmarkScrapes(targets: words.first ?? 2000, intervalSeconds: words.dropFirst().first ?? 15, rounds: words.dropFirst(2).first ?? 5)
