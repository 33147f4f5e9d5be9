package main

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	netv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The small world of the tests: two nodes, namespaces a and b, a server and two clients.
const (
	thisNode  = "node1"
	otherNode = "node2"
)

func pod(namespace, name, node, ip string, ports ...corev1.ContainerPort) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(namespace + "-" + name),
			Labels: map[string]string{"app": name},
		},
		Spec:   corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Ports: ports}}},
		Status: corev1.PodStatus{PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}, Phase: corev1.PodRunning},
	}
}

func namespace(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"name": name}}}
}

func node(name, cidr, ip string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: cidr}}
	if ip != "" {
		n.Status.Addresses = []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: ip},
		}
	}
	return n
}

func world(policies ...*netv1.NetworkPolicy) *Cluster {
	return NewCluster(
		[]*corev1.Pod{
			pod("a", "server", thisNode, "10.1.0.2", corev1.ContainerPort{Name: "http", ContainerPort: 8080}),
			pod("a", "client", otherNode, "10.2.0.2"),
			pod("b", "client", otherNode, "10.2.0.3", corev1.ContainerPort{Name: "http", ContainerPort: 9999}),
		},
		[]*corev1.Namespace{namespace("a"), namespace("b")},
		policies,
		[]*corev1.Node{node(thisNode, "10.1.0.0/24", "192.0.2.1"), node(otherNode, "10.2.0.0/24", "192.0.2.2")},
	)
}

func matchLabels(name, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{name: value}}
}

func policy(kind netv1.PolicyType, spec netv1.NetworkPolicySpec) *netv1.NetworkPolicy {
	spec.PodSelector = *matchLabels("app", "server")
	spec.PolicyTypes = []netv1.PolicyType{kind}
	return &netv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "p"}, Spec: spec}
}

func tcp(port intstr.IntOrString) netv1.NetworkPolicyPort {
	return netv1.NetworkPolicyPort{Port: &port}
}

func TestPodsThatCannotBeFilteredAreNoPartOfTheCluster(t *testing.T) {
	host := pod("a", "host", thisNode, "192.0.2.1")
	host.Spec.HostNetwork = true
	ended := pod("a", "ended", thisNode, "10.1.0.9")
	ended.Status.Phase = corev1.PodSucceeded
	c := NewCluster([]*corev1.Pod{host, ended, pod("a", "waiting", thisNode, "")}, nil, nil, nil)
	if len(c.Pods) != 0 {
		t.Fatalf("%d pods", len(c.Pods))
	}
}

func TestThePodThatHoldsAnAddressNowComesLast(t *testing.T) {
	old, young := pod("a", "old", thisNode, "10.1.0.2"), pod("a", "young", thisNode, "10.1.0.2")
	old.CreationTimestamp = metav1.NewTime(time.Unix(1, 0))
	young.CreationTimestamp = metav1.NewTime(time.Unix(2, 0))
	c := NewCluster([]*corev1.Pod{young, old}, nil, nil, nil)
	if c.Pods[1] != young {
		t.Fatalf("%s is last", c.Pods[1].Name)
	}
}

func TestPeersAreSelectedByPodAndNamespace(t *testing.T) {
	everything := &metav1.LabelSelector{}
	for _, test := range []struct {
		name string
		peer netv1.NetworkPolicyPeer
		want []string
	}{
		{"pods of the policy's namespace", netv1.NetworkPolicyPeer{PodSelector: everything}, []string{"a/client", "a/server"}},
		{"all pods of some namespaces", netv1.NetworkPolicyPeer{NamespaceSelector: matchLabels("name", "b")}, []string{"b/client"}},
		{
			"some pods of all namespaces",
			netv1.NetworkPolicyPeer{PodSelector: matchLabels("app", "client"), NamespaceSelector: everything},
			[]string{"a/client", "b/client"},
		},
		{"an unknown label", netv1.NetworkPolicyPeer{PodSelector: matchLabels("app", "nobody")}, nil},
		{"a selector that cannot be read", netv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "Resembles"}},
		}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			found := world().selected("a", &test.peer)
			if len(found) != len(test.want) {
				t.Fatalf("%d pods, not %d", len(found), len(test.want))
			}
			for i, pod := range found {
				if key(pod) != test.want[i] {
					t.Errorf("%s, not %s", key(pod), test.want[i])
				}
			}
		})
	}
}

func TestANamedPortIsLookedUpByNameAndProtocol(t *testing.T) {
	p := pod("a", "p", thisNode, "10.1.0.2",
		corev1.ContainerPort{Name: "dns", ContainerPort: 5353, Protocol: corev1.ProtocolUDP})
	p.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 15020}}}}
	if n, ok := containerPort(p, "dns", "udp"); !ok || n != 5353 {
		t.Error("the UDP port was not found")
	}
	if _, ok := containerPort(p, "dns", "tcp"); ok {
		t.Error("a UDP port was taken for TCP")
	}
	if n, ok := containerPort(p, "side", "tcp"); !ok || n != 15020 {
		t.Error("the port of a sidecar was not found, or its protocol is not TCP by default")
	}
}
