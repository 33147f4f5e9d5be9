package main

import (
	"fmt"
	"net/netip"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// direction is the side of the connection on which a pod is isolated.
type direction struct {
	prefix string // of the names of its chains
	pod    string // the address field of a packet that holds the isolated pod
	peer   string // the address field that holds the other side
}

var (
	ingress = direction{prefix: "in", pod: "daddr", peer: "saddr"}
	egress  = direction{prefix: "eg", pod: "saddr", peer: "daddr"}
)

// rule is one rule of a policy, the same for both directions.
type rule struct {
	peers []netv1.NetworkPolicyPeer
	ports []netv1.NetworkPolicyPort
}

// rulesFor gives the rules of a policy in one direction, and whether it isolates in that direction at all.
func (d direction) rulesFor(policy *netv1.NetworkPolicy) ([]rule, bool) {
	var rules []rule
	kind := netv1.PolicyTypeIngress
	if d == ingress {
		for _, r := range policy.Spec.Ingress {
			rules = append(rules, rule{r.From, r.Ports})
		}
	} else {
		kind = netv1.PolicyTypeEgress
		for _, r := range policy.Spec.Egress {
			rules = append(rules, rule{r.To, r.Ports})
		}
	}
	for _, t := range policy.Spec.PolicyTypes {
		if t == kind {
			return rules, true
		}
	}
	return nil, false
}

// matches are the nft expressions that let a packet of pod through by one rule of a policy in namespace.
func (d direction) matches(c *Cluster, namespace string, r rule, pod *corev1.Pod) []string {
	if len(r.peers) == 0 {
		found := d.withPorts("", r.ports, pod)
		return append(found, d.namedPorts(c.Pods, r.ports)...)
	}
	var found []string
	for i := range r.peers {
		peer := &r.peers[i]
		if peer.IPBlock != nil {
			if block, ok := d.block(peer.IPBlock); ok {
				found = append(found, d.withPorts(block, r.ports, pod)...)
			}
			continue
		}
		pods := c.selected(namespace, peer)
		for _, set := range d.sets(pods) {
			found = append(found, d.withPorts(set, r.ports, pod)...)
		}
		found = append(found, d.namedPorts(pods, r.ports)...)
	}
	return found
}

// withPorts combines a match of the peer with each port. A named port is one of the pod that receives: for ingress
// the isolated pod itself, for egress each peer (see namedPorts).
func (d direction) withPorts(peer string, ports []netv1.NetworkPolicyPort, pod *corev1.Pod) []string {
	if len(ports) == 0 {
		return []string{peer}
	}
	var found []string
	for _, port := range ports {
		protocol := protocolOf(port)
		switch {
		case port.Port == nil:
			found = append(found, join(peer, "meta l4proto "+protocol))
		case port.Port.Type == intstr.String:
			if number, ok := containerPort(pod, port.Port.StrVal, protocol); ok && d == ingress {
				found = append(found, join(peer, fmt.Sprintf("%s dport %d", protocol, number)))
			}
		case port.EndPort != nil:
			found = append(found, join(peer, fmt.Sprintf("%s dport %d-%d", protocol, port.Port.IntVal, *port.EndPort)))
		default:
			found = append(found, join(peer, fmt.Sprintf("%s dport %d", protocol, port.Port.IntVal)))
		}
	}
	return found
}

// namedPorts are the matches of an egress rule's named ports, which have another number on each peer.
func (d direction) namedPorts(peers []*corev1.Pod, ports []netv1.NetworkPolicyPort) []string {
	if d != egress {
		return nil
	}
	var found []string
	for _, port := range ports {
		if port.Port == nil || port.Port.Type != intstr.String {
			continue
		}
		protocol := protocolOf(port)
		for _, peer := range peers {
			number, ok := containerPort(peer, port.Port.StrVal, protocol)
			if !ok {
				continue
			}
			for _, address := range addresses(peer) {
				found = append(found, fmt.Sprintf("%s daddr %s %s dport %d", family(address), address, protocol, number))
			}
		}
	}
	return found
}

// block matches an ipBlock; false for one that cannot be read, which then allows nothing.
func (d direction) block(b *netv1.IPBlock) (string, bool) {
	cidr, err := netip.ParsePrefix(b.CIDR)
	if err != nil {
		return "", false
	}
	field := family(cidr.Addr()) + " " + d.peer
	match := fmt.Sprintf("%s %s", field, cidr.Masked())
	var except []string
	for _, e := range b.Except {
		not, err := netip.ParsePrefix(e)
		if err != nil {
			return "", false
		}
		except = append(except, not.Masked().String())
	}
	if len(except) > 0 {
		match += fmt.Sprintf(" %s != { %s }", field, strings.Join(except, ", "))
	}
	return match, true
}

// sets matches the addresses of pods, one match for each family that they have.
func (d direction) sets(pods []*corev1.Pod) []string {
	byFamily := map[string]map[string]bool{"ip": {}, "ip6": {}}
	for _, pod := range pods {
		for _, address := range addresses(pod) {
			byFamily[family(address)][address.String()] = true
		}
	}
	var found []string
	for _, f := range []string{"ip", "ip6"} {
		if len(byFamily[f]) == 0 {
			continue
		}
		var members []string
		for address := range byFamily[f] {
			members = append(members, address)
		}
		sort.Strings(members)
		found = append(found, fmt.Sprintf("%s %s { %s }", f, d.peer, strings.Join(members, ", ")))
	}
	return found
}

func protocolOf(port netv1.NetworkPolicyPort) string {
	if port.Protocol == nil {
		return "tcp"
	}
	return strings.ToLower(string(*port.Protocol))
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "ip"
	}
	return "ip6"
}

func join(words ...string) string {
	var set []string
	for _, w := range words {
		if w != "" {
			set = append(set, w)
		}
	}
	return strings.Join(set, " ")
}
