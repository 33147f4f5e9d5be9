# The Debian base of a node image of ours, and what images FROM scratch take out of it.

base_suite=bookworm
base_packages=containerd,runc,containernetworking-plugins,iptables,nftables,iproute2,mount,procps,conntrack,ethtool
base_packages+=,socat,ebtables,ca-certificates,util-linux,hostname,curl

base_up() {
    base=$home/base-$(digest "$base_suite" "$base_packages" "$(uname -m)")
    if [[ ! -f $base/base.tar ]]; then
        need mmdebstrap mmdebstrap "to make the Debian base of the node image"
        rm -rf "$base"
        mkdir -p "$base"
        task "making a Debian $base_suite for the node image" base_make
    fi
    touch "$base"
    forget 'base-*'
}

base_make() {
    mmdebstrap --variant=minbase --include="$base_packages" "$base_suite" "$base/part.tar"
    mkdir "$base/root"
    # Device files are of no use here and cannot be made everywhere.
    tar -C "$base/root" --exclude './dev/*' -xf "$base/part.tar"
    mv "$base/part.tar" "$base/base.tar"
}

# with_libraries PROGRAM...: the files, as scripts/mkimage wants them, of programs of the base and their libraries.
with_libraries() {
    local file
    {
        printf '%s\n' "$@"
        chroot "$base/root" ldd "$@" | grep -oE '(^|[[:space:]])/[^ :]+' | tr -d '[:blank:]'
    } | sort -u | while read -r file; do
        printf '%s:%s\n' "$base/root$(chroot "$base/root" readlink -f "$file")" "$file"
    done
}

# iptables_files: kube-proxy calls iptables, which loads its extensions by name.
iptables_files() {
    local name extensions
    mapfile -t extensions < <(cd "$base/root" && printf '/%s\n' usr/lib/*/xtables/*.so)
    with_libraries /usr/sbin/xtables-nft-multi "${extensions[@]}"
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        echo "/usr/sbin/$name=>xtables-nft-multi"
    done
}
