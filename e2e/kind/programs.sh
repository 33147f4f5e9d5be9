# Builds the programs of the cluster from their Go modules. Versions and checksums stand in go/*/go.mod and go.sum.

# go_ready: Go, and a module proxy as the only source: the fallback to the repositories themselves is slow where they
# cannot be reached, and go.sum holds whatever the proxy says to account.
go_ready() {
    [[ -z ${go_version:-} ]] || return 0
    command -v go >/dev/null || die "go is needed to build the cluster's programs; install Go 1.26 or later"
    GOPROXY=$(go env GOPROXY)
    export GOPROXY=${GOPROXY%,direct} CGO_ENABLED=0 GOFLAGS="-buildvcs=false -trimpath"
    go_version=$(go env GOVERSION GOARCH | tr '\n' ' ')
}

# version_of MODULE PACKAGE: the version of a dependency, as v1.2.3.
version_of() {
    sed -n "s#^\(require\)\?\s*$2 \(v[^ ]*\).*#\2#p" "$parts/go/$1/go.mod" | head -1
}

# program NAME MODULE PACKAGE [LDFLAGS]: builds one program unless it is there, and links it into $bin.
program() {
    local name=$1 module=$parts/go/$2 package=$3 flags="-s -w ${4:-}" folder
    go_ready
    folder=$home/programs/$name-$(digest "$go_version" "$module" "$package" "$flags")
    if [[ ! -x $folder/$name ]]; then
        mkdir -p "$folder"
        task "building $name from go/$2" go_build "$module" "$folder/$name" "$package" "$flags"
    fi
    touch "$folder"
    ln -sfn "$folder/$name" "$bin/$name"
    forget "programs/$name-*"
}

go_build() {
    (cd "$1" && nice -n 5 go build -ldflags "$4" -o "$2.part" "$3")
    mv "$2.part" "$2"
}

# kubernetes_flags: what Kubernetes' own build stamps into its programs; kubeadm and helm compare these versions.
kubernetes_flags() {
    local version package flags=
    version=$(version_of kube k8s.io/kubernetes)
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$(minor "$version")"
        flags+=" -X $package.gitTreeState=clean -X $package.buildDate=1970-01-01T00:00:00Z"
    done
    printf '%s' "$flags"
}

minor() { cut -d . -f 2 <<<"$1"; }

# Without these helm believes in a Kubernetes of its library's default when it renders without a cluster.
helm_flags() {
    local capabilities=helm.sh/helm/v3/pkg/chartutil
    printf '%s' "-X helm.sh/helm/v3/internal/version.version=$(version_of helm helm.sh/helm/v3)" \
        " -X $capabilities.k8sVersionMajor=1 -X $capabilities.k8sVersionMinor=$(minor "$(version_of kube k8s.io/kubernetes)")"
}

kubernetes_programs() {
    local component
    program kube-all kube . "$(kubernetes_flags)"
    for component in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubeadm kubectl; do
        ln -sfn kube-all "$bin/$component"
    done
}

# What runs on this machine, whichever node image is used.
tool_programs() {
    program kind kind sigs.k8s.io/kind
    program helm helm helm.sh/helm/v3/cmd/helm "$(helm_flags)"
    program probe probe .
}

# What a node image of ours is made from.
node_programs() {
    kubernetes_programs
    program etcd etcd go.etcd.io/etcd/server/v3
    program coredns coredns .
    program pause pause .
    program runcw runcw .
    program netpol netpol .
}

# program_file NAME: the file that a link in $bin stands for; its folder's name tells what it was made from.
program_file() { readlink -f "$bin/$1"; }
