# The Docker engine: this machine's, or Debian's docker.io in a network namespace and a mount namespace of its own.

engine=$home/engines/$CLUSTER_ENGINE
engine_socket=$engine/docker.sock
engine_mode= # "machine" or "own", once engine_find has found one

# inside COMMAND...: runs a command where the cluster can be reached. `ip netns exec` would do it too, but mounts
# another /sys, and the cgroups are gone.
inside() {
    if [[ $engine_mode == own ]]; then
        nsenter --net="/run/netns/$CLUSTER_ENGINE" "$@"
    else
        "$@"
    fi
}

# engine_find: sets engine_mode; false when no engine answers. Ours comes first: once started, it has the cluster.
engine_find() {
    [[ -z $engine_mode ]] || return 0
    command -v docker >/dev/null || return 1
    if [[ -S $engine_socket ]] && DOCKER_HOST=unix://$engine_socket engine_answers; then
        engine_mode=own
        export DOCKER_HOST=unix://$engine_socket
    elif engine_answers; then
        engine_mode=machine
    else
        return 1
    fi
}

engine_answers() { timeout 10 docker version >/dev/null 2>&1; }

engine_need() { engine_find || die "no Docker engine runs; start the cluster first: e2e/cluster up"; }

# engine_possible: an engine answers, or one can be started. Says why not.
engine_possible() {
    ! engine_find || return 0
    if [[ $(id -u) != 0 ]]; then
        say "no Docker engine answers, and only root can start one"
        return 1
    fi
    if ! unshare --net --mount true 2>/dev/null; then
        say "no Docker engine answers, and this machine does not allow namespaces of one's own"
        return 1
    fi
}

engine_up() {
    if engine_find; then
        say "$(date +%T) Docker engine: $engine_mode"
        return
    fi
    [[ $(id -u) == 0 ]] ||
        die "no Docker engine answers (docker version), and only root can start one; start Docker, or run this as root"
    local why="to run a Docker engine for the cluster"
    need dockerd docker.io "$why"
    need containerd containerd "$why"
    need runc runc "$why"
    need iptables iptables "$why"
    need ip iproute2 "$why"
    need nsenter util-linux "$why"
    program runcw runcw .
    task "starting a Docker engine in network namespace $CLUSTER_ENGINE" engine_start
    engine_find || die "the Docker engine started and does not answer; see $engine/dockerd.log"
}

engine_start() {
    mkdir -p "$engine"
    ((${#engine_socket} < 108)) || # the kernel's limit
        { echo "$engine_socket is too long for a socket: choose another XDG_CACHE_HOME"; return 1; }
    if [[ ! -e /run/netns/$CLUSTER_ENGINE ]]; then
        ip netns add "$CLUSTER_ENGINE"
    fi
    nsenter --net="/run/netns/$CLUSTER_ENGINE" ip link set lo up
    # A pid file of an engine that is gone would keep the next one from starting.
    rm -f "$engine/dockerd.pid"
    setsid nohup nsenter --net="/run/netns/$CLUSTER_ENGINE" unshare --mount dockerd \
        --host "unix://$engine_socket" --pidfile "$engine/dockerd.pid" \
        --data-root "$engine/data" --exec-root "$engine/exec" --storage-driver overlay2 \
        --add-runtime "runcw=$bin/runcw" --default-runtime runcw \
        >"$engine/dockerd.log" 2>&1 </dev/null 3>&- 9>&- &
    local i
    for ((i = 0; i < 150; i++)); do
        DOCKER_HOST=unix://$engine_socket engine_answers && return
        sleep 0.2
    done
    tail -n 10 "$engine/dockerd.log"
    return 1
}

# engine_down: ends our engine and its namespace; never the machine's.
engine_down() {
    [[ $engine_mode == own ]] || return 0
    local pid
    pid=$(cat "$engine/dockerd.pid")
    task "stopping the Docker engine" engine_stop "$pid"
    engine_mode=
}

engine_stop() {
    kill "$1"
    local i
    for ((i = 0; i < 150; i++)); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.2
    done
    ip netns delete "$CLUSTER_ENGINE"
}
