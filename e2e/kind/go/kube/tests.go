//go:build tools

// Keeps in go.mod what Kubernetes' own end-to-end tests need; `e2e/cluster conformance` builds them.
package main

import (
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
)
