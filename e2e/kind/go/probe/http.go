package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

// headers collects --header=NAME:VALUE.
type headers http.Header

func (h headers) String() string { return "" }

func (h headers) Set(text string) error {
	name, value, ok := strings.Cut(text, ":")
	if !ok {
		return fmt.Errorf("a header is NAME:VALUE, not %q", text)
	}
	http.Header(h).Add(strings.TrimSpace(name), strings.TrimSpace(value))
	return nil
}

func tryGet(args []string) (*result, error) {
	f := flag.NewFlagSet("get", flag.ContinueOnError)
	timeout := f.Duration("timeout", defaultTimeout, "")
	method := f.String("method", http.MethodGet, "")
	data := f.String("data", "", "")
	ca := f.String("ca", "", "")
	insecure := f.Bool("insecure", false, "")
	direct := f.Bool("direct", false, "")
	set := headers{}
	f.Var(set, "header", "")
	target, err := options(f, args)
	if err != nil {
		return nil, err
	}
	transport, err := transport(*ca, *insecure, *direct)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, *method, target, strings.NewReader(*data))
	if err != nil {
		return nil, err
	}
	request.Header = http.Header(set)
	if host := request.Header.Get("Host"); host != "" {
		request.Host = host
	}
	// Redirects are answers: following one would try something else than what was asked.
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return get(client, request, begin("get", target)), nil
}

func get(client http.Client, request *http.Request, r *result) *result {
	answer, err := client.Do(request)
	if err != nil {
		return r.endWith(err)
	}
	defer answer.Body.Close()
	r.Status = answer.StatusCode
	r.Headers = map[string]string{}
	for name, values := range answer.Header {
		r.Headers[name] = strings.Join(values, ", ")
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	r.Body = string(body)
	if err != nil {
		return r.endWith(err)
	}
	return r.end(Answered, "")
}

func transport(ca string, insecure, direct bool) (*http.Transport, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		// A probe that is asked to do without verification says so on its command line, where a reader sees it.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: insecure},
		ForceAttemptHTTP2: true,
	}
	if direct {
		t.Proxy = nil
	}
	if ca == "" {
		return t, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	return t, nil
}
