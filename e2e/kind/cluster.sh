# The cluster itself, and what people and tests do with it.

cluster_up() {
    local started=$SECONDS
    engine_up
    tool_programs
    node_image_up
    if cluster_there && ! nodes_run; then
        # After the machine or its engine was started again. Nodes do not survive that, and others are soon made.
        say "the nodes of cluster $CLUSTER have stopped: making it anew"
        cluster_delete
    fi
    if ! cluster_there; then
        rm -rf "$state"
        mkdir -p "$state"
        task "creating cluster $CLUSTER" cluster_create
        echo "$node_image" >"$state/node-image"
    elif [[ $(cat "$state/node-image" 2>/dev/null) != "$node_image" ]]; then
        say "note: cluster $CLUSTER runs an older node image; for the new one: e2e/cluster down && e2e/cluster up"
    fi
    task "waiting for the API server" api_wait
    [[ $node_kind == published ]] || agent_up
    task "waiting for the nodes" inside kubectl wait --for=condition=Ready nodes --all --timeout=120s
    # Both nodes take pods, so that tests have two places for them.
    inside kubectl taint nodes --all node-role.kubernetes.io/control-plane- >/dev/null 2>&1 || true
    task "waiting for DNS" inside kubectl -n kube-system rollout status deploy/coredns --timeout=120s
    probe_image
    load_archive "$probe_archive"
    say "$(date +%T) cluster $CLUSTER is up after $((SECONDS - started)) s; try: e2e/cluster shell kubectl get nodes"
}

cluster_there() { inside kind get clusters 2>/dev/null | grep -qx "$CLUSTER"; }

nodes_run() {
    local node
    for node in $(inside kind get nodes --name "$CLUSTER"); do
        [[ $(docker inspect --format '{{.State.Running}}' "$node") == true ]] || return 1
    done
}

api_wait() {
    local i
    for ((i = 0; i < 60; i++)); do
        inside kubectl get --raw /readyz --request-timeout=5s && return
        sleep 1
    done
    echo "the nodes run and the API server does not answer; make the cluster anew: e2e/cluster down && e2e/cluster up"
    return 1
}

cluster_create() {
    # Our nodes get their network from our agent, as soon as the API answers.
    local own_network=false
    [[ $node_kind == published ]] || own_network=true
    inside kind create cluster --name "$CLUSTER" --image "$node_image" --config - <<Y
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking: {disableDefaultCNI: $own_network}
nodes: [{role: control-plane}, {role: worker}]
Y
}

cluster_delete() { task "deleting cluster $CLUSTER" inside kind delete cluster --name "$CLUSTER"; }

cluster_down() {
    [[ ${1:-} == --all || -z ${1:-} ]] || die "down takes --all, or nothing"
    engine_find || { say "no Docker engine runs, so no cluster either"; return; }
    docker rm --force "$(outside_name)" >/dev/null 2>&1 || true
    ! cluster_there || cluster_delete
    rm -rf "$state"
    [[ ${1:-} == --all ]] || return 0
    if [[ -n $(inside kind get clusters 2>/dev/null) ]]; then
        say "the Docker engine stays: it has another cluster"
        return
    fi
    engine_down
}

cluster_shell() {
    engine_need
    [[ -f $KUBECONFIG ]] || die "there is no cluster $CLUSTER; make it with: e2e/cluster up"
    if (($#)); then
        inside "$@"
        return
    fi
    cluster_env >&2
    say "a shell where kubectl, helm and docker reach the cluster; it ends with exit"
    inside "${SHELL:-bash}"
}

# cluster_env: for programs that start the shell's commands themselves. CLUSTER_INSIDE comes before such a command.
cluster_env() {
    engine_need
    local within=
    [[ $engine_mode != own ]] || within="nsenter --net=/run/netns/$CLUSTER_ENGINE"
    cat <<Y
export KUBECONFIG=$KUBECONFIG
export DOCKER_HOST=${DOCKER_HOST:-}
export CLUSTER=$CLUSTER
export CLUSTER_INSIDE='$within'
export CLUSTER_PROBE=$probe_reference
export PATH=$bin:\$PATH
Y
}

# load_archive ARCHIVE: into every node, unless they have it already under these names.
load_archive() {
    local names content mark
    [[ -f $1 ]] || die "$1 is no image archive; make one with scripts/mkimage"
    names=$(tar -xOf "$1" manifest.json) || die "$1 is no docker archive; make one with scripts/mkimage"
    names=$(python3 -c 'import json,sys; print(",".join(json.load(sys.stdin)[0]["RepoTags"]))' <<<"$names")
    content=$(sha256sum <"$1")
    mark=$state/loaded/$(digest "$names")
    if [[ -f $mark && $(cat "$mark") == "$content" ]]; then return; fi
    mkdir -p "$state/loaded"
    task "loading $names" inside kind load image-archive --name "$CLUSTER" "$1"
    echo "$content" >"$mark"
}

cluster_load() {
    (($#)) || die "load needs the archives to load: e2e/cluster load operator.tar gateway.tar"
    engine_need
    cluster_there || die "there is no cluster $CLUSTER; make it with: e2e/cluster up"
    local archive
    for archive; do load_archive "$archive"; done
}

# The tool of the tests, as an image of its own (go/probe).
probe_reference=clawlock-probe:dev

probe_image() {
    probe_archive=$home/images/probe-$(digest "$(program_file probe)").tar
    [[ -f $probe_archive ]] || "$mkimage" "$probe_archive" "$probe_reference" --entrypoint /probe --user 65532:65532 \
        "$(program_file probe):/probe"
    forget 'images/probe-*.tar'
}

outside_name() { echo "$CLUSTER-outside"; }

# cluster_outside: an address beyond the cluster that is ours: no test sends to one that is not.
cluster_outside() {
    engine_need
    probe_image
    local name wanted present
    name=$(outside_name)
    wanted=$(basename "$probe_archive")
    present=$(docker inspect --format '{{.State.Running}} {{index .Config.Labels "content"}}' "$name" 2>/dev/null || true)
    if [[ $present != "true $wanted" ]]; then
        docker rm --force "$name" >/dev/null 2>&1 || true
        docker load --quiet --input "$probe_archive" >/dev/null
        docker run --detach --name "$name" --network kind --label "content=$wanted" --user 0:0 "$probe_reference" \
            serve http:80 http:8080 tcp:7 tcp:53 tcp:443 udp:7 udp:53 >/dev/null
    fi
    docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$name"
}
