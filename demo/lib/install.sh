# Sourced by the demos: Node and OpenClaw from npm, into the user's cache folder, once per version.

# shellcheck source=demo/lib/node.sh
. "$(dirname "${BASH_SOURCE[0]}")/node.sh"

OPENCLAW_VERSION=2026.9.6
openclaw_folder=$cache/demo/openclaw-$OPENCLAW_VERSION
npm_into "$openclaw_folder" openclaw "$OPENCLAW_VERSION"

# OpenClaw finishes its installation when it runs for the first time, in its own folder, to which nobody in a pod may write.
openclaw_package=$openclaw_folder/node_modules/openclaw
if [[ -e $openclaw_package/.openclaw-lifecycle-pending ]]; then
    "$node_folder/node_modules/$node_package/bin/node" "$openclaw_package/openclaw.mjs" --version >&2
    [[ ! -e $openclaw_package/.openclaw-lifecycle-pending ]] ||
        die "OpenClaw did not finish its installation in $openclaw_package; remove $openclaw_folder and run this again"
fi
