package main

import (
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// The names of the tables. Tests delete the first one to see what the product does without enforcement.
const (
	filterTable = "netpol"
	natTable    = "netpol_nat"
)

// Filter is the nftables transaction that replaces the table of policies of one node.
//
// Each isolated pod has a chain per direction, which returns for what a policy allows and drops the rest. Two hooks
// lead there: forward, as pods are routed (even two on one node), and input, for what pods send to the node itself.
// What the node sends is output and never filtered, so the kubelet's probes always pass. Connections that stand are
// accepted first, also when a new policy would refuse them: as with other CNI plugins.
func Filter(node string, c *Cluster) string {
	var chains strings.Builder
	jumps := map[string]map[string]string{} // field -> address -> chain
	for _, pod := range c.Pods {
		if pod.Spec.NodeName != node {
			continue
		}
		for _, d := range []direction{ingress, egress} {
			body, isolated := d.chain(c, pod)
			if !isolated {
				continue
			}
			name := d.prefix + "_" + strings.ReplaceAll(string(pod.UID), "-", "")
			fmt.Fprintf(&chains, "  chain %s { # %s\n%s    counter drop\n  }\n", name, key(pod), body)
			for _, address := range addresses(pod) {
				field := family(address) + " " + d.pod
				if jumps[field] == nil {
					jumps[field] = map[string]string{}
				}
				jumps[field][address.String()] = name
			}
		}
	}
	var table strings.Builder
	// Naming the table first makes deleting it possible when it is not there yet; all of it is one transaction.
	fmt.Fprintf(&table, "table inet %[1]s {}\ndelete table inet %[1]s\ntable inet %[1]s {\n%[2]s", filterTable, chains.String())
	table.WriteString(hook("forward", jumps, "ip saddr", "ip6 saddr", "ip daddr", "ip6 daddr"))
	table.WriteString(hook("input", jumps, "ip saddr", "ip6 saddr"))
	table.WriteString("}\n")
	return table.String()
}

// chain is the body of a pod's chain in one direction, and whether any policy isolates it there.
func (d direction) chain(c *Cluster, pod *corev1.Pod) (string, bool) {
	var body strings.Builder
	isolated := false
	for _, policy := range c.Policies {
		if policy.Namespace != pod.Namespace || !selector(&policy.Spec.PodSelector).Matches(labels.Set(pod.Labels)) {
			continue
		}
		rules, isolates := d.rulesFor(policy)
		isolated = isolated || isolates
		for _, r := range rules {
			for _, match := range d.matches(c, policy.Namespace, r, pod) {
				fmt.Fprintf(&body, "    %s\n", join(match, "return"))
			}
		}
	}
	return body.String(), isolated
}

func hook(name string, jumps map[string]map[string]string, fields ...string) string {
	var chain strings.Builder
	// Before the rules of kube-proxy (priority filter), which accept.
	fmt.Fprintf(&chain, "  chain %[1]s {\n    type filter hook %[1]s priority filter - 5; policy accept;\n", name)
	chain.WriteString("    ct state established,related accept\n")
	for _, field := range fields {
		var entries []string
		for address, to := range jumps[field] {
			entries = append(entries, fmt.Sprintf("%s : jump %s", address, to))
		}
		if len(entries) == 0 {
			continue
		}
		sort.Strings(entries)
		fmt.Fprintf(&chain, "    %s vmap { %s }\n", field, strings.Join(entries, ", "))
	}
	chain.WriteString("  }\n")
	return chain.String()
}
