//! OpenClaw's guard in a pod: the init container that puts it in place, and the variables that send OpenClaw there.

use clawlock_compile::objects::sidecar::{Reason, check_update, inject};
use serde_json::{Value, json};

use crate::common::set;
use crate::pods::{acme, openclaw};
use crate::sidecar::{injected, names};

fn installer(pod: &Value) -> Option<&Value> {
    let found = |container: &&Value| container["name"] == "clawlock-openclaw";
    pod["spec"]["initContainers"].as_array()?.iter().find(found)
}

fn variable<'a>(container: &'a Value, name: &str) -> Option<&'a Value> {
    let mut found = container["env"].as_array()?.iter().filter(|entry| entry["name"] == name);
    let first = found.next();
    assert!(found.next().is_none(), "{name} stands there twice");
    first
}

#[test]
fn the_installer_is_this_container() {
    let mut pod = openclaw();
    let author = json!({"name": "OPENCLAW_CONFIG_PATH", "value": "/home/node/own.json"});
    pod["spec"]["containers"][0]["env"].as_array_mut().unwrap().push(author);
    set(&mut pod, "/spec/containers/0/envFrom", json!([{"secretRef": {"name": "more"}}]));
    let after = injected(&pod, acme());
    assert_eq!(
        installer(&after).unwrap(),
        &json!({
            "name": "clawlock-openclaw",
            "image": "registry.example/clawlock-sidecar:1",
            "imagePullPolicy": "IfNotPresent",
            "args": ["install-openclaw"],
            // As the author wrote them, with no variable of ours.
            "env": pod["spec"]["containers"][0]["env"],
            "envFrom": [{"secretRef": {"name": "more"}}],
            "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"memory": "96Mi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
                "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "volumeMounts": [
                {"name": "home", "mountPath": "/home/node", "futureField": 1},
                {"name": "clawlock-openclaw", "mountPath": "/run/clawlock/openclaw"},
            ],
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        })
    );
    let agent = &after["spec"]["containers"][0];
    for (name, value) in [
        ("OPENCLAW_CONFIG_PATH", "/run/clawlock/openclaw/openclaw.json"),
        ("OPENCLAW_CONFIG_READONLY", "1"),
        ("OPENCLAW_NO_AUTO_UPDATE", "1"),
    ] {
        assert_eq!(variable(agent, name), Some(&json!({"name": name, "value": value})));
    }
    // The second time it finds ours in place of the author's.
    assert_eq!(injected(&after, acme()), after);
    // A copy without the installer has lost them, but is not sent in a circle.
    let mut copy = after.clone();
    copy["spec"]["initContainers"].as_array_mut().unwrap().pop();
    let copied = injected(&copy, acme());
    assert_eq!(variable(installer(&copied).unwrap(), "OPENCLAW_CONFIG_PATH"), None);
}

#[test]
fn it_runs_as_the_user_of_openclaw_s_container() {
    let mut pod = openclaw();
    let own = json!({"runAsUser": 7, "runAsGroup": 8, "seLinuxOptions": {"level": "s0:c1,c2"}});
    set(&mut pod, "/spec/containers/0/securityContext", own);
    let after = injected(&pod, acme());
    let context = &installer(&after).unwrap()["securityContext"];
    assert_eq!((&context["runAsUser"], &context["runAsGroup"]), (&json!(7), &json!(8)));
    assert_eq!(context["seLinuxOptions"]["level"], "s0:c1,c2");
    let mut root = openclaw();
    set(&mut root, "/spec/securityContext", json!({"runAsUser": 0, "runAsGroup": 9}));
    let after = injected(&root, acme());
    let context = &installer(&after).unwrap()["securityContext"];
    assert_eq!((&context["runAsNonRoot"], &context["runAsGroup"]), (&json!(false), &json!(9)));
    // Whom nobody names here only the image knows.
    let mut unknown = openclaw();
    set(&mut unknown, "/spec/securityContext", json!({"runAsNonRoot": true}));
    let after = injected(&unknown, acme());
    assert_eq!(installer(&after), None);
    assert_eq!(variable(&after["spec"]["containers"][0], "OPENCLAW_CONFIG_PATH"), None);
}

