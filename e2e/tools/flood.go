package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"sync"
	"time"
)

// flood opens as many TLS connections to a server as it gets, says how many these are, and holds them for a while.
func flood(args []string) error {
	flags := flag.NewFlagSet("flood", flag.ExitOnError)
	tries := flags.Int("n", 100, "connections to try, all at once")
	hold := flags.Duration("for", time.Minute, "how long to hold them")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("HOST:PORT and a server name are needed")
	}
	var mu sync.Mutex
	var open []net.Conn
	var trying sync.WaitGroup
	for range *tries {
		trying.Go(func() {
			dialer := &net.Dialer{Timeout: 5 * time.Second}
			conn, err := tls.DialWithDialer(dialer, "tcp", flags.Arg(0), hostile(flags.Arg(1), nil))
			if err != nil {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			open = append(open, conn)
		})
	}
	trying.Wait()
	if err := say(map[string]int{"tried": *tries, "open": len(open)}); err != nil {
		return err
	}
	select {
	case <-time.After(*hold):
	case <-ended():
	}
	for _, conn := range open {
		conn.Close()
	}
	return nil
}
