//! The injection of the sidecar: what it adds, what it keeps, and that doing it again changes nothing.

use clawlock_compile::objects::environment::{Places, variables};
use clawlock_compile::objects::sidecar::{
    Injection, Operation, Outcome, Reason, apply, check_update, inject, inject_ephemeral,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::common::{changed, compiled, injection, set, world};
use crate::objects::restricted;
use crate::pods::{MEDDLERS, Meddler, acme, is_restricted, openclaw, pod};

/// A pod after injection.
pub(crate) fn injected(pod: &Value, injection: &Injection) -> Value {
    let mut pod = pod.clone();
    match inject(&pod, injection) {
        Ok(Outcome::Injected(operations)) => apply(&mut pod, &operations).unwrap(),
        other => panic!("{other:?}\n{pod:#}"),
    }
    pod
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn openclaw_gets_its_sidecar_first_and_keeps_what_it_had() {
    let before = openclaw();
    let after = injected(&before, acme());
    assert_eq!(names(&after["spec"]["initContainers"]), ["clawlock", "seed", "clawlock-openclaw"]);
    assert_eq!(names(&after["spec"]["containers"]), ["openclaw"]);
    assert_eq!(
        names(&after["spec"]["volumes"]),
        ["home", "clawlock-token", "clawlock-private", "clawlock-agent", "clawlock-openclaw"]
    );
    assert_eq!(
        after["metadata"]["labels"],
        json!({"app": "support", "clawlock.dev/role": "agent", "clawlock.dev/tenant": "acme"})
    );
    assert_eq!(after["spec"]["automountServiceAccountToken"], false);
    assert!(!after.to_string().contains("kube-api-access"), "the API token goes");
    // Fields that this version does not know stay.
    assert_eq!(after["spec"]["futureField"], json!({"kept": true}));
    let agent = &after["spec"]["containers"][0];
    assert_eq!(agent["futureField"], json!([1]));
    assert_eq!(
        agent["volumeMounts"],
        json!([
            {"name": "home", "mountPath": "/home/node", "futureField": 1},
            {"name": "clawlock-openclaw", "mountPath": "/run/clawlock/openclaw", "readOnly": true},
            {"name": "clawlock-agent", "mountPath": "/run/clawlock/agent", "readOnly": true},
        ])
    );
    // Its own variables keep their place, ours win, and Node's options are added to.
    assert_eq!(
        agent["env"][0],
        json!({"name": "NODE_OPTIONS", "value": "--max-old-space-size=1536 --disable-sigusr1"})
    );
    assert_eq!(agent["env"][1], json!({"name": "HTTPS_PROXY", "value": "http://127.0.0.1:15001"}));
    assert_eq!(
        agent["env"].as_array().unwrap()[2..4],
        before["spec"]["containers"][0]["env"].as_array().unwrap()[2..4]
    );
    for container in [agent, &after["spec"]["initContainers"][1]] {
        for (name, _) in variables(&Places::in_pod(), None) {
            assert!(names(&container["env"]).contains(&name), "{}: {name}", container["name"]);
        }
    }
    assert!(is_restricted(&before) && is_restricted(&after));
}

#[test]
fn the_sidecar_is_this_container() {
    let sidecar = injected(&openclaw(), acme())["spec"]["initContainers"][0].clone();
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": 15020, "scheme": "HTTP"}, "timeoutSeconds": 2, "periodSeconds": period,
            "successThreshold": 1, "failureThreshold": failures,
        })
    };
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    assert_eq!(
        sidecar,
        json!({
            "name": "clawlock",
            "image": "registry.example/clawlock-sidecar:1",
            "imagePullPolicy": "IfNotPresent",
            "restartPolicy": "Always",
            "args": [
                "run", "--tenant=acme", "--trust-domain=acme.example", "--gateway=10.96.0.7:8443", "--anchor=QU5DSE9S",
            ],
            "env": [
                field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"),
                field("POD_UID", "metadata.uid"), field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
                field("HOST_IP", "status.hostIP"),
            ],
            "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "96Mi"}},
            "securityContext": restricted(65515),
            "startupProbe": probe("/startupz", 1, 600),
            "readinessProbe": probe("/readyz", 2, 2),
            "volumeMounts": [
                {"name": "clawlock-token", "mountPath": "/run/clawlock/token", "readOnly": true},
                {"name": "clawlock-private", "mountPath": "/run/clawlock/private"},
                {"name": "clawlock-agent", "mountPath": "/run/clawlock/agent"},
            ],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        })
    );
}

