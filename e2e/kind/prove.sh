# Checks of a running cluster, a line each. What must be dropped comes first and matters most, and every such check has
# one before it that shows that the same sender reaches the same target when nothing forbids it.

# How long a change of policies may take to be in force everywhere.
settle=20

cluster_prove() {
    engine_need
    cluster_there || die "there is no cluster $CLUSTER; make it with: e2e/cluster up"
    prove_failed=0
    prove_end
    prove_begin
    prove_ingress
    prove_egress
    prove_features
    prove_end
    ((prove_failed == 0)) || die "$prove_failed checks failed: nothing that this cluster's tests say can be trusted"
    say "all checks passed"
}

kube() { inside kubectl "$@"; }

prove_apply() { # FILE: with the placeholders filled in
    sed -e "s#@FIRST@#$first#; s#@SECOND@#$second#; s#@PROBE@#$probe_reference#; s#@WEB@#${web:-}#" \
        "$parts/prove/$1.yaml" | kube apply --server-side -f - >/dev/null
}

prove_begin() {
    mapfile -t nodes < <(kube get nodes -o jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}' | sort)
    first=${nodes[0]} second=${nodes[-1]}
    prove_apply pods
    kube -n prove-a wait --for=condition=Ready pod --all --timeout=60s >/dev/null
    kube -n prove-b wait --for=condition=Ready pod --all --timeout=60s >/dev/null
    web=$(kube -n prove-a get pod web -o jsonpath='{.status.podIP}')
    lock
    outside=$(cluster_outside)
    unlock
}

prove_end() {
    kube delete --ignore-not-found -f "$parts/prove/admission.yaml" >/dev/null
    kube delete --ignore-not-found --wait namespace prove-a prove-b >/dev/null
}

# outcome NAMESPACE ATTEMPT...: what an attempt of the namespace's client comes to (see go/probe/outcome.go).
outcome() {
    local namespace=$1 patience=--timeout=2s
    shift
    [[ $1 != raw ]] || patience=
    # shellcheck disable=SC2086  # empty is no argument
    { kube -n "$namespace" exec client -- /probe "$@" $patience 2>&1 || true; } | sed -n 's/.*"outcome":"\([a-z]*\)".*/\1/p'
}

# expect OUTCOME WHAT NAMESPACE ATTEMPT...: waits for an outcome, then asks for it once more: what was dropped once may
# have been lost.
expect() {
    local wanted=$1 what=$2 until=$((SECONDS + settle)) got again
    shift 2
    while :; do
        got=$(outcome "$@")
        [[ $got != "$wanted" ]] || break
        ((SECONDS < until)) || { failed "$what: $wanted was expected, ${got:-nothing} came: $*"; return; }
        sleep 0.2
    done
    again=$(outcome "$@")
    if [[ $again == "$wanted" ]]; then ok "$what: $wanted"; else failed "$what: $wanted, then ${again:-nothing}: $*"; fi
}

ok() { printf 'ok   %s\n' "$1"; }

failed() {
    printf 'FAIL %s\n' "$1"
    prove_failed=$((prove_failed + 1))
}

# holds WHAT COMMAND...: a check that is a command.
holds() {
    local what=$1
    shift
    if "$@" >/dev/null; then ok "$what"; else failed "$what"; fi
}

# refused TEXT WHAT COMMAND...: a command that the API server must refuse, saying so.
refused() {
    local text=$1 what=$2 until=$((SECONDS + settle)) said
    shift 2
    while :; do
        said=$("$@" 2>&1 || true)
        [[ $said != *"$text"* ]] || { ok "$what is refused: $text"; return; }
        ((SECONDS < until)) || { failed "$what: $said"; return; }
        sleep 0.5
    done
}

