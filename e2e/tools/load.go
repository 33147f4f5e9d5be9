package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"
)

// maxFailures bounds the failures that are printed one by one; all are counted.
const maxFailures = 50

// second is what was answered within a second.
type second struct {
	Second    int   `json:"second"`
	Answered  int   `json:"answered"`
	SlowestMs int64 `json:"slowestMs"`
}

// total sums up a load. LateMs is the most that a request was sent after its time: how far this program was from its
// rate.
type total struct {
	Sent      int   `json:"sent"`
	Ok        int   `json:"ok"`
	Failed    int   `json:"failed"`
	P50Ms     int64 `json:"p50Ms"`
	P99Ms     int64 `json:"p99Ms"`
	SlowestMs int64 `json:"slowestMs"`
	LateMs    int64 `json:"lateMs"`
	TookMs    int64 `json:"tookMs"`
}

// tally counts answers. Prints each failure, and a line a second.
type tally struct {
	mu    sync.Mutex
	now   second
	total total
	took  []int64
}

// load sends requests at a rate, whether those before are answered or not, until "stop" or the bound. They go through
// clients with connections of their own, which stay open between requests; every other one speaks HTTP/1.1 only.
func load(args []string) error {
	var a asked
	flags := a.flags("load")
	rate := flags.Int("rate", 50, "requests a second")
	bound := flags.Duration("for", 10*time.Second, "how long")
	count := flags.Int("clients", 8, "clients with connections of their own")
	timeout := flags.Duration("timeout", 10*time.Second, "bound of one request")
	if err := a.parse(flags, args); err != nil {
		return err
	}
	if *rate < 1 || *count < 1 {
		return fmt.Errorf("-rate and -clients are at least 1")
	}
	if err := unstop(); err != nil {
		return err
	}
	clients := make([]*http.Client, *count)
	for n := range clients {
		clients[n] = client(n%2 == 0)
	}
	var all tally
	var open sync.WaitGroup
	started := time.Now()
	for n := 0; ; n++ {
		at := started.Add(time.Duration(n) * time.Second / time.Duration(*rate))
		if at.Sub(started) >= *bound || n%*rate == 0 && stopped() {
			break
		}
		time.Sleep(time.Until(at))
		if n > 0 && n%*rate == 0 {
			if err := all.second(); err != nil {
				return err
			}
		}
		late := time.Since(at).Milliseconds()
		open.Go(func() { all.count(a.send(clients[n%len(clients)], *timeout), late) })
	}
	open.Wait()
	return say(all.sum(time.Since(started)))
}

// client makes one that keeps as many connections as it needs.
func client(http2 bool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 100
	if !http2 {
		transport.ForceAttemptHTTP2 = false
		transport.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
		transport.TLSClientConfig = &tls.Config{NextProtos: []string{"http/1.1"}}
	}
	return &http.Client{Transport: transport}
}

func (t *tally) count(result outcome, late int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, result.TookMs)
	t.now.Answered++
	t.now.SlowestMs = max(t.now.SlowestMs, result.TookMs)
	t.total.LateMs = max(t.total.LateMs, late)
	if result.Status == http.StatusOK {
		t.total.Ok++
		return
	}
	if t.total.Failed++; t.total.Failed <= maxFailures {
		// Nobody reads while the load runs: what the pipe holds must do.
		result.Body = ""
		_ = say(map[string]any{"failure": result})
	}
}

func (t *tally) second() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now
	t.now = second{Second: now.Second + 1}
	return say(now)
}

func (t *tally) sum(took time.Duration) total {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.total
	sum.Sent, sum.TookMs = sum.Ok+sum.Failed, took.Milliseconds()
	slices.Sort(t.took)
	if n := len(t.took); n > 0 {
		sum.P50Ms, sum.P99Ms, sum.SlowestMs = t.took[n/2], t.took[n*99/100], t.took[n-1]
	}
	return sum
}
