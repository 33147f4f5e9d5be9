package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxFlow bounds what is kept of one direction of one connection.
const maxFlow = 32 << 20

// captured sums up what crossed a pod's interface. Lost counts packets that the kernel could not hand over.
type captured struct {
	Sent     counted   `json:"sent"`
	Received counted   `json:"received"`
	Lost     uint32    `json:"lost"`
	Found    []finding `json:"found"`
}

type counted struct {
	Packets int   `json:"packets"`
	Bytes   int64 `json:"bytes"`
}

// capture reads everything that crosses the interface of a pod, on the node's side, until its standard input ends; then it
// says which of the words were among it.
func capture(args []string) error {
	flags := flag.NewFlagSet("capture", flag.ExitOnError)
	pid := flags.Int("pid", 0, "a process of the pod, as the node numbers it")
	if err := flags.Parse(args); err != nil {
		return err
	}
	socket, err := open(*pid)
	if err != nil {
		return err
	}
	defer syscall.Close(socket)
	ended := make(chan struct{})
	go func() {
		// Whatever the error is, nobody is left to end this.
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	if err := say(map[string]bool{"open": true}); err != nil {
		return err
	}
	sum, flows, err := record(socket, ended)
	if err != nil {
		return err
	}
	// Two counters, packets and drops, are as long as an address and an interface.
	if counters, err := syscall.GetsockoptIPMreq(socket, syscall.SOL_PACKET, syscall.PACKET_STATISTICS); err == nil {
		sum.Lost = binary.NativeEndian.Uint32(counters.Interface[:])
	} else {
		return err
	}
	for _, form := range forms(flags.Args()) {
		for name, flow := range flows {
			if bytes.Contains(flow, form.bytes) {
				sum.Found = append(sum.Found, finding{form.word, form.name, name})
			}
		}
	}
	return say(sum)
}

// open gives a packet socket at the node's end of a pod's interface.
func open(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/sys/class/net/eth0/iflink", pid))
	if err != nil {
		return 0, err
	}
	index, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, err
	}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, syscall.ETH_P_ALL))
	socket, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, int(all))
	if err != nil {
		return 0, err
	}
	return socket, errors.Join(
		syscall.Bind(socket, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: index}),
		syscall.SetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, maxFlow),
		// So that the end is noticed when nothing is sent.
		syscall.SetsockoptTimeval(socket, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 100_000}),
	)
}

// record keeps the payload of each direction of each connection, in the order of arrival.
func record(socket int, ended <-chan struct{}) (captured, map[string][]byte, error) {
	sum, flows := captured{Found: []finding{}}, map[string][]byte{}
	frame := make([]byte, 1<<17)
	var deadline time.Time
	for {
		select {
		case <-ended:
			// What was sent before the end was told may still be on its way through the kernel.
			if deadline.IsZero() {
				deadline = time.Now().Add(300 * time.Millisecond)
			} else if time.Now().After(deadline) {
				return sum, flows, nil
			}
		default:
		}
		n, from, err := syscall.Recvfrom(socket, frame, 0)
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return sum, flows, err
		}
		link, ok := from.(*syscall.SockaddrLinklayer)
		if !ok {
			return sum, flows, fmt.Errorf("a packet from %T", from)
		}
		count := &sum.Sent
		if link.Pkttype == syscall.PACKET_OUTGOING {
			// Out of the node's end is into the pod.
			count = &sum.Received
		}
		count.Packets++
		count.Bytes += int64(n)
		name, payload := flow(frame[:n])
		if len(flows[name])+len(payload) > maxFlow {
			return sum, flows, fmt.Errorf("%s: more than %d bytes", name, maxFlow)
		}
		flows[name] = append(flows[name], payload...)
	}
}

// flow names the direction of the connection that a frame belongs to, and gives its payload. Whatever is not TCP over
// IPv4 is a flow of its own kind, with all of its bytes.
func flow(frame []byte) (string, []byte) {
	const ethernet, tcp = 14, 6
	other := fmt.Sprintf("%x", frame[:min(len(frame), ethernet)])
	if len(frame) < ethernet+20 || binary.BigEndian.Uint16(frame[12:]) != syscall.ETH_P_IP {
		return other, frame
	}
	packet := frame[ethernet:]
	segment := packet[min(len(packet), int(packet[0]&15)*4):]
	if packet[9] != tcp || len(segment) < 20 {
		return other, frame
	}
	payload := segment[min(len(segment), int(segment[12]>>4)*4):]
	port := binary.BigEndian.Uint16
	return fmt.Sprintf("%v:%d > %v:%d", packet[12:16], port(segment), packet[16:20], port(segment[2:])), payload
}
