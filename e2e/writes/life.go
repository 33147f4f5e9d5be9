package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// kubeconfig is the client's only way to the API server. Each life has a port of its own, so that nothing of a life
// that is over arrives in the next one.
const kubeconfig = `apiVersion: v1
kind: Config
current-context: writes
contexts: [{name: writes, context: {cluster: writes, user: client}}]
clusters: [{name: writes, cluster: {server: "http://%s"}}]
users: [{name: client, user: {token: %q}}]
`

// life is one process of the client, from its start until it is killed.
type life struct {
	number    int
	book      *book
	target    *url.URL
	transport http.RoundTripper
	command   *exec.Cmd
	server    *http.Server
	// done is closed when the process is gone.
	done chan struct{}

	// mu is held by one write at a time, so that none is made beside or after the one that kills.
	mu     sync.Mutex
	killed bool
}

var errKilled = errors.New("the client is dead")

type aWrite struct{}

func (l *life) start(program []string, token, config string, log io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	text := fmt.Sprintf(kubeconfig, listener.Addr(), token)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(l.target) },
		Transport:      l.transport,
		FlushInterval:  -1, // watches
		ModifyResponse: l.answered,
		// Whatever went wrong, the client sees a connection that breaks, as it would without anybody in between.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	l.server = &http.Server{Handler: l.forward(proxy)}
	go l.server.Serve(listener)
	l.command = exec.Command(program[0], program[1:]...)
	l.command.Env = []string{"KUBECONFIG=" + config}
	l.command.Stdout, l.command.Stderr = log, log
	if err := l.command.Start(); err != nil {
		return err
	}
	go func() {
		l.command.Wait()
		l.server.Close()
		close(l.done)
	}()
	return nil
}

func (l *life) forward(proxy http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isWrite(r) {
			proxy.ServeHTTP(w, r)
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.killed {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), aWrite{}, true)))
	})
}

// answered looks at an answer of the API server before the client does.
func (l *life) answered(response *http.Response) error {
	request := response.Request
	if request.Context().Value(aWrite{}) == nil || response.StatusCode >= 300 {
		return nil
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(answer))
	kills, err := l.book.note(l.number, request.Method, request.URL.Path, answer)
	if err != nil || !kills {
		return err
	}
	// The lock is held, by forward.
	l.killed = true
	if err := l.command.Process.Kill(); err != nil {
		return err
	}
	<-l.done
	return errKilled
}

func (l *life) isKilled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.killed
}

// end asks the client to end, and makes it.
func (l *life) end(within time.Duration) error {
	if err := l.command.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-l.done:
		return nil
	case <-time.After(within):
	}
	if err := l.command.Process.Kill(); err != nil {
		return err
	}
	<-l.done
	return nil
}
