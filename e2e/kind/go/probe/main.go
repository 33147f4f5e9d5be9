// Command probe is the tool of the cluster tests, in pods and beyond the cluster: it tries to reach something in one
// of several ways and says in one line of JSON what came of it, or serves what others try to reach.
//
// Its exit code tells the outcome too (see outcome.go), but tests should read the line: a tool that could not be
// started must never be taken for a packet that was dropped.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

const usage = `probe COMMAND ...
attempts, each a line of JSON {"attempt","target","outcome","detail","ms",...}; --timeout=3s where it fits
  get URL [--method=M] [--data=TEXT] [--header=NAME:VALUE]... [--ca=FILE] [--insecure] [--direct]
                                HTTP; by way of the proxy that the environment names, unless --direct
  tcp HOST:PORT [--send=TEXT]   a TCP connection, and the answer when something is sent
  udp HOST:PORT [--send=TEXT]   a datagram; only an answer is a success
  dns NAME [--server=HOST:PORT] [--tcp]
  icmp ADDRESS                  an echo request, by a raw socket and by a ping socket
  raw                           whether raw and packet sockets can be opened
  repeat [--every=100ms] [--for=10s] ATTEMPT...
                                one attempt again and again: a line when the outcome changes, and a summary
what is here
  id                            user, capabilities, seccomp, addresses, as JSON
  env | cat FILE... | ls PATH... | grep TEXT PATH...
                                grep looks into every file below the paths and prints the names of those that hold TEXT
servers
  serve SPEC...                 http:PORT, https:PORT (/tls/tls.crt and .key): answers with, and prints, what arrived;
                                tcp:PORT, udp:PORT: echo
  pause                         nothing, until it is told to end
`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	name, args := os.Args[1], os.Args[2:]
	if try, known := attempts[name]; known {
		result, err := try(args)
		if err != nil {
			fail("probe %s: %v", name, err)
		}
		result.print()
		os.Exit(result.Outcome.code())
	}
	command, known := commands[name]
	if !known {
		fail("probe: no command %q\n%s", name, usage)
	}
	if err := command(args); err != nil {
		fail("probe %s: %v", name, err)
	}
}

// attempt reaches for something once. Its error is a mistake in the arguments; everything else is a result.
type attempt func(args []string) (*result, error)

var attempts = map[string]attempt{
	"get": tryGet, "tcp": tryTCP, "udp": tryUDP, "dns": tryDNS, "icmp": tryICMP, "raw": tryRaw,
}

var commands = map[string]func(args []string) error{
	"repeat": repeat, "id": identity, "env": environment, "cat": cat, "ls": list, "grep": grep,
	"serve": serve, "pause": pause,
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, strings.TrimRight(format, "\n")+"\n", args...)
	os.Exit(exitUsage)
}

func printJSON(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		fail("probe: %v", err)
	}
	fmt.Println(string(line))
}
