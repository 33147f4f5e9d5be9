package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
)

// nft gives one transaction to the kernel: all of it, or nothing changes.
func nft(ruleset string) error {
	command := exec.Command("nft", "-f", "-")
	command.Stdin = strings.NewReader(ruleset)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft refuses the ruleset: %w: %s", err, out)
	}
	return nil
}

// podCIDR is the IPv4 network of a node's pods, "" as long as it has none.
func podCIDR(node string, nodes []*corev1.Node) string {
	for _, n := range nodes {
		if n.Name == node {
			return n.Spec.PodCIDR
		}
	}
	return ""
}

// internalIP is a node's IPv4 address; false when it has not reported one.
func internalIP(node *corev1.Node) (netip.Addr, bool) {
	for _, a := range node.Status.Addresses {
		if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP && ip.Is4() {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// Masquerade is the transaction that lets a node's pods reach addresses beyond the cluster, by the node's own address:
// nothing out there has a route to a pod. Inside of the cluster the pods' addresses stay, policies need them.
func Masquerade(node string, nodes []*corev1.Node) string {
	own := podCIDR(node, nodes)
	if own == "" {
		return ""
	}
	var inside []string
	for _, n := range nodes {
		if n.Spec.PodCIDR != "" {
			inside = append(inside, n.Spec.PodCIDR)
		}
		if ip, ok := internalIP(n); ok {
			inside = append(inside, ip.String())
		}
	}
	sort.Strings(inside)
	return fmt.Sprintf(`table inet %[1]s {}
delete table inet %[1]s
table inet %[1]s {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr %[2]s ip daddr != { %[3]s } masquerade
  }
}
`, natTable, own, strings.Join(inside, ", "))
}

// setRoutes keeps a route to every other node's pods. Routes of nodes that are gone stay: the cluster's nodes are
// fixed when it is made.
func setRoutes(node string, nodes []*corev1.Node) error {
	var failed []error
	for _, n := range nodes {
		via, ok := internalIP(n)
		if n.Name == node || n.Spec.PodCIDR == "" || !ok {
			continue
		}
		_, to, err := net.ParseCIDR(n.Spec.PodCIDR)
		if err == nil {
			err = netlink.RouteReplace(&netlink.Route{Dst: to, Gw: via.AsSlice()})
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("route to the pods of node %s: %w", n.Name, err))
		}
	}
	return errors.Join(failed...)
}

// cniConf is the CNI configuration of a node: point-to-point links, so that every packet of a pod is routed and passes
// the hooks of the filter.
func cniConf(cidr string) ([]byte, error) {
	type object = map[string]any
	return json.Marshal(object{"cniVersion": "0.4.0", "name": "pods", "plugins": []object{
		{"type": "ptp", "ipMasq": false, "ipam": object{
			"type": "host-local", "dataDir": "/run/cni-ipam",
			"ranges": [][]object{{{"subnet": cidr}}}, "routes": []object{{"dst": "0.0.0.0/0"}},
		}},
		{"type": "portmap", "capabilities": object{"portMappings": true}},
	}})
}

// writeCNIConf makes the node able to run pods; nothing is done as long as its network is not known.
func writeCNIConf(path, cidr string) error {
	if cidr == "" {
		return nil
	}
	wanted, err := cniConf(cidr)
	if err != nil {
		return err
	}
	if present, err := os.ReadFile(path); err == nil && string(present) == string(wanted) {
		return nil
	}
	// The kubelet reads any .conflist that appears: write beside it under another name, then rename.
	part := filepath.Join(filepath.Dir(path), ".netpol.part")
	if err := os.WriteFile(part, wanted, 0o644); err != nil {
		return err
	}
	return os.Rename(part, path)
}
