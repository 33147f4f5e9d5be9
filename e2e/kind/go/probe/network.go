package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"strings"
	"time"
)

const (
	// defaultTimeout is what a dropped packet costs: longer than one lost SYN and its repetition.
	defaultTimeout = 3 * time.Second
	// maxAnswer bounds what of an answer is read and shown.
	maxAnswer = 64 << 10
)

// options parses the options of an attempt and its one target; they may stand in any order.
func options(f *flag.FlagSet, args []string) (string, error) {
	f.Init(f.Name(), flag.ContinueOnError)
	f.Usage = func() {}
	var rest []string
	for len(args) > 0 {
		if err := f.Parse(args); err != nil {
			return "", err
		}
		args = f.Args()
		if len(args) > 0 {
			rest, args = append(rest, args[0]), args[1:]
		}
	}
	if len(rest) != 1 {
		return "", fmt.Errorf("one target is needed, not %d: %s", len(rest), strings.Join(rest, " "))
	}
	return rest[0], nil
}

func tryTCP(args []string) (*result, error) {
	f := flag.NewFlagSet("tcp", flag.ContinueOnError)
	timeout := f.Duration("timeout", defaultTimeout, "")
	send := f.String("send", "", "")
	target, err := options(f, args)
	if err != nil {
		return nil, err
	}
	r := begin("tcp", target)
	connection, err := net.DialTimeout("tcp", target, *timeout)
	if err != nil {
		return r.endWith(err), nil
	}
	defer connection.Close()
	r.Local = connection.LocalAddr().String()
	if *send == "" {
		return r.end(Connected, ""), nil
	}
	return r.exchange(connection, *send, *timeout), nil
}

func tryUDP(args []string) (*result, error) {
	f := flag.NewFlagSet("udp", flag.ContinueOnError)
	timeout := f.Duration("timeout", defaultTimeout, "")
	send := f.String("send", "probe", "")
	target, err := options(f, args)
	if err != nil {
		return nil, err
	}
	r := begin("udp", target)
	connection, err := net.DialTimeout("udp", target, *timeout)
	if err != nil {
		return r.endWith(err), nil
	}
	defer connection.Close()
	r.Local = connection.LocalAddr().String()
	return r.exchange(connection, *send, *timeout), nil
}

// exchange sends once and ends with the first bytes that come back.
func (r *result) exchange(connection net.Conn, send string, timeout time.Duration) *result {
	if err := connection.SetDeadline(time.Now().Add(timeout)); err != nil {
		return r.endWith(err)
	}
	if _, err := connection.Write([]byte(send)); err != nil {
		return r.endWith(err)
	}
	answer := make([]byte, maxAnswer)
	n, err := connection.Read(answer)
	if err != nil {
		return r.endWith(err)
	}
	r.Body = string(answer[:n])
	return r.end(Answered, "")
}

func tryDNS(args []string) (*result, error) {
	f := flag.NewFlagSet("dns", flag.ContinueOnError)
	timeout := f.Duration("timeout", defaultTimeout, "")
	server := f.String("server", "", "")
	tcp := f.Bool("tcp", false, "")
	name, err := options(f, args)
	if err != nil {
		return nil, err
	}
	resolver := &net.Resolver{PreferGo: true}
	resolver.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if *tcp {
			network = "tcp"
		}
		if *server != "" {
			address = *server
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	r := begin("dns", name)
	found, err := resolver.LookupHost(ctx, name)
	if err != nil {
		return r.endWith(err), nil
	}
	r.Body = strings.Join(found, " ")
	return r.end(Answered, ""), nil
}