#[test]
fn a_pod_of_plugin_optional_has_none() {
    let mut pod = openclaw();
    set(&mut pod, "/metadata/labels/app", json!("python"));
    let after = injected(&pod, acme());
    assert_eq!(names(&after["spec"]["initContainers"]), ["clawlock", "seed"]);
    assert_eq!(variable(&after["spec"]["containers"][0], "OPENCLAW_CONFIG_PATH"), None);
    assert!(!names(&after["spec"]["containers"][0]["volumeMounts"]).contains(&"clawlock-openclaw"));
}

#[test]
fn openclaw_s_container_is_the_one_that_kubectl_picks() {
    let mut pod = openclaw();
    let other = json!({"name": "proxy", "image": "proxy:1", "securityContext": {"runAsUser": 5}});
    pod["spec"]["containers"].as_array_mut().unwrap().insert(0, other);
    let governed = |pod: &Value| -> Vec<bool> {
        let after = injected(pod, acme());
        let containers = after["spec"]["containers"].as_array().unwrap();
        containers.iter().map(|container| variable(container, "OPENCLAW_CONFIG_PATH").is_some()).collect()
    };
    assert_eq!(governed(&pod), [true, false]);
    set(&mut pod, "/metadata/annotations", json!({"kubectl.kubernetes.io/default-container": "openclaw"}));
    assert_eq!(governed(&pod), [false, true]);
    let after = injected(&pod, acme());
    assert_eq!(installer(&after).unwrap()["securityContext"]["runAsUser"], 1000);
    // A name that is none of its containers picks none, for kubectl too.
    set(&mut pod, "/metadata/annotations", json!({"kubectl.kubernetes.io/default-container": "none"}));
    assert_eq!(governed(&pod), [true, false]);
}

#[test]
fn a_container_by_its_name_is_made_anew() {
    let mut pod = openclaw();
    let fake = json!({
        "name": "clawlock-openclaw", "image": "evil:1", "command": ["/bin/evil"], "args": ["run"],
        "securityContext": {"privileged": true}, "volumeMounts": [{"name": "clawlock-private", "mountPath": "/x"}],
        "resources": {"limits": {"memory": "64Mi"}}, "restartPolicy": "Always",
    });
    pod["spec"]["initContainers"].as_array_mut().unwrap().push(fake.clone());
    let after = injected(&pod, acme());
    let mut wanted = installer(&injected(&openclaw(), acme())).unwrap().clone();
    // It brought no variables along, and a LimitRange may have written amounts.
    wanted.as_object_mut().unwrap().remove("env");
    wanted["resources"] = json!({"limits": {"memory": "64Mi"}});
    assert_eq!(installer(&after), Some(&wanted));
    // Nor is it a container, or there where none belongs.
    let mut pod = openclaw();
    set(&mut pod, "/spec/containers/0/name", json!("clawlock-openclaw"));
    assert_eq!(inject(&pod, acme()).unwrap_err().reason, Reason::Sidecar);
    let mut pod = openclaw();
    set(&mut pod, "/metadata/labels/app", json!("python"));
    pod["spec"]["initContainers"].as_array_mut().unwrap().push(fake);
    assert_eq!(installer(&injected(&pod, acme())), None);
}

#[test]
fn nobody_else_writes_its_volume_and_nobody_exchanges_it_later() {
    for mount in [
        json!({"name": "clawlock-openclaw", "mountPath": "/run/clawlock/openclaw"}),
        json!({"name": "clawlock-openclaw", "mountPath": "/elsewhere", "readOnly": true}),
        json!({"name": "home", "mountPath": "/run/clawlock/openclaw", "readOnly": true}),
    ] {
        let mut pod = openclaw();
        pod["spec"]["containers"][0]["volumeMounts"].as_array_mut().unwrap().push(mount.clone());
        assert_eq!(inject(&pod, acme()).unwrap_err().reason, Reason::ReservedVolume, "{mount}");
    }
    let old = injected(&openclaw(), acme());
    let mut new = old.clone();
    set(&mut new, "/spec/initContainers/2/image", json!("evil:1"));
    assert_eq!(check_update(&old, &new, acme()).unwrap_err().reason, Reason::Changed);
}
