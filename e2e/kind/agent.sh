# The agent of the nodes that we build: pod network and NetworkPolicy. Published nodes bring an enforcing one of kind's.

# agent_up: the agent of this checkout runs on every node, whatever ran there before.
agent_up() {
    local archive reference files
    base_up
    agent_digest=$(digest "$(program_file netpol)" "$(basename "$base")" "$parts/agent.yaml")
    archive=$home/images/netpol-$agent_digest.tar
    reference=localhost/netpol:$agent_digest
    if [[ ! -f $archive ]]; then
        mapfile -t files < <(with_libraries /usr/sbin/nft)
        "$mkimage" "$archive" "$reference" --env PATH=/usr/sbin:/usr/local/bin --dir run \
            --entrypoint /usr/local/bin/netpol "$(program_file netpol):/usr/local/bin/netpol" "${files[@]}"
        forget 'images/netpol-*.tar'
    fi
    load_archive "$archive"
    sed "s#@IMAGE@#$reference#" "$parts/agent.yaml" | inside kubectl apply -f - >/dev/null
    task "waiting for the agent on every node" inside kubectl -n kube-system rollout status ds/netpol --timeout=120s
}
