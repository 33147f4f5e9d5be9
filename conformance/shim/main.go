// Shim lets a test program that speaks plain HTTP/2 reach a TLS listener. It accepts plain TCP, opens TLS with ALPN h2
// to the listener for each connection, and from then on only forwards bytes, both ways, with their ends.
//
//	shim -listen 127.0.0.1:0 -to 127.0.0.1:8443 -ca ca.pem -name gateway [-cert c.pem -key k.pem] [-connect api.test:443]
//
// With -connect it first sends CONNECT for that target, as a client of a proxy does. Prints the address it listens on.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"
)

const handshakeTimeout = 10 * time.Second

type target struct {
	address string
	connect string
	config  *tls.Config
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("shim: ")
	listen := flag.String("listen", "127.0.0.1:0", "where to accept plain connections")
	to := flag.String("to", "", "the TLS listener, or the proxy before it")
	connect := flag.String("connect", "", "target of a CONNECT before TLS")
	name := flag.String("name", "", "server name to verify")
	ca := flag.String("ca", "", "PEM file of the authority to trust")
	cert := flag.String("cert", "", "PEM file of the client certificate")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()

	config, err := tlsConfig(*name, *ca, *cert, *key)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	for {
		plain, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go forward(plain.(*net.TCPConn), target{address: *to, connect: *connect, config: config})
	}
}

func tlsConfig(name, ca, cert, key string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", ca)
	}
	config := &tls.Config{ServerName: name, RootCAs: roots, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

func forward(plain *net.TCPConn, target target) {
	defer plain.Close()
	secure, err := target.open()
	if err != nil {
		log.Print(err)
		return
	}
	defer secure.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(secure, plain)
		secure.CloseWrite()
	}()
	// The listener's end of the stream is the end of both: a plain connection that stays open would look like a
	// server that does not close.
	io.Copy(plain, secure)
	plain.CloseWrite()
	secure.Close()
	<-done
}

func (t target) open() (*tls.Conn, error) {
	tcp, err := net.DialTimeout("tcp", t.address, handshakeTimeout)
	if err != nil {
		return nil, err
	}
	tcp.SetDeadline(time.Now().Add(handshakeTimeout))
	if t.connect != "" {
		if err := proxyConnect(tcp, t.connect); err != nil {
			tcp.Close()
			return nil, err
		}
	}
	secure := tls.Client(tcp, t.config)
	if err := secure.Handshake(); err != nil {
		tcp.Close()
		return nil, err
	}
	if protocol := secure.ConnectionState().NegotiatedProtocol; protocol != "h2" {
		tcp.Close()
		return nil, fmt.Errorf("the listener chose protocol %q, not h2", protocol)
	}
	tcp.SetDeadline(time.Time{})
	return secure, nil
}

func proxyConnect(tcp net.Conn, authority string) error {
	if _, err := fmt.Fprintf(tcp, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", authority, authority); err != nil {
		return err
	}
	// The server speaks second in TLS, so nothing can follow the head that this reader would keep for itself.
	answer, err := http.ReadResponse(bufio.NewReader(tcp), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("CONNECT %s: %s", authority, answer.Status)
	}
	return nil
}
