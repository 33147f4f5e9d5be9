package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// attempt is what came of a try to reach somebody. Outcome: answered, refused, dropped or failed.
type attempt struct {
	Outcome string `json:"outcome"`
	Detail  string `json:"detail,omitempty"`
}

// connect tries once: a TCP connection that is completed, or a UDP question that gets any answer, has answered.
func connect(args []string) error {
	flags := flag.NewFlagSet("connect", flag.ExitOnError)
	timeout := flags.Duration("timeout", 3*time.Second, "silence that counts as dropped")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("tcp or udp and HOST:PORT are needed")
	}
	conn, err := net.DialTimeout(flags.Arg(0), flags.Arg(1), *timeout)
	if err != nil {
		return say(judge(err))
	}
	defer conn.Close()
	if flags.Arg(0) == "tcp" {
		return say(attempt{"answered", conn.RemoteAddr().String()})
	}
	if err := conn.SetDeadline(time.Now().Add(*timeout)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("clawlock?")); err != nil {
		return say(judge(err))
	}
	answer := make([]byte, 512)
	n, err := conn.Read(answer)
	if err != nil {
		return say(judge(err))
	}
	return say(attempt{"answered", fmt.Sprintf("%d bytes", n)})
}

func judge(err error) attempt {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return attempt{"dropped", err.Error()}
	case errors.Is(err, syscall.ECONNREFUSED):
		return attempt{"refused", err.Error()}
	default:
		return attempt{"failed", err.Error()}
	}
}

// accept answers on every port that it is given, by TCP and UDP.
func accept(ports []string) error {
	failed := make(chan error)
	for _, port := range ports {
		listener, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					failed <- err
					return
				}
				fmt.Fprintln(conn, "accepted")
				conn.Close()
			}
		}()
		packets, err := net.ListenPacket("udp", ":"+port)
		if err != nil {
			return err
		}
		go func() {
			question := make([]byte, 512)
			for {
				_, from, err := packets.ReadFrom(question)
				if err != nil {
					failed <- err
					return
				}
				if _, err := packets.WriteTo([]byte("accepted"), from); err != nil {
					fmt.Fprintln(os.Stderr, "accept:", err)
				}
			}
		}()
	}
	select {
	case err := <-failed:
		return err
	case <-ended():
		return nil
	}
}

// raw tries what a NetworkPolicy does not speak about, and says which error refused it.
func raw([]string) error {
	result := map[string]string{}
	try := func(name string, family, kind, protocol int) {
		fd, err := syscall.Socket(family, kind, protocol)
		if err != nil {
			result[name] = err.Error()
			return
		}
		syscall.Close(fd)
		result[name] = "open"
	}
	const vsock = 40
	try("icmp", syscall.AF_INET, syscall.SOCK_DGRAM, syscall.IPPROTO_ICMP)
	try("raw-icmp", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_ICMP)
	try("packet", syscall.AF_PACKET, syscall.SOCK_RAW, 0)
	try("vsock", vsock, syscall.SOCK_STREAM, 0)
	return say(result)
}

// stopFile tells a knock or a load in the same container to end: its output goes through a connection that cannot carry
// signals.
const stopFile = "/tmp/stop"

// knock tries again and again until it is told to stop, and sums up. Each second it says how far it is. A signal to end
// does not stop it: an agent that is being deleted may go on for as long as it is left.
func knock(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("tcp and HOST:PORT are needed")
	}
	if err := unstop(); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGTERM)
	tries, answered, said := 0, 0, time.Now()
	for {
		if stopped() {
			return say(map[string]int{"tries": tries, "answered": answered})
		}
		conn, err := net.DialTimeout(args[0], args[1], 500*time.Millisecond)
		tries++
		if err == nil {
			answered++
			conn.Close()
		}
		if time.Since(said) >= time.Second {
			said = time.Now()
			if err := say(map[string]int{"soFar": tries, "answered": answered}); err != nil {
				return err
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func unstop() error {
	if err := os.Remove(stopFile); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

func stopped() bool {
	_, err := os.Stat(stopFile)
	return err == nil
}

func stop([]string) error {
	return os.WriteFile(stopFile, nil, 0o600)
}

// leaf prints what a TLS server shows to whoever connects and asks for a name, whether it goes on with them or not.
func leaf(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("HOST:PORT and NAME are needed")
	}
	var shown *x509.Certificate
	config := &tls.Config{
		ServerName: args[1],
		NextProtos: []string{"h2"},
		// It is looked at, not believed.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			shown = state.PeerCertificates[0]
			return nil
		},
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", args[0], config)
	if err == nil {
		conn.Close()
	}
	if shown == nil {
		return fmt.Errorf("no certificate was shown: %w", err)
	}
	return say(map[string]any{
		"serial": shown.SerialNumber.String(), "issuer": shown.Issuer.CommonName,
		"notBeforeMs": shown.NotBefore.UnixMilli(), "notAfterMs": shown.NotAfter.UnixMilli(),
	})
}