#[test]
fn the_volumes_are_these() {
    let after = injected(&openclaw(), acme());
    let memory = json!({"medium": "Memory", "sizeLimit": "1Mi"});
    assert_eq!(
        after["spec"]["volumes"].as_array().unwrap()[1..],
        [
            json!({"name": "clawlock-token", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"audience": "clawlock.dev", "expirationSeconds": 3600, "path": "token"}},
            ]}}),
            json!({"name": "clawlock-private", "emptyDir": memory}),
            json!({"name": "clawlock-agent", "emptyDir": memory}),
            json!({"name": "clawlock-openclaw", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}),
        ]
    );
}

#[test]
fn an_address_of_ip_version_6_is_written_with_brackets() {
    let compilation = compiled(&world());
    let injection = Injection::new(
        compilation.tenant("acme").unwrap(),
        &crate::common::release(),
        "QUJD",
        "fd00::7".parse().unwrap(),
    );
    let args = injection.container().args.clone().unwrap();
    assert!(args.contains(&"--gateway=[fd00::7]:8443".to_owned()), "{args:?}");
}

#[test]
fn operations_are_json_patch() {
    let Ok(Outcome::Injected(operations)) = inject(&openclaw(), acme()) else { panic!("not injected") };
    let told = serde_json::to_value(&operations).unwrap();
    let paths: Vec<&str> = told.as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "/metadata/labels",
            "/spec/automountServiceAccountToken",
            "/spec/volumes",
            "/spec/initContainers",
            "/spec/containers",
        ]
    );
    assert!(told.as_array().unwrap().iter().all(|one| one["op"] == "add" && one.get("value").is_some()), "{told}");
    assert!(apply(&mut json!({}), &operations).is_err());
}

#[test]
fn a_service_account_with_api_access_keeps_its_token_but_the_sidecar_has_none() {
    let mut pod = openclaw();
    set(&mut pod, "/spec/serviceAccountName", json!("deployer"));
    let mut after = injected(&pod, acme());
    assert!(names(&after["spec"]["volumes"]).contains(&"kube-api-access-x7k2p"));
    assert!(names(&after["spec"]["containers"][0]["volumeMounts"]).contains(&"kube-api-access-x7k2p"));
    assert!(after["spec"].get("automountServiceAccountToken").is_none());
    // The plugin runs again after the webhook and gives every container a token; the webhook runs again too.
    Meddler::ServiceAccount.meddle(&mut after);
    let told = after["spec"]["initContainers"][0].to_string();
    assert!(told.contains("kube-api-access"), "the plugin is not what it was: {told}");
    let again = injected(&after, acme());
    assert!(!again["spec"]["initContainers"][0].to_string().contains("kube-api-access"));
    assert!(names(&again["spec"]["containers"][0]["volumeMounts"]).contains(&"kube-api-access-x7k2p"));
}

#[test]
fn a_volume_that_only_looks_like_an_api_token_stays() {
    let mut pod = openclaw();
    let volume = json!({"name": "kube-api-access-mine", "emptyDir": {}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(volume.clone());
    let audience = json!({"name": "kube-api-access-vault", "projected": {"sources": [
        {"serviceAccountToken": {"audience": "vault", "path": "token"}},
    ]}});
    pod["spec"]["volumes"].as_array_mut().unwrap().push(audience.clone());
    let after = injected(&pod, acme());
    assert!(after["spec"]["volumes"].as_array().unwrap().contains(&volume));
    assert!(after["spec"]["volumes"].as_array().unwrap().contains(&audience));
}

#[test]
fn an_exempted_pod_loses_its_api_token_and_nothing_else() {
    let mut pod = openclaw();
    set(&mut pod, "/metadata/labels/job", json!("batch"));
    let Ok(Outcome::Exempt { exemption, operations }) = inject(&pod, acme()) else { panic!("not exempt") };
    assert_eq!(exemption, "batch");
    let mut after = pod.clone();
    apply(&mut after, &operations).unwrap();
    assert!(!after.to_string().contains("kube-api-access") && !after.to_string().contains("clawlock"));
    assert_eq!(after["spec"]["automountServiceAccountToken"], false);
    assert_eq!(after["spec"]["containers"][0]["env"], pod["spec"]["containers"][0]["env"]);
    assert_eq!(after["metadata"], pod["metadata"]);
    // With parts of a sidecar it is neither an agent nor exempt.
    let mut half = injected(&openclaw(), acme());
    set(&mut half, "/metadata/labels/job", json!("batch"));
    assert_eq!(inject(&half, acme()).unwrap_err().reason, Reason::Sidecar);
}

#[test]
fn options_of_node_that_are_not_known_here_stay() {
    let mut pod = openclaw();
    let source = json!({"name": "NODE_OPTIONS", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}});
    set(&mut pod, "/spec/containers/0/env/0", source.clone());
    let after = injected(&pod, acme());
    assert_eq!(after["spec"]["containers"][0]["env"][0], source);
}

#[test]
fn a_pod_for_windows_gets_a_sidecar_that_the_api_server_takes() {
    let pod = json!({
        "metadata": {"name": "a"},
        "spec": {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true},
                 "containers": [{"name": "a", "image": "any"}]},
    });
    let after = injected(&pod, acme());
    assert_eq!(after["spec"]["initContainers"][0]["securityContext"], json!({"runAsNonRoot": true}));
    assert_eq!(injected(&after, acme()), after);
}