prove_ingress() {
    expect connected "to a pod on another node" prove-b tcp "$web:8080"
    expect answered "to a Service, by its name" prove-b get http://web.prove-a
    expect answered "to a Service, within the namespace" prove-a get http://web
    prove_apply deny-ingress
    expect timeout "ingress denied, pod's address" prove-b tcp "$web:8080"
    expect timeout "ingress denied, by way of the Service" prove-b get http://web.prove-a
    expect timeout "ingress denied, same namespace and node" prove-a get http://web
    holds "the kubelet's probes pass where ingress is denied" \
        kube -n prove-a wait --for=condition=Ready pod/web --timeout=5s
    prove_apply allow-ingress
    expect answered "ingress allowed to a named port" prove-b get http://web.prove-a
    expect timeout "another port of the same pod" prove-b tcp "$web:9090"
    expect timeout "another namespace than the one allowed" prove-a get http://web
    kube -n prove-a delete networkpolicy --all >/dev/null
    expect answered "policies removed" prove-a get http://web
}

prove_egress() {
    local dns api own other
    dns=$(kube -n kube-system get service kube-dns -o jsonpath='{.spec.clusterIP}')
    api=$(kube get service kubernetes -o jsonpath='{.spec.clusterIP}')
    own=$(kube get node "$second" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}')
    other=$(kube get node "$first" -o jsonpath='{.status.addresses[?(@.type=="InternalIP")].address}')
    # target|attempt|what comes when it is allowed
    local targets=(
        "a pod|tcp $web:8080|connected"
        "the cluster's DNS, UDP|dns kubernetes.default.svc.cluster.local. --server=$dns:53|answered"
        "the cluster's DNS, TCP|tcp $dns:53|connected"
        "the API server's Service|tcp $api:443|connected"
        "the API server's address|tcp $other:6443|connected"
        "the other node's kubelet|tcp $other:10250|connected"
        "the pod's own node's kubelet|tcp $own:10250|connected"
        "an outside address, TCP|tcp $outside:7|connected"
        "an outside address, UDP|udp $outside:53|answered"
        "an outside address, ICMP|icmp $outside|answered"
    ) target what attempt allowed
    for target in "${targets[@]}"; do
        IFS='|' read -r what attempt allowed <<<"$target"
        # shellcheck disable=SC2086  # the attempt is words
        expect "$allowed" "to $what" prove-b $attempt
    done
    prove_apply deny-egress
    for target in "${targets[@]}"; do
        IFS='|' read -r what attempt allowed <<<"$target"
        # Published nodes bring kindnet, which does not filter what a pod sends to its own node.
        [[ $what != "the pod's own node's kubelet" ]] || kube -n kube-system get ds netpol >/dev/null 2>&1 || continue
        # shellcheck disable=SC2086
        expect timeout "egress denied to $what" prove-b $attempt
    done
    prove_apply allow-egress
    expect answered "egress allowed to DNS and one address" prove-b get http://web.prove-a
    expect timeout "egress to what is not allowed" prove-b tcp "$api:443"
    kube -n prove-b delete networkpolicy --all >/dev/null
    expect connected "policies removed" prove-b tcp "$api:443"
}

prove_features() {
    local token review
    expect forbidden "raw sockets under Pod Security restricted" prove-a raw
    holds "a native sidecar has logs" grep -q ^serving <<<"$(kube -n prove-a logs web -c side)"
    refused "violates PodSecurity" "a pod that Pod Security restricted does not take" \
        kube -n prove-a run bad --image="$probe_reference"
    token=$(kube -n prove-a exec web -c web -- /probe cat /token/token)
    review='{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"%s","audiences":["prove"]}}'
    # shellcheck disable=SC2059  # a template of ours
    review=$(printf "$review" "$token")
    holds "a projected token is its pod's account's" test system:serviceaccount:prove-a:default = \
        "$(kube create -f - -o jsonpath='{.status.user.username}' <<<"$review")"
    prove_apply admission
    kube wait --for=condition=Established crd/ranges.prove.example.com --timeout=20s >/dev/null
    refused "min is above max" "a custom resource against its CEL rule" kube apply -f "$parts/prove/bad-range.yaml"
    refused "no evil is admitted" "an object against a ValidatingAdmissionPolicy" \
        kube -n prove-b create configmap evil --from-literal=evil=1 --dry-run=server
}
