package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Where a Secret of type kubernetes.io/tls is mounted for https.
const (
	tlsCertificate = "/tls/tls.crt"
	tlsKey         = "/tls/tls.key"
)

// pause ends when it is told to.
func pause([]string) error {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM)
	<-told
	return nil
}

// serve listens on every port that is asked for, and ends when it is told to or when one fails.
func serve(specs []string) error {
	if len(specs) == 0 {
		return errors.New("what to serve is missing: http:PORT, https:PORT, tcp:PORT or udp:PORT")
	}
	failed := make(chan error)
	for _, spec := range specs {
		run, err := listen(spec)
		if err != nil {
			return err
		}
		go func() { failed <- run() }()
	}
	fmt.Println("serving", strings.Join(specs, " "))
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-told:
		return nil
	case err := <-failed:
		return err
	}
}

// listen opens a port and gives what serves it.
func listen(spec string) (func() error, error) {
	kind, port, _ := strings.Cut(spec, ":")
	address := ":" + port
	switch kind {
	case "http":
		listener, err := net.Listen("tcp", address)
		server := &http.Server{Handler: http.HandlerFunc(greet), ReadHeaderTimeout: 10 * time.Second}
		return func() error { return server.Serve(listener) }, err
	case "https":
		listener, err := net.Listen("tcp", address)
		server := &http.Server{Handler: http.HandlerFunc(greet), ReadHeaderTimeout: 10 * time.Second}
		return func() error { return server.ServeTLS(listener, tlsCertificate, tlsKey) }, err
	case "tcp":
		listener, err := net.Listen("tcp", address)
		return func() error { return echoStreams(listener) }, err
	case "udp":
		socket, err := net.ListenPacket("udp", address)
		return func() error { return echoDatagrams(socket) }, err
	default:
		return nil, fmt.Errorf("%q is none of http:PORT, https:PORT, tcp:PORT, udp:PORT", spec)
	}
}

// greet answers with what arrived, and prints the same: what a server got is proven by its log, as what is between
// may change the answer.
func greet(w http.ResponseWriter, r *http.Request) {
	hostname, _ := os.Hostname()
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	arrived, err := json.Marshal(map[string]any{
		"server": hostname, "from": from, "method": r.Method, "host": r.Host, "path": r.URL.Path, "query": r.URL.RawQuery,
		"protocol": r.Proto, "headers": r.Header, "body": string(body),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Println(string(arrived))
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(arrived)
}

func echoStreams(listener net.Listener) error {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			_, _ = io.Copy(connection, connection)
		}()
	}
}

func echoDatagrams(socket net.PacketConn) error {
	datagram := make([]byte, maxAnswer)
	for {
		n, from, err := socket.ReadFrom(datagram)
		if err != nil {
			return err
		}
		// To a sender that is gone: not this server's trouble.
		_, _ = socket.WriteTo(datagram[:n], from)
	}
}
