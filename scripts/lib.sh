# Sourced by the scripts: where things are kept, and how what is missing gets there.
# Nothing is installed into the system but Debian packages, by root, each said with its reason.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/clawlock
tools=$cache/tools
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}
mkdir -p "$tools"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# need COMMAND PACKAGE WHY: a command of the system, from Debian's package when it is absent.
need() {
    local command=$1 package=$2 why=$3
    command -v "$command" >/dev/null && return
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null ||
        die "$command is needed $why; install it (Debian: apt-get install $package) and run this again"
    say "$command is needed $why: installing $package with apt-get"
    if [[ -z ${apt_updated:-} ]]; then
        apt-get update -qq >&2
        apt_updated=1
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$package" >&2 </dev/null
}

# cargo_tool NAME VERSION WHY ARGUMENTS...: a program from the crates registry, built once into the cache folder.
# Sets $tool to its path. Without optimisation: building it is most of what it costs.
cargo_tool() {
    local name=$1 version=$2 why=$3 started=$SECONDS
    shift 3
    tool=$tools/$name-$version/bin/$name
    [[ -x $tool ]] && return
    say "$name $version is needed $why: building it into $tools ..."
    # Its own target folder, which cargo removes: the project's would be locked and grow by a tool's dependencies.
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --debug --root "$tools/$name-$version" "$name@$version" "$@" >&2 </dev/null
    say "$name $version: built in $((SECONDS - started)) s"
}

# static_programs PACKAGE...: builds programs of ours as they are in the images, into the folder $programs. Static, because
# there is no libc in the image. Paths of this machine would make each machine's image another one; those of the checkout
# are relative already, and naming it here would make every checkout compile all dependencies again.
static_programs() {
    local target variable flags package packages=() cargo_home=${CARGO_HOME:-$HOME/.cargo}
    target=$(uname -m)-unknown-linux-gnu
    flags="-C target-feature=+crt-static -C link-arg=-Wl,--build-id=none"
    # A static program relocates itself; packed, its relocations take kilobytes instead of two megabytes (glibc 2.36).
    flags+=" -C link-arg=-Wl,-z,pack-relative-relocs"
    flags+=" --remap-path-prefix=$cargo_home=/cargo"
    variable=${target^^}
    export "CARGO_TARGET_${variable//-/_}_RUSTFLAGS=$flags"
    export "CFLAGS_${target//-/_}=-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$CARGO_TARGET_DIR=/target"
    for package; do
        packages+=(--package "$package")
    done
    cargo build --profile dist --locked --target "$target" "${packages[@]}" >&2
    # shellcheck disable=SC2034  # for the caller
    programs=$CARGO_TARGET_DIR/$target/dist
}

# step NAME COMMAND...: runs one step, keeps how long it took for summary.
steps=()
step() {
    local name=$1 started=$SECONDS
    shift
    printf '\n=== %s: %s\n' "$name" "$*"
    if ! "$@" </dev/null; then
        printf '\n=== %s: FAILED after %s s\n' "$name" "$((SECONDS - started))"
        exit 1
    fi
    steps+=("$(printf '%-22s %5s s' "$name" "$((SECONDS - started))")")
}

summary() {
    printf '\n=== steps\n'
    printf '  %s\n' "${steps[@]}"
    printf '  %-22s %5s s\n' total "$SECONDS"
}
