// Command tools is what the cluster tests and the demo put into pods: an upstream, and a stand-in for an agent that does
// one thing at a time and says what came of it as a line of JSON. Only the standard library, so that its HTTP client is
// one that people really use: it takes its proxy and its roots from the environment, as the injected container finds them.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var commands = map[string]func([]string) error{
	"origin":  origin,  // an upstream: HTTP and HTTPS, charges, refunds, events, and what it saw
	"accept":  accept,  // accepts TCP, answers UDP: a positive control for what must be dropped
	"wait":    wait,    // does nothing until it is told to end: the agent between the tests' calls
	"request": request, // one HTTP request
	"poll":    poll,    // requests in a row, a line whenever the answer changes
	"load":    load,    // requests at a rate, a line a second and a sum at the end
	"stream":  stream,  // an open event stream, a line for each event and one for its end
	"decide":  decide,  // POST /v1/decide over the Unix socket
	"connect": connect, // one TCP connection or UDP question
	"leaf":    leaf,    // the certificate that a TLS server shows
	"knock":   knock,   // TCP connections in a row until "stop", and how many were made
	"stop":    stop,    // ends "knock" and "load"
	"raw":     raw,     // an ICMP or raw socket, a vsock, a user namespace: what refuses it
	"cat":     cat,     // files, as text
	"dress":   dress,   // TLS under a server name, as nobody or under a certificate of its own
	"post":    post,    // a body to a server that is not verified
	"enrol":   enrol,   // POST /v1/certificates of the control API
	"flood":   flood,   // as many TLS connections as there are to be had
	"search":  search,  // words in a container's environment, memory and files; on its node
	"capture": capture, // words among what crosses a pod's interface; on its node
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: tools COMMAND [FLAGS]; commands: origin accept wait request poll load stream decide connect leaf knock stop raw cat dress post enrol search capture flood")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "tools "+os.Args[1]+":", err)
		os.Exit(1)
	}
}

// say prints one result.
func say(result any) error {
	return json.NewEncoder(os.Stdout).Encode(result)
}

func ended() <-chan os.Signal {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	return end
}

func wait([]string) error {
	<-ended()
	return nil
}

func cat(files []string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(text); err != nil {
			return err
		}
	}
	return nil
}
