package main

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestOnlyWhatLeavesTheClusterIsMasqueraded(t *testing.T) {
	rules := Masquerade(thisNode, world().Nodes)
	expectChain(t, rules, "postrouting", "type nat hook postrouting priority srcnat; policy accept;",
		"ip saddr 10.1.0.0/24 ip daddr != { 10.1.0.0/24, 10.2.0.0/24, 192.0.2.1, 192.0.2.2 } masquerade")
	checkWithNft(t, rules)
}

func TestANodeWithoutANetworkIsLeftAlone(t *testing.T) {
	nodes := []*corev1.Node{node(thisNode, "", "192.0.2.1")}
	if rules := Masquerade(thisNode, nodes); rules != "" {
		t.Errorf("rules without a network:\n%s", rules)
	}
	path := filepath.Join(t.TempDir(), "10-netpol.conflist")
	if err := writeCNIConf(path, podCIDR(thisNode, nodes)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a CNI configuration was written without a network")
	}
}

func TestTheCNIConfigurationFollowsTheNetworkOfTheNode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "10-netpol.conflist")
	for _, cidr := range []string{"10.1.0.0/24", "10.9.0.0/24"} {
		if err := writeCNIConf(path, cidr); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := cniConf(cidr)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s holds %s", path, got)
		}
	}
}

func TestANodeIsReachedByItsIPv4Address(t *testing.T) {
	n := node(thisNode, "10.1.0.0/24", "fd00::1")
	if _, ok := internalIP(n); ok {
		t.Error("an IPv6 address was taken for the way to an IPv4 network")
	}
	n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.0.2.1"})
	if ip, ok := internalIP(n); !ok || ip.String() != "192.0.2.1" {
		t.Error("the IPv4 address was not found")
	}
}
