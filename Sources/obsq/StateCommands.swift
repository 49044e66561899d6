internal import ObsCore
internal import ObsWire

/// `obsq alert ls`: alerting rules and what is active.
struct AlertCommand {
    let arguments: Arguments
    let server: Server
    let terminal: Terminal

    func run() throws(ObsError) -> Exit {
        guard arguments.words == ["ls"] || arguments.words.isEmpty else { throw ObsError(.badInput, "usage: obsq alert ls") }
        let answer = try server.get("/api/v1/rules", [("type", "alert")])
        var table = TableRenderer(["state", "alert", "since", "value", "labels"])
        var firing = 0
        answer.root["data"]?["groups"]?.forEachElement { group in
            group["rules"]?.forEachElement { rule in
                if terminal.format == .jsonl { return terminal.print(jsonText(rule) + "\n") }
                let name = rule["name"]?.string ?? ""
                if let error = rule["lastError"]?.string, !error.isEmpty { table.add(["error", name, "", "", error]) }
                guard let alerts = rule["alerts"], alerts.count > 0 else { return table.add(["inactive", name, "", "", ""]) }
                alerts.forEachElement { alert in
                    let state = alert["state"]?.string ?? ""
                    if state == "firing" { firing += 1 }
                    table.add([state, name, alert["activeAt"]?.string ?? "", alert["value"]?.string ?? "", seriesText(alert["labels"])])
                }
            }
        }
        if terminal.format != .jsonl {
            terminal.print(
                table.render(head: { terminal.styled($0, .dim) }) { column, text in
                    guard column == 0 else { return text }
                    return text.hasPrefix("firing") || text.hasPrefix("error")
                        ? terminal.styled(text, .red) : text.hasPrefix("pending") ? terminal.styled(text, .yellow) : text
                })
        }
        return .ok
    }
}

/// `obsq status`: is it there, is it ready, what does it hold.
struct StatusCommand {
    let server: Server
    let terminal: Terminal

    func run() throws(ObsError) -> Exit {
        let answer = try server.get("/api/status")
        if terminal.format == .jsonl {
            terminal.print(jsonText(answer.root) + "\n")
            return .ok
        }
        terminal.print("obsd \(answer.root["version"]?.string ?? "") at \(server.address): \(answer.root["ready"]?.bool == true ? "ready" : "not ready")\n")
        var table = TableRenderer(["signal", "segments", "rows", "bytes", "rows in head", "log bytes"], rightAligned: [1, 2, 3, 4, 5])
        answer.root["signals"]?.forEachElement { one in
            table.add([one["signal"]?.string ?? ""] + ["segments", "segmentRows", "segmentBytes", "headRows", "walBytes"].map { String(one[$0]?.int64 ?? 0) })
        }
        terminal.print(table.render(head: { terminal.styled($0, .dim) }))
        return .ok
    }
}
