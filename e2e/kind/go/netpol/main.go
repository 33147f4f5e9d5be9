// Command netpol gives one node of the test cluster what a CNI plugin would: the configuration of the pod network,
// routes to the other nodes, and NetworkPolicy (networking.k8s.io/v1).
//
// It watches pods, namespaces, policies and nodes, and keeps one nftables table in the network namespace of its node.
// It is held to Kubernetes' own NetworkPolicy tests (`make e2e-conformance`): what it gets wrong would make every
// test of the product that relies on a dropped packet worthless.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// retryAfter is the wait before another try when nft refused a ruleset: long enough not to spin, short enough that a
// policy is late by no more than a test would notice.
const retryAfter = time.Second

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig; default: the service account of the pod")
	node := flag.String("node", os.Getenv("NODE_NAME"), "name of this node")
	cniConf := flag.String("cni-conf", "", "CNI configuration to write for this node")
	flag.Parse()
	if *node == "" || *cniConf == "" {
		log.Fatal("netpol: --node (or NODE_NAME) and --cni-conf are needed")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *kubeconfig, *node, *cniConf); err != nil {
		log.Fatalf("netpol: %v", err)
	}
}

func run(ctx context.Context, kubeconfig, node, cniConf string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	w := newWatch(client)
	w.factory.Start(ctx.Done())
	w.factory.WaitForCacheSync(ctx.Done())

	agent := &agent{node: node, cniConf: cniConf}
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			// The table stays: a node whose agent is gone keeps the last policies, as with other CNI plugins.
			return nil
		case <-w.changed:
		case <-retry.C:
		}
		cluster, err := w.snapshot()
		if err == nil {
			err = agent.apply(cluster)
		}
		if err != nil {
			log.Printf("netpol: %v; trying again in %s", err, retryAfter)
			retry.Reset(retryAfter)
		}
	}
}

// agent remembers what this node was given, so that events which change nothing cost nothing.
type agent struct {
	node, cniConf string
	filter, nat   string
}

func (a *agent) apply(c *Cluster) error {
	// Policies first: they must not wait for what the network still lacks.
	filter := Filter(a.node, c)
	if filter != a.filter {
		if err := nft(filter); err != nil {
			return err
		}
		a.filter = filter
		log.Printf("netpol: %d policies in force over %d pods, %d bytes", len(c.Policies), len(c.Pods), len(filter))
	}
	if nat := Masquerade(a.node, c.Nodes); nat != a.nat {
		if err := nft(nat); err != nil {
			return err
		}
		a.nat = nat
	}
	if err := setRoutes(a.node, c.Nodes); err != nil {
		return err
	}
	return writeCNIConf(a.cniConf, podCIDR(a.node, c.Nodes))
}

// watch holds the informers and a signal, at most one pending, that something changed.
type watch struct {
	factory informers.SharedInformerFactory
	changed chan struct{}
}

func newWatch(client kubernetes.Interface) *watch {
	w := &watch{factory: informers.NewSharedInformerFactory(client, 0), changed: make(chan struct{}, 1)}
	signal := func() {
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { signal() },
		UpdateFunc: func(_, _ any) { signal() },
		DeleteFunc: func(any) { signal() },
	}
	for _, informer := range []cache.SharedIndexInformer{
		w.factory.Core().V1().Pods().Informer(),
		w.factory.Core().V1().Namespaces().Informer(),
		w.factory.Core().V1().Nodes().Informer(),
		w.factory.Networking().V1().NetworkPolicies().Informer(),
	} {
		// Only a stopped informer refuses a handler, and none has been started yet.
		if _, err := informer.AddEventHandler(handler); err != nil {
			log.Fatalf("netpol: %v", err)
		}
	}
	return w
}
