//! What somebody who is bound to `edit` in the agents' namespace tries, and the answer: section by section of the page on
//! threats. Each attempt has a control: the same write without its point is taken.

use clawlock_e2e::{Kubectl, Result, Tenant, agent};

/// The manifest of a pod with something put into its spec (indented by two) or its container (by four).
fn pod(tenant: &Tenant, name: &str, spec: &str, container: &str) -> String {
    let mut manifest = agent::manifest(&tenant.name, name, "app: agent");
    if !spec.is_empty() {
        manifest = manifest.replace("  containers:\n", &format!("{spec}\n  containers:\n"));
    }
    if !container.is_empty() {
        manifest.push_str(&format!("{container}\n"));
    }
    manifest
}

const APPLY: [&str; 4] = ["create", "--dry-run=server", "-f", "-"];

#[test]
fn pods_that_would_leave_their_fence_are_refused() -> Result<()> {
    let tenant = Tenant::create("admit-pods")?;
    let editor = tenant.editor()?;
    let control = editor.run_with(&APPLY, &pod(&tenant, "control", "", ""))?;
    assert!(control.contains("created"), "{control}");
    for (what, spec, container) in [
        ("hostNetwork", "  hostNetwork: true", ""),
        ("hostPID", "  hostPID: true", ""),
        ("shareProcessNamespace", "  shareProcessNamespace: true", ""),
        ("nodeName", &format!("  nodeName: {}", tenant.kubectl.worker()?), ""),
        ("hostPath", "  volumes: [{name: host, hostPath: {path: /}}]", ""),
        ("hostPort", "", "    ports: [{containerPort: 80, hostPort: 80}]"),
        ("reserved uid", "", "    # nothing"),
        ("probe host", "", "    livenessProbe: {httpGet: {host: 10.96.0.1, port: 443}}"),
        ("toleration", "  tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]", ""),
        (
            "audience",
            "  volumes: [{name: t, projected: {sources: [{serviceAccountToken: {audience: clawlock.dev, path: t}}]}}]",
            "",
        ),
        ("our volume", "", "    volumeMounts: [{name: clawlock-private, mountPath: /x}]"),
    ] {
        let mut manifest = pod(&tenant, "attempt", spec, container);
        if what == "reserved uid" {
            manifest = manifest.replace("runAsUser: 1000", "runAsUser: 65515");
        }
        let refused = editor.must_refuse(&APPLY, &manifest).map_err(|why| format!("{what}: {why}"))?;
        println!("{what:22} {}", refused.0.lines().next().unwrap_or_default());
    }
    Ok(())
}

#[test]
fn what_the_operator_keeps_cannot_be_changed() -> Result<()> {
    let tenant = Tenant::create("admit-keep")?;
    let editor = tenant.editor()?;
    let agent = tenant.agent("agent")?;
    let namespace = tenant.name.as_str();
    let image = r#"[{"op":"replace","path":"/spec/initContainers/0/image","value":"evil:1"}]"#;
    let policy = format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: open, namespace: {namespace}}}\n\
         spec: {{podSelector: {{}}, policyTypes: [Egress], egress: [{{}}]}}\n"
    );
    let token = format!(
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata: {{name: t, namespace: {namespace}, \
         annotations: {{kubernetes.io/service-account.name: default}}}}\n"
    );
    let service = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {namespace}}}\nspec: {{externalIPs: [192.0.2.1], ports: [{{port: 80}}]}}\n"
    );
    let attempts: [(&str, Vec<&str>, &str); 11] = [
        ("sidecar's image", vec!["patch", "pod", "agent", "-n", namespace, "--type=json", "-p", image], ""),
        ("role label", vec!["label", "pod", "agent", "-n", namespace, "clawlock.dev/role=gateway", "--overwrite"], ""),
        (
            "tenant label",
            vec!["label", "pod", "agent", "-n", namespace, "clawlock.dev/tenant=other", "--overwrite"],
            "",
        ),
        ("selector label", vec!["label", "pod", "agent", "-n", namespace, "app=other", "--overwrite"], ""),
        ("a NetworkPolicy of one's own", vec!["create", "-f", "-"], &policy),
        ("default deny", vec!["delete", "networkpolicy", "clawlock-default-deny", "-n", namespace], ""),
        ("our audience", vec!["create", "token", "default", "-n", namespace, "--audience", "clawlock.dev"], ""),
        ("token Secret", vec!["create", "-f", "-"], &token),
        ("externalIPs", vec!["create", "-f", "-"], &service),
        ("exec", vec!["exec", "agent", "-n", namespace, "-c", "agent", "--", "/tools", "raw"], ""),
        ("port-forward", vec!["port-forward", "agent", "-n", namespace, "0:15001"], ""),
    ];
    let mut wrong = Vec::new();
    for (what, args, input) in attempts {
        match editor.must_refuse(&args, input) {
            Ok(refused) => println!("{what:30} {}", refused.0.lines().next().unwrap_or_default()),
            Err(taken) => wrong.push(format!("{what}: {taken}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The control: what is theirs, they may change.
    editor.run(&["annotate", "pod", "agent", "-n", namespace, "example.com/note=mine"])?;
    drop(agent);
    Ok(())
}

#[test]
fn the_tenants_label_stays_on_its_namespace() -> Result<()> {
    let tenant = Tenant::create("admit-label")?;
    let name = tenant.name.as_str();
    // Somebody who may write namespaces, as teams do that serve themselves.
    let rights = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: e2e-namespaces}\nrules:\n\
                  - {apiGroups: [\"\"], resources: [namespaces, namespaces/status, namespaces/finalize], verbs: [get, update, patch]}\n---\n\
                  apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: e2e-namespaces}\n\
                  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: e2e-namespaces}\n\
                  subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: namespace-writer}]\n";
    tenant.kubectl.apply(rights)?;
    let writer = Kubectl::user("namespace-writer");
    // The control: another label may come and go.
    writer.run(&["label", "namespace", name, "team=blue"])?;
    let off = r#"{"metadata":{"labels":{"clawlock.dev/tenant":null}}}"#;
    let patch = ["patch", "namespace", name, "--type=merge", "-p", off];
    for subresource in ["", "status"] {
        let mut args = patch.to_vec();
        if !subresource.is_empty() {
            args.extend(["--subresource", subresource]);
        }
        let refused = writer.must_refuse(&args, "")?;
        println!("label taken off by namespaces/{subresource}: {}", refused.0);
    }
    let other = ["label", "namespace", name, "clawlock.dev/tenant=other", "--overwrite"];
    println!("label changed: {}", writer.must_refuse(&other, "")?.0);
    Ok(())
}
