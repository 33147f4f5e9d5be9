package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// echoRequest is the ICMP type of a ping.
const echoRequest = 8

// tryICMP sends a ping by each kind of socket that this process may open.
func tryICMP(args []string) (*result, error) {
	f := flag.NewFlagSet("icmp", flag.ContinueOnError)
	timeout := f.Duration("timeout", defaultTimeout, "")
	target, err := options(f, args)
	if err != nil {
		return nil, err
	}
	address, err := netip.ParseAddr(target)
	if err != nil || !address.Is4() {
		return nil, fmt.Errorf("%q is no IPv4 address", target)
	}
	r := begin("icmp", target)
	var details []string
	best := Forbidden
	for _, kind := range []struct {
		name   string
		number int
	}{{"raw", syscall.SOCK_RAW}, {"ping", syscall.SOCK_DGRAM}} {
		outcome, detail := ping(address, kind.number, *timeout)
		details = append(details, fmt.Sprintf("%s socket: %s", kind.name, detail))
		if outcome == Answered || best == Forbidden {
			best = outcome
		}
	}
	return r.end(best, strings.Join(details, "; ")), nil
}

func ping(to netip.Addr, kind int, timeout time.Duration) (Outcome, string) {
	socket, err := syscall.Socket(syscall.AF_INET, kind|syscall.SOCK_CLOEXEC, syscall.IPPROTO_ICMP)
	if err != nil {
		return outcomeOf(err), "open: " + err.Error()
	}
	defer syscall.Close(socket)
	wait := syscall.NsecToTimeval(timeout.Nanoseconds())
	if err := syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &wait); err != nil {
		return Failed, err.Error()
	}
	destination := &syscall.SockaddrInet4{Addr: to.As4()}
	// Connected, a socket hears only its peer. A raw one would still hear the peer's other ICMP.
	if err := syscall.Connect(socket, destination); err != nil {
		return outcomeOf(err), "connect: " + err.Error()
	}
	if _, err := syscall.Write(socket, echo()); err != nil {
		return outcomeOf(err), "send: " + err.Error()
	}
	answer := make([]byte, 1500)
	n, err := syscall.Read(socket, answer)
	if err == syscall.EAGAIN {
		return Timeout, "sent, no answer"
	}
	if err != nil {
		return outcomeOf(err), "receive: " + err.Error()
	}
	return Answered, fmt.Sprintf("%d bytes came back", n)
}

// echo is an echo request without content.
func echo() []byte {
	message := make([]byte, 8)
	message[0] = echoRequest
	binary.BigEndian.PutUint16(message[4:], 1) // identifier; the kernel sets its own for a ping socket
	binary.BigEndian.PutUint16(message[6:], 1) // sequence
	binary.BigEndian.PutUint16(message[2:], checksum(message))
	return message
}

// checksum of RFC 1071, of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// tryRaw opens what would go around a filter that knows TCP and UDP only, and sends nothing.
func tryRaw(args []string) (*result, error) {
	if len(args) != 0 {
		return nil, fmt.Errorf("no arguments are known")
	}
	r := begin("raw", "sockets")
	outcome := Forbidden
	var details []string
	for _, kind := range []struct {
		name                     string
		domain, number, protocol int
	}{
		{"IPv4 raw", syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW},
		{"IPv6 raw", syscall.AF_INET6, syscall.SOCK_RAW, syscall.IPPROTO_RAW},
		{"packet", syscall.AF_PACKET, syscall.SOCK_RAW, 0},
	} {
		socket, err := syscall.Socket(kind.domain, kind.number, kind.protocol)
		if err != nil {
			details = append(details, fmt.Sprintf("%s: %v", kind.name, err))
			continue
		}
		syscall.Close(socket)
		outcome = Connected
		details = append(details, kind.name+": open")
	}
	return r.end(outcome, strings.Join(details, "; ")), nil
}
