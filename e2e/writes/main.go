// Command writes runs a client of the API server as a process of its own, stands between the two, and forwards
// everything. Told to, it kills the client after each new write: the write is made, and its answer never arrives. The
// client is then started again at once, as often as it takes until it writes nothing new.
//
// A write is new when it left its object as no write since "kill" has: a client that begins anew and says again what is
// said already, or goes back and forth because it is being killed, is not killed for that for ever.
//
//	writes --server URL --ca FILE --token FILE --folder FOLDER -- PROGRAM ARGUMENTS
//
// Its input are lines, "kill" and "pass"; at its end the client is ended too. Its output is a line of JSON for each
// write, and one when the client has ended by itself.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// grace is how long the client may take to end by itself; it gives its Lease back.
const grace = 10 * time.Second

// pause is how long a client that has ended by itself waits for its next life.
const pause = time.Second

func main() {
	server := flag.String("server", "", "URL of the API server")
	ca := flag.String("ca", "", "file with the certificates of its CA")
	token := flag.String("token", "", "file with the client's token")
	folder := flag.String("folder", "", "where the client's kubeconfig and log are kept")
	flag.Parse()
	if err := run(*server, *ca, *token, *folder, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "writes:", err)
		os.Exit(1)
	}
}

func run(server, ca, tokenFile, folder string, program []string) error {
	if len(program) == 0 {
		return errors.New("a program is needed after --")
	}
	target, err := url.Parse(server)
	if err != nil {
		return err
	}
	roots, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return fmt.Errorf("%s: no certificate", ca)
	}
	token, err := os.ReadFile(tokenFile)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(folder, "client.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableCompression: true,
	}
	book := &book{out: json.NewEncoder(os.Stdout)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			book.turn(lines.Text() == "kill")
		}
	}()
	for number := 1; ; number++ {
		life := &life{number: number, book: book, target: target, transport: transport, done: make(chan struct{})}
		if err := life.start(program, string(token), filepath.Join(folder, "kubeconfig"), log); err != nil {
			return err
		}
		select {
		case <-life.done:
			if life.isKilled() {
				continue
			}
			// It does when it has lost its Lease to an API server that does not answer; the kubelet starts it again.
			if err := book.ended(number, life.command.ProcessState.String()); err != nil {
				return err
			}
			time.Sleep(pause)
		case <-ended:
			return life.end(grace)
		}
	}
}