#[test]
fn new_ephemeral_containers_go_through_the_gates_and_old_ones_are_not_touched() {
    let mut old = injected(&openclaw(), acme());
    set(&mut old, "/spec/ephemeralContainers", json!([{"name": "old", "image": "any"}]));
    let mut new = old.clone();
    let ephemeral = json!({"name": "new", "image": "any", "targetContainerName": "openclaw", "future": 1});
    new["spec"]["ephemeralContainers"].as_array_mut().unwrap().push(ephemeral);
    let operations = inject_ephemeral(&old, &new, acme()).unwrap();
    apply(&mut new, &operations).unwrap();
    let list = &new["spec"]["ephemeralContainers"];
    assert_eq!(list[0], json!({"name": "old", "image": "any"}));
    assert_eq!(list[1]["future"], 1);
    assert!(names(&list[1]["env"]).contains(&"HTTPS_PROXY"));
    assert_eq!(names(&list[1]["volumeMounts"]), ["clawlock-agent"]);
    assert_eq!(operations.len(), 1, "nothing else of a running pod can be changed: {operations:?}");
    assert_eq!(inject_ephemeral(&old, &new, acme()).unwrap(), [], "again");
    // A pod without a sidecar has no volume to mount.
    let mut plain = openclaw();
    set(&mut plain, "/spec/ephemeralContainers", json!([{"name": "new", "image": "any"}]));
    assert_eq!(inject_ephemeral(&openclaw(), &plain, acme()).unwrap(), []);
}

#[test]
fn updates_leave_the_sidecar_alone() {
    let mut old = injected(&openclaw(), acme());
    set(&mut old, "/metadata/annotations", json!({"clawlock.dev/manifest": "web-search", "a": "b"}));
    check_update(&old, &old, acme()).unwrap();
    for (pointer, value, reason) in [
        ("/spec/initContainers/0/image", json!("other"), Reason::Changed),
        ("/spec/initContainers/0/args", json!(["run"]), Reason::Changed),
        ("/spec/initContainers/0/name", json!("other"), Reason::Changed),
        ("/spec/volumes/2/emptyDir", json!({}), Reason::Changed),
        ("/metadata/labels/clawlock.dev~1role", json!("gateway"), Reason::ReservedLabel),
        ("/metadata/labels", json!({"app": "support"}), Reason::ReservedLabel),
        // The manifest that the pod was created with: changed, removed.
        ("/metadata/annotations/clawlock.dev~1manifest", json!("other"), Reason::Changed),
        ("/metadata/annotations", json!({}), Reason::Changed),
    ] {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        let refusal = check_update(&old, &new, acme()).expect_err(pointer);
        assert_eq!(refusal.reason, reason, "{pointer}: {refusal}");
    }
    // A finalizer can be dropped from a pod of an earlier release, whose sidecar was another.
    let mut earlier = old.clone();
    set(&mut earlier, "/spec/initContainers/0/image", json!("registry.example/clawlock-sidecar:0"));
    let mut without = earlier.clone();
    set(&mut earlier, "/metadata/finalizers", json!(["a/b"]));
    set(&mut without, "/metadata/labels/app", json!("other"));
    check_update(&earlier, &without, acme()).unwrap();
}

#[test]
fn the_image_of_a_bound_service_account_cannot_be_exchanged_later() {
    let mut old = openclaw();
    set(&mut old, "/spec/serviceAccountName", json!("billing"));
    // It ran before its account was bound: it goes on, but with no third image.
    check_update(&old, &old, acme()).unwrap();
    let mut new = old.clone();
    set(&mut new, "/spec/containers/0/image", json!("other"));
    let refusal = check_update(&old, &new, acme()).unwrap_err();
    assert_eq!((refusal.reason, refusal.path.as_str()), (Reason::Image, "spec.containers[0].image"));
    let bound = compiled(&changed("TenantGateway acme", "/spec/agents/serviceAccounts/0/images", json!(["other"])));
    check_update(&old, &new, &injection(&bound)).unwrap();
}

