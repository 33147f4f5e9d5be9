# Kubernetes' own NetworkPolicy tests against the cluster, SCTP aside: this machine's kernel need not have it.
#   e2e/cluster conformance           all of them; writes e2e/CONFORMANCE.md
#   e2e/cluster conformance FOCUS     those whose names match; writes nothing
#   e2e/cluster conformance --check   whether CONFORMANCE.md speaks of the agent of this checkout

record=$root/e2e/CONFORMANCE.md
conformance_skip=SCTP

cluster_conformance() {
    local agent
    agent=$(digest "$parts/go/netpol" "$parts/agent.yaml")
    if [[ ${1:-} == --check ]]; then
        grep -q "^| agent | $agent |$" "$record" ||
            die "e2e/CONFORMANCE.md is of another agent than this checkout's; run: make e2e-conformance"
        return
    fi
    engine_need
    lock
    cluster_there || die "there is no cluster $CLUSTER; make it with: e2e/cluster up"
    if inside kubectl -n kube-system get daemonset netpol >/dev/null 2>&1; then
        # The agent of this checkout, not the one that the cluster was made with.
        program netpol netpol .
        agent_up
    else
        say "this cluster's nodes are kind's published ones with kind's own agent: it is tested, and nothing is recorded"
        record=/dev/null
    fi
    conformance_programs
    unlock
    local log=$home/log/conformance.log junit=$home/log/conformance.xml started=$SECONDS code=0
    say "$(date +%T) running Kubernetes' NetworkPolicy tests; all output goes to $log ..."
    inside "$bin/e2e.test" -kubeconfig "$KUBECONFIG" -provider local -num-nodes 2 -ginkgo.no-color \
        -ginkgo.focus "${1:-Netpol.*should}" -ginkgo.skip "$conformance_skip" -ginkgo.junit-report "$junit" \
        >"$log" 2>&1 || code=$?
    grep -E '^(Ran |SUCCESS|FAIL)|^ +\[FAIL\]' "$log" || true
    [[ -n ${1:-} ]] || conformance_record "$agent" "$log" $((SECONDS - started))
    ((code == 0)) || die "the tests failed; see $log"
}

# Kubernetes' end-to-end tests, and the image that they run in pods, from the same module as the cluster.
conformance_programs() {
    local key names archive
    go_ready
    program agnhost kube k8s.io/kubernetes/test/images/agnhost
    key=$(digest "$go_version" "$parts/go/kube")
    if [[ ! -x $home/programs/e2e.test-$key/e2e.test ]]; then
        mkdir -p "$home/programs/e2e.test-$key"
        task "building Kubernetes' end-to-end tests" conformance_build "$home/programs/e2e.test-$key/e2e.test"
    fi
    ln -sfn "$home/programs/e2e.test-$key/e2e.test" "$bin/e2e.test"
    forget 'programs/e2e.test-*'
    # One image under every name that the tests have for it.
    names=$("$bin/e2e.test" --list-images | grep /agnhost: | paste -sd ,)
    archive=$home/images/agnhost-$(digest "$(program_file agnhost)" "$names").tar
    [[ -f $archive ]] || "$mkimage" "$archive" "$names" --entrypoint /agnhost "$(program_file agnhost):/agnhost"
    forget 'images/agnhost-*.tar'
    load_archive "$archive"
}

conformance_build() {
    (cd "$parts/go/kube" && nice -n 5 go test -c -ldflags '-s -w' -o "$1.part" k8s.io/kubernetes/test/e2e)
    mv "$1.part" "$1"
}

conformance_record() { # AGENT LOG SECONDS
    local ran passed failed
    ran=$(sed -n 's/^Ran \([0-9]*\) of .*/\1/p' "$2")
    passed=$(sed -n 's/.* \([0-9]*\) Passed .*/\1/p' "$2")
    failed=$(sed -n 's/.* \([0-9]*\) Failed .*/\1/p' "$2")
    cat >"$record" <<Y
# NetworkPolicy conformance

Written by \`make e2e-conformance\`, which every change of the agent (\`e2e/kind/go/netpol\`, \`e2e/kind/agent.yaml\`) needs:
a test that says "dropped" is worth as much as what drops. \`e2e/cluster conformance --check\` tells whether this page is
of the agent of this checkout.

| | |
|---|---|
| date | $(date -u +%F) |
| agent | $1 |
| Kubernetes and its tests | $(version_of kube k8s.io/kubernetes) |
| tests run | ${ran:-?} |
| passed | ${passed:-?} |
| failed | ${failed:-?} |
| skipped | those of SCTP, which the kernel of the machine need not have |
| time | $3 s on $(nproc) processors |
Y
    sed -n "s/^ *\[FAIL\] /- failed: /p" "$2" | sort -u >>"$record"
}
