package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxBody bounds what is read of an answer.
const maxBody = 1 << 20

// asked is what a request is made of.
type asked struct {
	method  string
	url     string
	body    string
	headers []string
}

// outcome is what came of a request. Code and Rule are those of a denial's problem document.
type outcome struct {
	AtMs   int64  `json:"atMs"`
	TookMs int64  `json:"tookMs"`
	Status int    `json:"status"`
	Code   string `json:"code,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Body   string `json:"body,omitempty"`
	Error  string `json:"error,omitempty"`
}

func (a *asked) flags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.StringVar(&a.method, "X", "GET", "method")
	flags.StringVar(&a.body, "d", "", "body, sent as JSON")
	flags.Func("H", "header NAME: VALUE; may be repeated", func(h string) error {
		a.headers = append(a.headers, h)
		return nil
	})
	return flags
}

func (a *asked) parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("one URL is needed, not %d", flags.NArg())
	}
	a.url = flags.Arg(0)
	return nil
}

func (a *asked) request(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	if a.body != "" {
		body = strings.NewReader(a.body)
	}
	r, err := http.NewRequestWithContext(ctx, a.method, a.url, body)
	if err != nil {
		return nil, err
	}
	if a.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, header := range a.headers {
		name, value, _ := strings.Cut(header, ":")
		r.Header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return r, nil
}

func (a *asked) send(client *http.Client, timeout time.Duration) outcome {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	started := time.Now()
	result := outcome{AtMs: started.UnixMilli()}
	failed := func(err error) outcome {
		result.Error, result.TookMs = err.Error(), time.Since(started).Milliseconds()
		return result
	}
	r, err := a.request(ctx)
	if err != nil {
		return failed(err)
	}
	response, err := client.Do(r)
	if err != nil {
		return failed(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return failed(err)
	}
	result.Status, result.Body, result.TookMs = response.StatusCode, string(body), time.Since(started).Milliseconds()
	var problem struct{ Code, Rule string }
	if response.StatusCode >= 400 && json.Unmarshal(body, &problem) == nil {
		result.Code, result.Rule = problem.Code, problem.Rule
	}
	return result
}

func request(args []string) error {
	var a asked
	flags := a.flags("request")
	timeout := flags.Duration("timeout", 10*time.Second, "bound of the whole request")
	if err := a.parse(flags, args); err != nil {
		return err
	}
	return say(a.send(http.DefaultClient, *timeout))
}

func poll(args []string) error {
	var a asked
	flags := a.flags("poll")
	every := flags.Duration("every", 5*time.Millisecond, "pause between requests")
	bound := flags.Duration("for", time.Minute, "when to end")
	if err := a.parse(flags, args); err != nil {
		return err
	}
	last := ""
	for end := time.Now().Add(*bound); time.Now().Before(end); time.Sleep(*every) {
		result := a.send(http.DefaultClient, 5*time.Second)
		if now := fmt.Sprint(result.Status, result.Code, result.Rule, result.Error != ""); now != last {
			last = now
			if err := say(result); err != nil {
				return err
			}
		}
	}
	return nil
}

// stream prints one line when the stream is open, and one when it has ended. Whole says that the events were numbered
// from 0 on, none was missing, and the server ended the stream.
func stream(args []string) error {
	var a asked
	if err := a.parse(a.flags("stream"), args); err != nil {
		return err
	}
	r, err := a.request(context.Background())
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	events, ordered := 0, true
	for lines.Scan() {
		if lines.Text() == "" {
			continue
		}
		ordered = ordered && lines.Text() == fmt.Sprint("data: ", events)
		if events++; events == 1 {
			if err := say(map[string]any{"open": true, "status": response.StatusCode, "atMs": time.Now().UnixMilli(), "first": lines.Text()}); err != nil {
				return err
			}
		}
	}
	why := "end of stream"
	if lines.Err() != nil {
		why = lines.Err().Error()
	}
	whole := ordered && lines.Err() == nil
	return say(map[string]any{"open": false, "events": events, "whole": whole, "atMs": time.Now().UnixMilli(), "why": why})
}

// decide asks for a tool call as an agent's plugin does.
func decide(args []string) error {
	flags := flag.NewFlagSet("decide", flag.ExitOnError)
	socket := flags.String("socket", "/run/clawlock/agent/decide.sock", "Unix socket")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("TOOL and ARGS (JSON) are needed")
	}
	body, err := json.Marshal(map[string]any{
		"version": 1, "requestId": fmt.Sprint("e2e-", time.Now().UnixNano()),
		"tool": flags.Arg(0), "args": json.RawMessage(flags.Arg(1)),
	})
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", *socket)
		},
	}}
	a := asked{method: "POST", url: "http://localhost/v1/decide", body: string(body)}
	return say(a.send(client, 5*time.Second))
}
