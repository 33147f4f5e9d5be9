# The node image: kind's published one where it can be pulled, otherwise one of ours, from Debian's base and the
# programs of programs.sh. Sets node_image, and node_kind to "published" or "built".

node_image_up() {
    # An engine of ours has no way to any registry; CLUSTER_NODE=built asks for ours where there is one.
    if [[ $engine_mode == machine && ${CLUSTER_NODE:-} != built ]] && published_node_image_there; then
        node_kind=published
        task "taking kubectl from the node image" published_kubectl
        return
    fi
    node_kind=built
    node_programs
    base_up
    node_image=clawlock-node:$(digest "$(program_file kube-all)" "$(program_file etcd)" "$(program_file coredns)" \
        "$(program_file pause)" "$(program_file runcw)" "$(basename "$base")" "$parts/node" "$parts/node-image.sh")
    docker image inspect "$node_image" >/dev/null 2>&1 || task "building the node image" node_image_build
}

# published_node_image: the image, with its digest, that kind's release was made for; it stands in kind's source.
published_node_image() {
    local source
    source=$(cd "$parts/go/kind" && go mod download sigs.k8s.io/kind && go list -m -f '{{.Dir}}' sigs.k8s.io/kind)
    sed -n 's/^const Image = "\(.*\)"$/\1/p' "$source/pkg/apis/config/defaults/image.go"
}

published_kubectl() {
    local container
    container=$(docker create "$node_image")
    docker cp "$container:/usr/bin/kubectl" "$bin/kubectl.part"
    docker rm "$container"
    # A link to ours may be there.
    rm -f "$bin/kubectl"
    mv "$bin/kubectl.part" "$bin/kubectl"
}

published_node_image_there() {
    node_image=$(published_node_image)
    [[ -n $node_image ]] || return
    docker image inspect "$node_image" >/dev/null 2>&1 && return
    # Asking for the manifest says quickly whether the registry can be reached; the image takes its time.
    timeout 20 docker manifest inspect "$node_image" >/dev/null 2>&1 || return
    say "$(date +%T) pulling $node_image ..."
    docker pull --quiet "$node_image" >/dev/null
}

node_image_build() {
    local work=$home/node.part root
    root=$work/root
    rm -rf "$work"
    mkdir -p "$root"/{kind/images,kind/manifests,usr/local/bin,etc/containerd,etc/cni/net.d}
    node_image_archives "$root/kind/images"
    cp "$(program_file kube-all)" "$(program_file runcw)" "$parts/node/entrypoint" "$root/usr/local/bin/"
    local name
    for name in kubelet kubeadm kubectl; do ln -s kube-all "$root/usr/local/bin/$name"; done
    version_of kube k8s.io/kubernetes >"$root/kind/version"
    sed "s#@PAUSE@#$(component_image pause)#" "$parts/node/containerd.toml" >"$root/etc/containerd/config.toml"
    cp "$parts/node/default-storage.yaml" "$root/kind/manifests/"
    # By hand instead of a Dockerfile: which builder an engine has differs, and ours has no network for one.
    local layer container
    layer=clawlock-node-base:${base##*-}
    docker image inspect "$layer" >/dev/null 2>&1 || docker import "$base/base.tar" "$layer"
    container=$(docker create "$layer" /usr/local/bin/entrypoint)
    docker cp "$root/." "$container:/"
    docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint"]' --change 'CMD []' --change 'ENV container=docker' \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' "$container" "$node_image"
    docker rm "$container"
    rm -rf "$work"
    node_images_forget
}

# Images of older contents that no cluster uses; those in use are refused and stay.
node_images_forget() {
    local old
    docker images --format '{{.Repository}}:{{.Tag}}' clawlock-node | while read -r old; do
        [[ $old == "$node_image" ]] || docker rmi "$old" >/dev/null 2>&1 || true
    done
}

# component_image NAME: the reference under which kubeadm of this version asks for a component.
component_image() {
    kubeadm config images list --kubernetes-version "$(version_of kube k8s.io/kubernetes)" 2>/dev/null | grep "/$1:"
}

# node_image_archives FOLDER: the images that run in the nodes, under the names that kubeadm asks for.
node_image_archives() {
    local names='' name files path=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
        names+=${names:+,}$(component_image "$name")
        files+=("/usr/local/bin/$name=>kube-all")
    done
    # kube-proxy calls nft or iptables; the others share the image because they share the program.
    mapfile -t -O "${#files[@]}" files < <({ with_libraries /usr/sbin/nft; iptables_files; } | sort -u)
    "$mkimage" "$1/kubernetes.tar" "$names" --env "$path" --dir run \
        "$(program_file kube-all):/usr/local/bin/kube-all" "${files[@]}"
    "$mkimage" "$1/etcd.tar" "$(component_image etcd)" --env "$path" "$(program_file etcd):/usr/local/bin/etcd"
    "$mkimage" "$1/coredns.tar" "$(component_image coredns)" --entrypoint /coredns "$(program_file coredns):/coredns"
    "$mkimage" "$1/pause.tar" "$(component_image pause)" --entrypoint /pause --user 65535:65535 \
        "$(program_file pause):/pause"
}
