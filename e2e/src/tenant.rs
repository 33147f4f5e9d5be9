//! A tenant of a test's own: platform namespace, agents' namespace, an upstream with a credential, a policy.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::agent::TOOLS;
use crate::{Agent, Kubectl, Result, eventually, pki};

/// How long a tenant may take until its gateway serves: certificates, two pods, probes, on two cores.
pub const STARTS: Duration = Duration::from_secs(180);

/// The credential that must be seen at the upstream and nowhere else.
pub const CANARY: &str = "canary-sk-4711-do-not-leak";

/// A tenant. Taken away again when dropped, so that the next test has its share of the nodes; with `E2E_KEEP` set it
/// stays for a look at what went wrong.
#[derive(Debug)]
pub struct Tenant {
    /// Its name, which is also its agents' namespace.
    pub name: String,
    /// Its platform namespace.
    pub platform: String,
    /// The namespace of its upstream.
    pub origin: String,
    /// The administrator.
    pub kubectl: Kubectl,
}

impl Tenant {
    /// Creates everything that a platform team and a tenant write, and waits until the gateway serves.
    ///
    /// # Errors
    /// When something is refused or does not become ready.
    pub fn create(name: &str) -> Result<Self> {
        Self::create_with(name, "")
    }

    /// The same, with more fields in the TenantGateway's spec (YAML, indented by two).
    ///
    /// # Errors
    /// When something is refused or does not become ready.
    pub fn create_with(name: &str, more: &str) -> Result<Self> {
        let tenant = Self::prepare(name)?;
        tenant.declare(more)?;
        tenant.condition("tenantgateway", &tenant.platform, name, "Ready", STARTS)?;
        tenant.upstream_agent().ready(STARTS)?;
        Ok(tenant)
    }

    /// Creates the namespaces and the upstream's pod: what is there before anybody speaks of a tenant.
    ///
    /// # Errors
    /// When something is refused.
    pub fn prepare(name: &str) -> Result<Self> {
        let tenant = Self {
            name: name.to_owned(),
            platform: format!("{name}-gateway"),
            origin: format!("{name}-origin"),
            kubectl: Kubectl::admin(),
        };
        tenant.remove()?;
        tenant.kubectl.apply(&tenant.namespaces())?;
        for namespace in [&tenant.name, &tenant.platform, &tenant.origin] {
            // A controller makes it a moment after the namespace; no pod is taken before.
            eventually("the namespace has its ServiceAccount", Duration::from_secs(60), || {
                let account = tenant.kubectl.get(namespace, "serviceaccount", "default")?;
                account.map(drop).ok_or_else(|| format!("{namespace} has none"))
            })?;
        }
        tenant.kubectl.apply(&tenant.upstream_pod()?)?;
        Ok(tenant)
    }

    /// Creates the TenantGateway, with more fields in its spec (YAML, indented by two), its Upstream and its policy.
    ///
    /// # Errors
    /// When something is refused.
    pub fn declare(&self, more: &str) -> Result<()> {
        self.kubectl.apply(&self.gateway(more))?;
        self.kubectl.apply(&self.upstream())?;
        self.kubectl.apply(&self.policy(RULES)).map(drop)
    }

    /// The host of the upstream.
    #[must_use]
    pub fn host(&self) -> String {
        format!("payments.{}.svc.cluster.local", self.origin)
    }

