package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// try runs an attempt and fails the test on a mistake in its arguments.
func try(t *testing.T, name string, args ...string) *result {
	t.Helper()
	r, err := attempts[name](args)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func expect(t *testing.T, r *result, want Outcome) {
	t.Helper()
	if r.Outcome != want {
		t.Errorf("%s %s: %s (%s), not %s", r.Attempt, r.Target, r.Outcome, r.Detail, want)
	}
}

// echoing is the address of an echo server.
func echoing(t *testing.T, kind string) string {
	t.Helper()
	if kind == "udp" {
		socket, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { socket.Close() })
		go echoDatagrams(socket)
		return socket.LocalAddr().String()
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go echoStreams(listener)
	return listener.Addr().String()
}

// closed is a TCP port of this machine on which nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func TestTCPConnectsAndExchanges(t *testing.T) {
	address := echoing(t, "tcp")
	expect(t, try(t, "tcp", address), Connected)
	r := try(t, "tcp", "--send=hello", address)
	expect(t, r, Answered)
	if r.Body != "hello" {
		t.Errorf("the answer is %q", r.Body)
	}
}

func TestUDPSucceedsOnlyWithAnAnswer(t *testing.T) {
	expect(t, try(t, "udp", echoing(t, "udp")), Answered)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	expect(t, try(t, "udp", socket.LocalAddr().String(), "--timeout=50ms"), Timeout)
}

func TestAClosedPortIsRefusedAndNotDropped(t *testing.T) {
	expect(t, try(t, "tcp", closed(t)), Refused)
	expect(t, try(t, "get", "http://"+closed(t), "--direct"), Refused)
}

func TestAServerThatStaysSilentIsATimeout(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	expect(t, try(t, "get", "http://"+listener.Addr().String(), "--direct", "--timeout=50ms"), Timeout)
	expect(t, try(t, "tcp", listener.Addr().String(), "--send=x", "--timeout=50ms"), Timeout)
}

func TestASilentNameServerIsATimeoutAndNoMissingName(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	expect(t, try(t, "dns", "name.example.", "--server="+socket.LocalAddr().String(), "--timeout=50ms"), Timeout)
}

func TestGetTellsStatusHeadersAndBody(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.Method+" "+r.Header.Get("X-Sent")+" "+r.Host)
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("no"))
	}))
	defer server.Close()
	r := try(t, "get", server.URL, "--direct", "--method=POST", "--data=x", "--header=X-Sent: y", "--header=Host: h")
	expect(t, r, Answered)
	if r.Status != http.StatusForbidden || r.Body != "no" || r.Headers["X-Seen"] != "POST y h" {
		t.Errorf("%+v", r)
	}
}

func TestGetDoesNotFollowRedirects(t *testing.T) {
	server := httptest.NewServer(http.RedirectHandler("http://elsewhere.invalid/", http.StatusFound))
	defer server.Close()
	if r := try(t, "get", server.URL, "--direct"); r.Status != http.StatusFound {
		t.Errorf("%+v", r)
	}
}

func TestGetVerifiesTLSUnlessToldNotTo(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	expect(t, try(t, "get", server.URL, "--direct"), Failed)
	expect(t, try(t, "get", server.URL, "--direct", "--insecure"), Answered)
}

func TestMistakesInArgumentsAreNoOutcome(t *testing.T) {
	for name, args := range map[string][]string{
		"tcp": {}, "udp": {"a:1", "b:2"}, "dns": {"--unknown", "x"}, "icmp": {"name.example"}, "raw": {"x"},
		"get": {"http://h", "--header=none"},
	} {
		if _, err := attempts[name](args); err == nil {
			t.Errorf("%s %v was tried", name, args)
		}
	}
	for _, args := range [][]string{nil, {"sleep"}, {"--every=0s", "raw"}} {
		if err := repeat(args); err == nil {
			t.Errorf("repeat %v ran", args)
		}
	}
}

func TestEveryFailureHasAnExitCodeOfItsOwn(t *testing.T) {
	seen := map[int]Outcome{}
	for outcome, code := range codes {
		if code == 1 || code == exitUsage {
			t.Errorf("%s looks like a crash or a mistake", outcome)
		}
		if other, taken := seen[code]; taken && code != 0 {
			t.Errorf("%s and %s", outcome, other)
		}
		seen[code] = outcome
	}
}

func TestARepetitionCountsOutcomes(t *testing.T) {
	s := &summary{Outcomes: map[Outcome]int{}, Statuses: map[int]int{}}
	for _, r := range []*result{
		{Outcome: Answered, Status: 200, Millis: 5}, {Outcome: Answered, Status: 503}, {Outcome: Timeout, Millis: 9},
	} {
		s.add(r)
	}
	if s.Attempts != 3 || s.Outcomes[Answered] != 2 || s.Statuses[503] != 1 || s.Slowest != 9 {
		t.Errorf("%+v", s)
	}
}

func TestARepetitionEnds(t *testing.T) {
	tries := 0
	err := repeatedly(func() (*result, error) {
		tries++
		return begin("tcp", "x").end(Timeout, ""), nil
	}, time.Millisecond, 20*time.Millisecond)
	if err != nil || tries == 0 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

func TestFilesAreSearchedWhole(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte(strings.Repeat("x", 1<<20)+"canary"), 0o600); err != nil {
		t.Fatal(err)
	}
	content, err := head(filepath.Join(dir, "a"))
	if err != nil || !strings.HasSuffix(string(content), "canary") {
		t.Errorf("%d bytes, %v", len(content), err)
	}
	if err := walk([]string{filepath.Join(dir, "missing")}, nil); err == nil {
		t.Error("a path that is not there was searched")
	}
}

func TestTheChecksumOfAnEchoRequestIsRight(t *testing.T) {
	// A message with its checksum sums up to nothing.
	if sum := checksum(echo()); sum != 0 {
		t.Errorf("%#x", sum)
	}
}
