package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"time"
)

// towards is a client that sends whatever it is asked to one address, under a server name of its own choice. It believes
// every server: it is the one who attacks.
func towards(address, name string, own *tls.Certificate) *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", address)
		},
		TLSClientConfig:   hostile(name, own),
		ForceAttemptHTTP2: true,
	}}
}

func hostile(name string, own *tls.Certificate) *tls.Config {
	config := &tls.Config{InsecureSkipVerify: true, ServerName: name}
	if own != nil {
		// Sent whatever issuers the server asks for.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	}
	return config
}

// ask prints what came of a request: the status and text of an answer, or the error without one.
func ask(client *http.Client, method, url string, body []byte) error {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := client.Do(r)
	if err != nil {
		return say(outcome{Error: err.Error()})
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return say(outcome{Status: response.StatusCode, Error: err.Error()})
	}
	return say(outcome{Status: response.StatusCode, Body: string(text)})
}

// dress speaks TLS to somebody as whoever it says it is, or as nobody.
func dress(args []string) error {
	flags := flag.NewFlagSet("dress", flag.ExitOnError)
	identity := flags.String("as", "", "SPIFFE ID to put into a certificate of its own")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("HOST:PORT and a server name are needed")
	}
	var own *tls.Certificate
	if *identity != "" {
		certificate, err := forged(*identity)
		if err != nil {
			return err
		}
		own = &certificate
	}
	if reason := refused(flags.Arg(0), flags.Arg(1), own); reason != nil {
		return say(outcome{Error: reason.Error()})
	}
	return ask(towards(flags.Arg(0), flags.Arg(1), own), "GET", "https://"+flags.Arg(1)+"/", nil)
}

// refused is why the other side ends a handshake. In TLS 1.3 it judges a certificate when the client is done, and says
// so in place of its first words: who gets none within a moment was not refused.
func refused(address, name string, own *tls.Certificate) error {
	dialer := &net.Dialer{Timeout: 3 * time.Second}
	config := hostile(name, own)
	config.NextProtos = []string{"h2"}
	conn, err := tls.DialWithDialer(dialer, "tcp", address, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return err
	}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 1)); err != nil && !(errors.As(err, &timeout) && timeout.Timeout()) {
		return err
	}
	return nil
}

// post sends a body to a server under a name and path.
func post(args []string) error {
	flags := flag.NewFlagSet("post", flag.ExitOnError)
	size := flags.Int("size", 0, "spaces to send after the body")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 3 {
		return fmt.Errorf("HOST:PORT, https://NAME/PATH and a body are needed")
	}
	target, err := url.Parse(flags.Arg(1))
	if err != nil {
		return err
	}
	body := append([]byte(flags.Arg(2)), bytes.Repeat([]byte(" "), *size)...)
	return ask(towards(flags.Arg(0), target.Hostname(), nil), "POST", target.String(), body)
}

// forged is a certificate that says the right things and is signed by nobody whom the other side knows.
func forged(identity string) (tls.Certificate, error) {
	uri, err := url.Parse(identity)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: []*url.URL{uri},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// enrol asks the control API for a certificate, with a token and a signing request of some kind.
func enrol(args []string) error {
	flags := flag.NewFlagSet("enrol", flag.ExitOnError)
	kind := flags.String("csr", "good", "good, rsa, spoilt or noise")
	raw := flags.String("body", "", "body to send instead")
	size := flags.Int("size", 0, "bytes to send instead of a token")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 3 {
		return fmt.Errorf("HOST:PORT, a server name and a token are needed")
	}
	csr, err := signingRequest(*kind)
	if err != nil {
		return err
	}
	token := flags.Arg(2)
	if *size > 0 {
		token = string(bytes.Repeat([]byte("x"), *size))
	}
	body, err := json.Marshal(map[string]any{"token": token, "csr": csr})
	if err != nil {
		return err
	}
	if *raw != "" {
		body = []byte(*raw)
	}
	client := towards(flags.Arg(0), flags.Arg(1), nil)
	return ask(client, "POST", "https://"+flags.Arg(1)+"/v1/certificates", body)
}

func signingRequest(kind string) ([]byte, error) {
	var key crypto.Signer
	var err error
	if kind == "rsa" {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	// The name is not what counts: the token is.
	template := x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:masters"}}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "spoilt":
		// The last byte is of the signature: whoever asks does not have the key.
		csr[len(csr)-1] ^= 1
	case "noise":
		csr = bytes.Repeat([]byte{0x30}, 400)
	}
	return csr, nil
}
