package main

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// Outcome is what came of an attempt.
type Outcome string

const (
	Connected   Outcome = "connected"   // TCP: the other side accepted
	Answered    Outcome = "answered"    // the other side sent something
	Timeout     Outcome = "timeout"     // silence: what a dropped packet looks like
	Refused     Outcome = "refused"     // the other side, or something on the way, said no
	Unreachable Outcome = "unreachable" // no way there
	Forbidden   Outcome = "forbidden"   // this side's kernel said no
	Unresolved  Outcome = "unresolved"  // the name has no address
	Failed      Outcome = "failed"      // anything else; see detail
)

// The exit codes. 1 and 2 are left to what is no outcome: a crash, a mistake in the arguments.
const exitUsage = 2

var codes = map[Outcome]int{
	Connected: 0, Answered: 0, Timeout: 10, Refused: 11, Unreachable: 12, Forbidden: 13, Unresolved: 14, Failed: 15,
}

func (o Outcome) code() int { return codes[o] }

// result is the line that an attempt prints.
type result struct {
	Attempt string  `json:"attempt"`
	Target  string  `json:"target"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail,omitempty"`
	Millis  int64   `json:"ms"`
	Status  int     `json:"status,omitempty"`
	Body    string  `json:"body,omitempty"`
	Local   string  `json:"local,omitempty"`
	// The answer's headers, by their canonical names.
	Headers map[string]string `json:"headers,omitempty"`

	started time.Time
}

func begin(attempt, target string) *result {
	return &result{Attempt: attempt, Target: target, started: time.Now()}
}

func (r *result) print() { printJSON(r) }

func (r *result) end(o Outcome, detail string) *result {
	r.Outcome, r.Detail, r.Millis = o, detail, time.Since(r.started).Milliseconds()
	return r
}

// endWith ends with what an error means.
func (r *result) endWith(err error) *result { return r.end(outcomeOf(err), err.Error()) }

func outcomeOf(err error) Outcome {
	var dns *net.DNSError
	var network net.Error
	switch {
	// A name server that stays silent is a timeout, not a name that does not exist: ask for the cause first.
	case errors.As(err, &dns) && !dns.IsTimeout:
		return Unresolved
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return Forbidden
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return Refused
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return Unreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		return Timeout
	default:
		return Failed
	}
}
