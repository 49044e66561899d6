// obsfuzz TARGET [libFuzzer's arguments]: runs one target under libFuzzer.
// obsfuzz --list: names of all targets.      obsfuzz --seeds FOLDER: writes inputs to begin with.
import Glibc

let arguments = CommandLine.arguments
if arguments.count == 2, arguments[1] == "--list" {
    for target in FuzzTarget.all { print(target.name) }
    exit(0)
}
if arguments.count == 3, arguments[1] == "--seeds" {
    try writeSeeds(to: arguments[2])
    exit(0)
}
// libFuzzer starts itself again for a merge, with its own arguments only: the target's name goes along in the environment.
let inherited = getenv("OBSFUZZ_TARGET").flatMap { FuzzTarget.named(String(cString: $0)) }
let given = arguments.count > 1 ? FuzzTarget.named(arguments[1]) : nil
guard let target = given ?? inherited else {
    print("usage: obsfuzz --list | --seeds FOLDER | TARGET [arguments of libFuzzer]")
    exit(2)
}
setenv("OBSFUZZ_TARGET", target.name, 1)
exit(fuzz(target, [arguments[0]] + arguments.dropFirst(given == nil ? 1 : 2)))
