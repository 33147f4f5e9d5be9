package main

import (
	"net/netip"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Cluster is what the rules are made of, at one moment. Pods are only those that have an address of their own.
type Cluster struct {
	Pods       []*corev1.Pod
	Namespaces []*corev1.Namespace
	Policies   []*netv1.NetworkPolicy
	Nodes      []*corev1.Node
}

// snapshot copies the informers' state in an order that depends on nothing but the objects, so that the same state
// gives the same text.
func (w *watch) snapshot() (*Cluster, error) {
	pods, err := w.factory.Core().V1().Pods().Lister().List(labels.Everything())
	if err != nil {
		return nil, err
	}
	namespaces, err := w.factory.Core().V1().Namespaces().Lister().List(labels.Everything())
	if err != nil {
		return nil, err
	}
	policies, err := w.factory.Networking().V1().NetworkPolicies().Lister().List(labels.Everything())
	if err != nil {
		return nil, err
	}
	nodes, err := w.factory.Core().V1().Nodes().Lister().List(labels.Everything())
	if err != nil {
		return nil, err
	}
	return NewCluster(pods, namespaces, policies, nodes), nil
}

// NewCluster keeps the pods that can send or receive and sorts everything.
func NewCluster(
	pods []*corev1.Pod, namespaces []*corev1.Namespace, policies []*netv1.NetworkPolicy, nodes []*corev1.Node,
) *Cluster {
	c := &Cluster{Namespaces: namespaces, Policies: policies, Nodes: nodes}
	for _, pod := range pods {
		if hasOwnAddress(pod) {
			c.Pods = append(c.Pods, pod)
		}
	}
	// Oldest first: where two pods hold one address, the one that comes later is the one that has it now.
	sort.Slice(c.Pods, func(i, j int) bool {
		a, b := c.Pods[i], c.Pods[j]
		if !a.CreationTimestamp.Equal(&b.CreationTimestamp) {
			return a.CreationTimestamp.Before(&b.CreationTimestamp)
		}
		return a.UID < b.UID
	})
	sort.Slice(c.Policies, func(i, j int) bool { return key(c.Policies[i]) < key(c.Policies[j]) })
	sort.Slice(c.Nodes, func(i, j int) bool { return c.Nodes[i].Name < c.Nodes[j].Name })
	return c
}

func key(o metav1.Object) string { return o.GetNamespace() + "/" + o.GetName() }

// hasOwnAddress is false for pods on the host's network, which policies do not select, and for those that have ended
// and whose address may be another's by now.
func hasOwnAddress(pod *corev1.Pod) bool {
	return pod.Status.PodIP != "" && !pod.Spec.HostNetwork &&
		pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

func addresses(pod *corev1.Pod) []netip.Addr {
	var found []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		if address, err := netip.ParseAddr(ip.IP); err == nil {
			found = append(found, address.Unmap())
		}
	}
	return found
}

// selector of a label selector; one that cannot be read selects nothing.
func selector(s *metav1.LabelSelector) labels.Selector {
	parsed, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return labels.Nothing()
	}
	return parsed
}

// selected lists the pods that a peer of a policy in namespace names; nil for an ipBlock.
func (c *Cluster) selected(namespace string, peer *netv1.NetworkPolicyPeer) []*corev1.Pod {
	if peer.PodSelector == nil && peer.NamespaceSelector == nil {
		return nil
	}
	inNamespace := map[string]bool{namespace: peer.NamespaceSelector == nil}
	if peer.NamespaceSelector != nil {
		namespaces := selector(peer.NamespaceSelector)
		for _, n := range c.Namespaces {
			inNamespace[n.Name] = namespaces.Matches(labels.Set(n.Labels))
		}
	}
	pods := labels.Everything()
	if peer.PodSelector != nil {
		pods = selector(peer.PodSelector)
	}
	var found []*corev1.Pod
	for _, pod := range c.Pods {
		if inNamespace[pod.Namespace] && pods.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	return found
}

// containerPort is the number that a named port has on a pod for a protocol; false when it has none.
func containerPort(pod *corev1.Pod, name, protocol string) (int32, bool) {
	containers := append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...)
	for _, container := range containers {
		for _, port := range container.Ports {
			of := strings.ToLower(string(port.Protocol))
			if of == "" {
				of = "tcp"
			}
			if port.Name == name && of == protocol {
				return port.ContainerPort, true
			}
		}
	}
	return 0, false
}
