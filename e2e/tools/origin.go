package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// seen is a request as it reached the upstream, so that a test can ask which credential came with it.
type seen struct {
	Method string      `json:"method"`
	Path   string      `json:"path"`
	Query  string      `json:"query"`
	Host   string      `json:"host"`
	TLS    bool        `json:"tls"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
}

// maxSeen bounds what is kept: a load test sends more than a test ever asks for.
const maxSeen = 1000

// used says when a credential came, and how often: under load there are more requests than are kept.
type used struct {
	Count   int   `json:"count"`
	FirstMs int64 `json:"firstMs"`
	LastMs  int64 `json:"lastMs"`
}

// maxCredentials bounds how many are told apart.
const maxCredentials = 100

type upstream struct {
	mu          sync.Mutex
	seen        []seen
	credentials map[string]*used
}

func origin(args []string) error {
	flags := flag.NewFlagSet("origin", flag.ExitOnError)
	plain := flags.String("http", ":8080", "address for HTTP")
	secure := flags.String("https", ":8443", "address for HTTPS")
	cert := flags.String("cert", "/tls/tls.crt", "certificate, PEM")
	key := flags.String("key", "/tls/tls.key", "key, PEM")
	if err := flags.Parse(args); err != nil {
		return err
	}
	up := &upstream{credentials: map[string]*used{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/charges", up.record(func(w http.ResponseWriter, r *http.Request, _ string) {
		answer(w, map[string]any{"charges": []string{"ch_1", "ch_2"}})
	}))
	mux.HandleFunc("POST /v1/refunds", up.record(func(w http.ResponseWriter, r *http.Request, body string) {
		answer(w, map[string]any{"refunded": json.RawMessage(body)})
	}))
	mux.HandleFunc("GET /v1/events", up.record(events))
	// An upstream that repeats what it was sent, credential included.
	mux.HandleFunc("/echo", up.record(func(w http.ResponseWriter, r *http.Request, body string) {
		answer(w, map[string]any{"header": r.Header, "body": body})
	}))
	// What came in so far. The test asks from within this pod, never through a gateway.
	mux.HandleFunc("GET /seen", func(w http.ResponseWriter, r *http.Request) {
		up.mu.Lock()
		defer up.mu.Unlock()
		answer(w, up.seen)
	})
	mux.HandleFunc("GET /credentials", func(w http.ResponseWriter, r *http.Request) {
		up.mu.Lock()
		defer up.mu.Unlock()
		answer(w, up.credentials)
	})
	failed := make(chan error, 2)
	server := func(address string) *http.Server {
		return &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	}
	go func() { failed <- server(*plain).ListenAndServe() }()
	if _, err := os.Stat(*cert); err == nil {
		go func() { failed <- server(*secure).ListenAndServeTLS(*cert, *key) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ended():
		return nil
	}
}

func (up *upstream) record(next func(http.ResponseWriter, *http.Request, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		up.mu.Lock()
		if len(up.seen) < maxSeen {
			up.seen = append(up.seen, seen{r.Method, r.URL.Path, r.URL.RawQuery, r.Host, r.TLS != nil, r.Header, string(body)})
		}
		up.count(r.Header.Get("Authorization"))
		up.mu.Unlock()
		next(w, r, string(body))
	}
}

// count counts a credential. The lock is held.
func (up *upstream) count(credential string) {
	now := time.Now().UnixMilli()
	of := up.credentials[credential]
	if of == nil {
		if len(up.credentials) >= maxCredentials {
			return
		}
		of = &used{FirstMs: now}
		up.credentials[credential] = of
	}
	of.Count++
	of.LastMs = now
}

// events sends one event at once and one more every 100 ms, until the client is gone or there were as many as the query
// says.
func events(w http.ResponseWriter, r *http.Request, _ string) {
	wanted, err := strconv.Atoi(r.URL.Query().Get("events"))
	if err != nil {
		wanted = math.MaxInt
	}
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := range wanted {
		if _, err := fmt.Fprintf(w, "data: %d\n\n", n); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
		}
	}
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		fmt.Fprintln(os.Stderr, "origin:", err)
	}
}
