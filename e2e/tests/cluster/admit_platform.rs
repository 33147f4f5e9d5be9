//! What belongs to the platform team: the tenant's label, the definitions, and everything that gives rules their meaning.

use clawlock_e2e::{Kubectl, Result, Tenant};

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
    let mut namespace = tenant.kubectl.get("", "namespace", name)?.ok_or("the namespace is not there")?;
    let finalize = ["replace", "--raw", &format!("/api/v1/namespaces/{name}/finalize"), "-f", "-"];
    writer.run_with(&finalize, &namespace.to_string())?;
    let labels = namespace.pointer_mut("/metadata/labels").and_then(serde_json::Value::as_object_mut);
    labels.ok_or("the namespace has no labels")?.remove("clawlock.dev/tenant");
    let refused = writer.must_refuse(&finalize, &namespace.to_string())?;
    println!("label taken off by namespaces/finalize: {}", refused.0);
    refused.says("clawlock-tenant-label")?;
    let other = ["label", "namespace", name, "clawlock.dev/tenant=other", "--overwrite"];
    println!("label changed: {}", writer.must_refuse(&other, "")?.0);
    Ok(())
}

#[test]
fn definitions_are_not_deleted_by_mistake() -> Result<()> {
    // The administrator of the cluster: it is a mistake that this closes, not an attack.
    for kind in ["agenthalts", "agentpolicies", "tenantgateways", "upstreams"] {
        let delete = ["delete", "crd", &format!("{kind}.clawlock.dev"), "--dry-run=server"];
        let refused = Kubectl::admin().must_refuse(&delete, "")?;
        println!("{}", refused.0);
        refused.says("clawlock-definitions")?;
    }
    Ok(())
}

#[test]
fn what_gives_rules_their_meaning_is_out_of_the_tenants_reach() -> Result<()> {
    let tenant = Tenant::create("admit-reach")?;
    let editor = tenant.editor()?;
    let (platform, release) = (tenant.platform.as_str(), "clawlock-system");
    // The control: in its own namespace it writes what it may.
    editor.run(&["annotate", "agentpolicy", "agent", "-n", &tenant.name, "example.com/note=mine"])?;
    let mut tried = 0;
    for (namespace, kind, name) in [
        (platform, "upstream", "payments"),
        (platform, "configmap", "payments-ca"),
        (platform, "secret", "payments"),
        (platform, "tenantgateway", tenant.name.as_str()),
        (platform, "statefulset", "clawlock-gateway"),
        (platform, "networkpolicy", "clawlock-gateway"),
        (release, "configmap", "clawlock-admission"),
        (release, "secrets", ""),
        ("", "namespace", &tenant.name),
    ] {
        let object: Vec<&str> = [kind, name].into_iter().filter(|word| !word.is_empty()).collect();
        let within: &[&str] = if namespace.is_empty() { &[] } else { &["-n", namespace] };
        let mut verbs = vec![vec!["get"], vec!["delete", "--dry-run=server"]];
        if name.is_empty() {
            verbs[1].push("--all");
        } else {
            verbs.push(vec!["annotate", "example.com/note=mine"]);
        }
        for verb in verbs {
            // Reading one's namespace is part of edit.
            if (verb[0], kind) == ("get", "namespace") {
                continue;
            }
            let args = [&verb[..1], &object, &verb[1..], within].concat();
            let refused = editor.must_refuse(&args, "")?;
            refused.says(" cannot ")?;
            tried += 1;
        }
    }
    let token = ["create", "token", "clawlock-gateway", "-n", platform];
    println!("{}", editor.must_refuse(&token, "")?.0);
    println!("figure: {tried} attempts on the platform team's objects, each refused by RBAC");
    Ok(())
}
