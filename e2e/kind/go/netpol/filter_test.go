package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// chainOf is the body of a chain, one rule a line.
func chainOf(t *testing.T, ruleset, name string) []string {
	t.Helper()
	_, rest, found := strings.Cut(ruleset, "  chain "+name+" {")
	if !found {
		return nil
	}
	body, _, _ := strings.Cut(rest, "\n  }")
	var rules []string
	for _, line := range strings.Split(body, "\n")[1:] {
		rules = append(rules, strings.TrimSpace(line))
	}
	return rules
}

func expectChain(t *testing.T, ruleset, name string, want ...string) {
	t.Helper()
	got := chainOf(t, ruleset, name)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("chain %s is\n  %s\nnot\n  %s", name, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const standing = "ct state established,related accept"

func TestWithoutPoliciesNothingIsFiltered(t *testing.T) {
	rules := Filter(thisNode, world())
	expectChain(t, rules, "forward", "type filter hook forward priority filter - 5; policy accept;", standing)
	expectChain(t, rules, "input", "type filter hook input priority filter - 5; policy accept;", standing)
}

func TestADenyDropsInItsDirectionOnly(t *testing.T) {
	rules := Filter(thisNode, world(policy(netv1.PolicyTypeIngress, netv1.NetworkPolicySpec{})))
	expectChain(t, rules, "in_aserver", "counter drop")
	expectChain(t, rules, "eg_aserver")
	expectChain(t, rules, "forward", "type filter hook forward priority filter - 5; policy accept;", standing,
		"ip daddr vmap { 10.1.0.2 : jump in_aserver }")
}

func TestEgressIsFilteredTowardsTheNodeItselfToo(t *testing.T) {
	rules := Filter(thisNode, world(policy(netv1.PolicyTypeEgress, netv1.NetworkPolicySpec{})))
	jump := "ip saddr vmap { 10.1.0.2 : jump eg_aserver }"
	expectChain(t, rules, "forward", "type filter hook forward priority filter - 5; policy accept;", standing, jump)
	expectChain(t, rules, "input", "type filter hook input priority filter - 5; policy accept;", standing, jump)
}

func TestOnlyPodsOfThisNodeHaveChains(t *testing.T) {
	rules := Filter(otherNode, world(policy(netv1.PolicyTypeIngress, netv1.NetworkPolicySpec{})))
	if strings.Contains(rules, "in_aserver") {
		t.Error("a pod of another node is filtered here")
	}
}

func TestAPolicyOfAnotherNamespaceDoesNotSelect(t *testing.T) {
	foreign := policy(netv1.PolicyTypeIngress, netv1.NetworkPolicySpec{})
	foreign.Namespace = "b"
	if strings.Contains(Filter(thisNode, world(foreign)), "drop") {
		t.Error("a pod is isolated by a policy of another namespace")
	}
}

func TestPoliciesAddUp(t *testing.T) {
	first := policy(netv1.PolicyTypeIngress, netv1.NetworkPolicySpec{})
	second := policy(netv1.PolicyTypeIngress, netv1.NetworkPolicySpec{Ingress: []netv1.NetworkPolicyIngressRule{
		{From: []netv1.NetworkPolicyPeer{{NamespaceSelector: matchLabels("name", "b")}}},
	}})
	second.Name = "q"
	expectChain(t, Filter(thisNode, world(first, second)), "in_aserver", "ip saddr { 10.2.0.3 } return", "counter drop")
}

func TestIngressRules(t *testing.T) {
	udp := corev1.ProtocolUDP
	from := func(peers ...netv1.NetworkPolicyPeer) []netv1.NetworkPolicyPeer { return peers }
	clients := netv1.NetworkPolicyPeer{PodSelector: matchLabels("app", "client"), NamespaceSelector: &metav1.LabelSelector{}}
	end := int32(90)
	for _, test := range []struct {
		name string
		rule netv1.NetworkPolicyIngressRule
		want []string
	}{
		{"an empty rule allows everything", netv1.NetworkPolicyIngressRule{}, []string{"return"}},
		{"peers that match nobody allow nobody", netv1.NetworkPolicyIngressRule{
			From: from(netv1.NetworkPolicyPeer{PodSelector: matchLabels("app", "nobody")}),
		}, nil},
		{"peers", netv1.NetworkPolicyIngressRule{From: from(clients)}, []string{"ip saddr { 10.2.0.2, 10.2.0.3 } return"}},
		{"a protocol without a port", netv1.NetworkPolicyIngressRule{
			Ports: []netv1.NetworkPolicyPort{{Protocol: &udp}},
		}, []string{"meta l4proto udp return"}},
		{"a range", netv1.NetworkPolicyIngressRule{Ports: []netv1.NetworkPolicyPort{
			{Port: &intstr.IntOrString{IntVal: 80}, EndPort: &end},
		}}, []string{"tcp dport 80-90 return"}},
		{"a named port is the isolated pod's", netv1.NetworkPolicyIngressRule{
			From: from(clients), Ports: []netv1.NetworkPolicyPort{tcp(intstr.FromString("http"))},
		}, []string{"ip saddr { 10.2.0.2, 10.2.0.3 } tcp dport 8080 return"}},
		{"a named port that nobody has", netv1.NetworkPolicyIngressRule{
			Ports: []netv1.NetworkPolicyPort{tcp(intstr.FromString("ftp"))},
		}, nil},
		{"a block with exceptions", netv1.NetworkPolicyIngressRule{From: from(netv1.NetworkPolicyPeer{
			IPBlock: &netv1.IPBlock{CIDR: "10.0.0.1/8", Except: []string{"10.2.0.0/24", "10.3.0.0/24"}},
		})}, []string{"ip saddr 10.0.0.0/8 ip saddr != { 10.2.0.0/24, 10.3.0.0/24 } return"}},
		{"a block that cannot be read", netv1.NetworkPolicyIngressRule{From: from(netv1.NetworkPolicyPeer{
			IPBlock: &netv1.IPBlock{CIDR: "10.0.0.0"},
		})}, nil},
		{"a block with an exception that cannot be read", netv1.NetworkPolicyIngressRule{From: from(netv1.NetworkPolicyPeer{
			IPBlock: &netv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.2.0.0"}},
		})}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := policy(netv1.PolicyTypeIngress, netv1.NetworkPolicySpec{Ingress: []netv1.NetworkPolicyIngressRule{test.rule}})
			rules := Filter(thisNode, world(p))
			expectChain(t, rules, "in_aserver", append(test.want, "counter drop")...)
			checkWithNft(t, rules)
		})
	}
}

func TestANamedPortOfEgressIsEachPeers(t *testing.T) {
	p := policy(netv1.PolicyTypeEgress, netv1.NetworkPolicySpec{Egress: []netv1.NetworkPolicyEgressRule{{
		To:    []netv1.NetworkPolicyPeer{{NamespaceSelector: matchLabels("name", "b")}},
		Ports: []netv1.NetworkPolicyPort{tcp(intstr.FromString("http"))},
	}}})
	rules := Filter(thisNode, world(p))
	expectChain(t, rules, "eg_aserver", "ip daddr 10.2.0.3 tcp dport 9999 return", "counter drop")
	checkWithNft(t, rules)
}

func TestTwoPodsWithOneAddressMakeNoRulesetThatNftRefuses(t *testing.T) {
	c := world(policy(netv1.PolicyTypeIngress, netv1.NetworkPolicySpec{}))
	twin := pod("a", "server", thisNode, "10.1.0.2")
	twin.UID = "twin"
	c.Pods = append(c.Pods, twin)
	rules := Filter(thisNode, c)
	if !strings.Contains(rules, "{ 10.1.0.2 : jump in_twin }") {
		t.Errorf("the younger pod's chain is not the one in force:\n%s", rules)
	}
	checkWithNft(t, rules)
}

func TestIPv6PodsHaveRulesOfTheirOwn(t *testing.T) {
	c := world(policy(netv1.PolicyTypeIngress, netv1.NetworkPolicySpec{Ingress: []netv1.NetworkPolicyIngressRule{
		{From: []netv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}},
	}}))
	for i, ip := range []string{"fd00::1", "fd00::2"} {
		c.Pods[i].Status.PodIPs = append(c.Pods[i].Status.PodIPs, corev1.PodIP{IP: ip})
	}
	rules := Filter(thisNode, c)
	expectChain(t, rules, "in_aserver",
		"ip saddr { 10.1.0.2, 10.2.0.2 } return", "ip6 saddr { fd00::1, fd00::2 } return", "counter drop")
	checkWithNft(t, rules)
}

// checkWithNft lets nft itself read a ruleset, where it is there and may.
func checkWithNft(t *testing.T, rules string) {
	t.Helper()
	if _, err := exec.LookPath("nft"); err != nil || os.Geteuid() != 0 {
		return
	}
	command := exec.Command("unshare", "--net", "nft", "--check", "--file", "-")
	command.Stdin = strings.NewReader(rules)
	if out, err := command.CombinedOutput(); err != nil {
		t.Errorf("nft refuses the ruleset: %v: %s\n%s", err, out, rules)
	}
}