/// The part of a list that is of the agent, in its order, less the API token.
fn own(list: &Value, skipped: &[&str]) -> Vec<Value> {
    let mut items: Vec<Value> = list.as_array().into_iter().flatten().cloned().collect();
    items.retain(|item| {
        item["name"].as_str().is_none_or(|name| !skipped.contains(&name) && !name.starts_with("kube-api"))
    });
    items
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn doing_it_again_changes_nothing(pod in pod()) {
        let once = injected(&pod, acme());
        let Ok(Outcome::Injected(operations)) = inject(&once, acme()) else { panic!("refused the second time") };
        prop_assert_eq!(operations, Vec::<Operation>::new());
    }

    /// Whoever else changes the pod in between: the sidecar is first, is the sidecar, and has no token.
    #[test]
    fn others_in_between_do_not_matter(
        pod in pod(),
        before in prop::sample::subsequence(MEDDLERS.to_vec(), 0..=5),
        after in prop::sample::subsequence(MEDDLERS.to_vec(), 0..=5),
    ) {
        let mut pod = pod;
        before.iter().for_each(|meddler| meddler.meddle(&mut pod));
        let mut pod = injected(&pod, acme());
        after.iter().for_each(|meddler| meddler.meddle(&mut pod));
        let pod = injected(&pod, acme());
        let first = &pod["spec"]["initContainers"][0];
        prop_assert_eq!(&first["name"], "clawlock");
        prop_assert_eq!(&first["args"], &json!(acme().container().args));
        prop_assert!(!pod.to_string().contains("kube-api-access"));
        prop_assert_eq!(injected(&pod, acme()), pod);
    }

    #[test]
    fn nothing_of_the_agent_is_lost(before in pod()) {
        let after = injected(&before, acme());
        let ours = ["clawlock", "clawlock-token", "clawlock-private", "clawlock-agent", "clawlock-openclaw"];
        let volumes = |pod: &Value| own(&pod["spec"]["volumes"], &ours);
        prop_assert_eq!(volumes(&before), volumes(&after));
        let mut set: Vec<&str> = variables(&Places::in_pod(), None).into_iter().map(|(name, _)| name).collect();
        set.extend(["OPENCLAW_CONFIG_PATH", "OPENCLAW_CONFIG_READONLY", "OPENCLAW_NO_AUTO_UPDATE"]);
        for list in ["initContainers", "containers"] {
            let (was, is) = (own(&before["spec"][list], &ours), own(&after["spec"][list], &ours));
            prop_assert_eq!(was.len(), is.len());
            for (was, is) in was.iter().zip(&is) {
                prop_assert_eq!(&was["name"], &is["name"], "the order of containers");
                prop_assert_eq!(&was["image"], &is["image"]);
                prop_assert_eq!(&was["future"], &is["future"]);
                prop_assert_eq!(own(&was["env"], &set), own(&is["env"], &set));
                prop_assert_eq!(own(&was["volumeMounts"], &ours), own(&is["volumeMounts"], &ours));
                // All of its variables are still there, in their order, whoever set them.
                let was_names = names(&was["env"]);
                prop_assert_eq!(&names(&is["env"])[..was_names.len()], &was_names[..]);
            }
        }
    }

    #[test]
    fn a_pod_that_was_restricted_still_is(pod in pod()) {
        let was = is_restricted(&pod);
        prop_assert_eq!(is_restricted(&injected(&pod, acme())), was);
    }

    /// Whatever is posted: an answer, and no panic.
    #[test]
    fn any_json_has_an_answer(spec in "\\PC{0,40}", list in prop::collection::vec(any::<i32>(), 0..3)) {
        for pod in [
            json!(null), json!([]), json!({}), json!({"spec": null}), json!({"spec": spec}), json!({"spec": {}}),
            json!({"spec": {"containers": list}}), json!({"metadata": spec, "spec": {"containers": []}}),
            json!({"metadata": {"labels": list}, "spec": {"containers": []}}),
            json!({"spec": {"containers": [{"name": spec}]}}),
            json!({"spec": {"containers": [], "initContainers": {}, "volumes": spec}}),
        ] {
            let _ = inject(&pod, acme());
            let _ = inject_ephemeral(&pod, &pod, acme());
            let _ = check_update(&pod, &pod, acme());
        }
    }
}