    /// A URL of the upstream.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.host())
    }

    /// An agent, ready.
    ///
    /// # Errors
    /// When it is refused or does not become ready.
    pub fn agent(&self, name: &str) -> Result<Agent> {
        Agent::create(&self.name, name, "app: agent")?.ready(STARTS)
    }

    /// Somebody who is bound to `edit` in the agents' namespace.
    ///
    /// # Errors
    /// When the binding is refused.
    pub fn editor(&self) -> Result<Kubectl> {
        self.bound("editor", "edit")
    }

    /// Somebody who may do everything in the agents' namespace, subresources included, that is done by RBAC alone.
    ///
    /// # Errors
    /// When the binding is refused.
    pub fn owner(&self) -> Result<Kubectl> {
        self.bound("owner", "cluster-admin")
    }

    fn bound(&self, name: &str, role: &str) -> Result<Kubectl> {
        let user = format!("{name}-of-{}", self.name);
        self.kubectl.apply(&format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: {}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\n\
             subjects: [{{kind: User, apiGroup: rbac.authorization.k8s.io, name: {user}}}]\n",
            self.name
        ))?;
        Ok(Kubectl::user(&user))
    }

    /// The upstream's pod, to be asked what it saw.
    #[must_use]
    pub fn upstream_agent(&self) -> Agent {
        Agent::existing(&self.origin, "payments")
    }

    /// The requests that reached the upstream.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn seen(&self) -> Result<Vec<Value>> {
        let answer = self.upstream_agent().request(&["http://127.0.0.1:8080/seen"])?;
        let body = answer["body"].as_str().unwrap_or_default();
        let seen: Value = serde_json::from_str(body).map_err(|error| format!("seen: {answer}: {error}"))?;
        Ok(seen.as_array().cloned().unwrap_or_default())
    }

    /// Waits until a condition of an object is `True` for its present generation.
    ///
    /// # Errors
    /// With the object's status, when the deadline has passed.
    pub fn condition(&self, kind: &str, namespace: &str, name: &str, kind_of: &str, bound: Duration) -> Result<()> {
        self.condition_is(kind, namespace, name, (kind_of, "True"), bound).map(drop)
    }

    /// Waits until a condition of an object has a status for its present generation; answers the condition.
    ///
    /// # Errors
    /// With the object's status, when the deadline has passed.
    pub fn condition_is(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        (condition, status): (&str, &str),
        bound: Duration,
    ) -> Result<Value> {
        eventually(&format!("{kind} {namespace}/{name} has {condition}={status}"), bound, || {
            let object = self.kubectl.get(namespace, kind, name)?.ok_or("it is not there")?;
            let generation = &object["metadata"]["generation"];
            let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
            let found = conditions.into_iter().flatten().find(|found| found["type"] == condition);
            match found {
                Some(found) if found["status"] == status && found["observedGeneration"] == *generation => {
                    Ok(found.clone())
                }
                _ => Err(format!("generation {generation}, status {}", object["status"])),
            }
        })
    }

    /// The three namespaces. Only the agents' one carries the tenant's label.
    fn namespaces(&self) -> String {
        let Self { name, platform, origin, .. } = self;
        let restricted = "pod-security.kubernetes.io/enforce: restricted";
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {platform}, labels: {{{restricted}}}}}\n---\n\
             apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{restricted}, clawlock.dev/tenant: {name}}}}}\n---\n\
             apiVersion: v1\nkind: Namespace\nmetadata: {{name: {origin}, labels: {{{restricted}}}}}\n"
        )
    }

    /// The TenantGateway, with more fields of its spec if wanted (YAML, indented by two).
    #[must_use]
    pub fn gateway(&self, more: &str) -> String {
        let Self { name, platform, .. } = self;
        format!(
            r#"
apiVersion: clawlock.dev/v1alpha1
kind: TenantGateway
metadata: {{name: {name}, namespace: {platform}}}
spec:
  namespaces: [{name}]
  trustDomain: {name}.e2e.example
  replicas: 1
  guardrails:
  - {{name: nothing-is-deleted, match: {{operations: ["*.delete_*"]}}, tier: Block}}
{more}"#
        )
    }

    fn upstream(&self) -> String {
        let (platform, host) = (&self.platform, self.host());
        format!(
            r#"
apiVersion: clawlock.dev/v1alpha1
kind: Upstream
metadata: {{name: payments, namespace: {platform}}}
spec:
  protocol: HTTP
  scheme: https
  hosts: [{host}]
  port: 443
  allowedCIDRs: [10.0.0.0/8]
  tls: {{caRef: {{kind: ConfigMap, name: payments-ca, key: ca.crt}}}}
  credential: {{type: Bearer, bearer: {{secretRef: {{name: payments, key: token}}}}}}
  operations:
  - {{name: list_charges, method: GET, path: /v1/charges}}
  - {{name: watch_events, method: GET, path: /v1/events}}
  - {{name: delete_charge, method: DELETE, path: "/v1/charges/{{charge}}"}}
  - {{name: create_refund, method: POST, path: /v1/refunds, arguments: [{{name: amount, type: Integer}}]}}
"#
        )
    }

    /// A policy with these rules (YAML, a list indented by two).
    #[must_use]
    pub fn policy(&self, rules: &str) -> String {
        format!(
            "apiVersion: clawlock.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {{name: agent, namespace: {}}}\n\
             spec:\n  agentSelector: {{matchLabels: {{app: agent}}}}\n  rules:\n{rules}",
            self.name
        )
    }

    fn upstream_pod(&self) -> Result<String> {
        let Self { origin, platform, .. } = self;
        let pki::ServerCertificate { ca, certificate, key } = pki::server(&self.host())?;
        let ca = ca.replace('\n', "\n    ");
        let (certificate, key) = (BASE64.encode(certificate), BASE64.encode(key));
        Ok(format!(
            r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: payments-ca, namespace: {platform}}}
data:
  ca.crt: |
    {ca}
---
apiVersion: v1
kind: Secret
metadata: {{name: payments, namespace: {platform}}}
stringData: {{token: {CANARY}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: tls, namespace: {origin}}}
data: {{tls.crt: {certificate}, tls.key: {key}}}
---
apiVersion: v1
kind: Service
metadata: {{name: payments, namespace: {origin}}}
spec:
  selector: {{app: payments}}
  ports: [{{name: https, port: 443, targetPort: 8443}}, {{name: http, port: 80, targetPort: 8080}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: payments, namespace: {origin}, labels: {{app: payments}}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
  volumes: [{{name: tls, secret: {{secretName: tls}}}}]
  containers:
  - name: agent
    image: {TOOLS}
    command: [/tools, origin]
    readinessProbe: {{httpGet: {{path: /v1/charges, port: 8080}}, periodSeconds: 1}}
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: tls, mountPath: /tls, readOnly: true}}]
"#
        ))
    }

    /// Deletes what a test before has left, agents first, and waits until it is gone.
    ///
    /// # Errors
    /// When the API server refuses.
    pub fn remove(&self) -> Result<()> {
        let Self { name, platform, origin, kubectl } = self;
        kubectl.run(&["delete", "pod", "--all", "--now", "-n", name, "--ignore-not-found"])?;
        kubectl.run(&["delete", "tenantgateway", "--all", "-n", platform, "--ignore-not-found"])?;
        kubectl.run(&["delete", "namespace", name, platform, origin, "--ignore-not-found"]).map(drop)
    }

    /// The same without waiting for the end, which the API server reaches alone.
    fn leave(&self) -> Result<()> {
        let Self { name, platform, origin, kubectl } = self;
        kubectl.run(&["delete", "pod", "--all", "--now", "--wait=false", "-n", name])?;
        kubectl.run(&["delete", "tenantgateway", "--all", "--wait=false", "-n", platform, "--ignore-not-found"])?;
        kubectl.run(&["delete", "namespace", name, platform, origin, "--wait=false", "--ignore-not-found"]).map(drop)
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        if std::env::var_os("E2E_KEEP").is_some() {
            return;
        }
        if let Err(why) = self.leave() {
            eprintln!("tenant {} was not taken away: {why}", self.name);
        }
    }
}

/// The rules that most tests start with.
pub const RULES: &str = r#"  - {name: reading, match: {operations: [payments.list_charges, payments.watch_events]}, tier: Auto}
  - {name: refund, match: {operations: [payments.create_refund]}, when: args.amount <= 100, tier: Auto}
  - {name: large-refund, match: {operations: [payments.create_refund]}, tier: Block}
  - {name: echo, match: {http: {upstreams: [payments], paths: [/echo]}}, tier: Auto}
  - {name: looking, match: {tools: [read]}, tier: Auto}
"#;
