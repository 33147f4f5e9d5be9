# Sourced by e2e/cluster after scripts/lib.sh: where things are kept, content hashes, progress.

parts=$root/e2e/kind
mkimage=$root/scripts/mkimage
home=$cache/cluster
CLUSTER=${CLUSTER:-clawlock}
CLUSTER_ENGINE=${CLUSTER_ENGINE:-clawlock}
bin=$home/bin                       # links to the programs in use
state=$home/clusters/$CLUSTER       # of one cluster: its kubeconfig, what was loaded into it
mkdir -p "$bin" "$home/log" "$home/images"
export KUBECONFIG=$state/kubeconfig PATH=$bin:$PATH
[[ $CLUSTER =~ ^[a-z0-9][a-z0-9-]{0,30}$ && $CLUSTER_ENGINE =~ ^[a-z0-9][a-z0-9-]{0,30}$ ]] ||
    die "CLUSTER and CLUSTER_ENGINE are names of up to 31 of a-z, 0-9 and -"

# Errors of a task are told where the user looks, also while the task's own output goes to a log.
exec 3>&2

# lock: one command at a time changes things. Released when this process ends; daemons must not inherit it (9>&-).
lock() {
    exec 9>"$home/lock"
    flock --nonblock 9 && return
    say "another e2e/cluster is at work; waiting for it ..."
    flock 9
}

# unlock: before something long that changes nothing which others use.
unlock() { exec 9>&-; }

# task WHAT COMMAND...: says what is done and how long it took; its output goes to a log. Not to be called where the
# shell ignores failures (if, ||): it relies on `set -e`, and the trap tells what failed.
task() {
    task=$1 task_log=$home/log/$(printf %s "${1:0:40}" | tr -cs a-zA-Z0-9. -).log
    local started=$SECONDS
    shift
    say "$(date +%T) $task ..."
    "$@" >"$task_log" 2>&1
    say "$(date +%T) $task: $((SECONDS - started)) s"
    task=
}

task=
task_failed() {
    local code=$?
    [[ -z $task ]] && return
    { tail -n 20 "$task_log"; printf 'error: %s failed (exit %s); all of it is in %s\n' "$task" "$code" "$task_log"; } >&3
}
trap task_failed EXIT

# digest WORD...: a name for what is made from the words. Absolute paths count by the content of the file or folder,
# less its tests.
digest() {
    local word
    for word; do
        if [[ $word == /* && -d $word ]]; then
            (cd "$word" && find . -type f ! -name '*_test.go' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
        elif [[ $word == /* && -f $word ]]; then
            sha256sum <"$word"
        else
            printf '%s\n' "$word"
        fi
    done | sha256sum | cut -c 1-16
}

# forget PATTERN: of what was made under other digests, keeps the three used last. $1 is a glob below $home.
forget() {
    local old
    # shellcheck disable=SC2086  # a glob
    { ls -1dt "$home"/$1 2>/dev/null || true; } | tail -n +4 | while read -r old; do rm -rf "$old"; done
}
