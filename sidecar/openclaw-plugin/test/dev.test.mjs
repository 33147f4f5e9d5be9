// The plugin against the real gate: `clawlock dev` over a folder of YAML. CLAWLOCK_BIN names the binary.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import readline from "node:readline";
import test from "node:test";
import { host } from "./fake.mjs";

// A busy machine is no reason to block here: what is tested is what the gate says.
const TIMEOUT_MS = 10_000;
const POLICY = `
apiVersion: clawlock.dev/v1alpha1
kind: TenantGateway
metadata: {name: acme, namespace: acme-gateway}
spec: {namespaces: [acme], trustDomain: acme.example}
---
apiVersion: clawlock.dev/v1alpha1
kind: AgentPolicy
metadata: {name: support, namespace: acme}
spec:
  agentSelector: {}
  rules:
  - {name: no-rm, match: {tools: [exec]}, when: 'args.command.contains("rm ")', tier: Block}
  - {name: shell, match: {tools: [exec]}, tier: Auto}
`;

/** Starts `clawlock dev`; resolves with its ready event once both gates serve. */
async function startDev(t) {
  const folder = fs.mkdtempSync(path.join(tmpdir(), "clawlock-dev-"));
  fs.mkdirSync(path.join(folder, "policies"));
  fs.writeFileSync(path.join(folder, "policies/acme.yaml"), POLICY);
  const args = ["dev", "--folder", path.join(folder, "policies"), "--state-dir", path.join(folder, "state"), "--output", "json"];
  const dev = spawn(process.env.CLAWLOCK_BIN, args, { stdio: ["ignore", "pipe", "inherit"] });
  const ended = new Promise((resolve) => dev.once("exit", resolve));
  t.after(async () => {
    dev.kill("SIGTERM");
    await ended;
    fs.rmSync(folder, { recursive: true });
  });
  for await (const line of readline.createInterface({ input: dev.stdout })) {
    const event = JSON.parse(line);
    if (event.event === "ready") return event;
  }
  return assert.fail("clawlock dev ended before its gates served");
}

test("the real gate decides, hears and records", { skip: !process.env.CLAWLOCK_BIN && "CLAWLOCK_BIN is not set" }, async (t) => {
  const ready = await startDev(t);
  const records = () => fs.readFileSync(ready.log, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
  for (const config of [{ socket: ready.decideSocket }, { url: new URL(ready.decide).origin }]) {
    const openclaw = host({ ...config, timeoutMs: TIMEOUT_MS });
    t.after(() => openclaw.stop());
    const from = records().length;
    assert.deepEqual(await openclaw.run({}), { outcome: "pass" }, "the gate takes the heartbeat");
    const event = { toolName: "exec", params: { command: "ls" }, toolCallId: `call-${from}` };
    assert.equal(await openclaw.trusted(event), undefined);
    assert.deepEqual(await openclaw.last(event), { params: { command: "ls" } });
    const result = { content: [{ type: "text", text: "a b" }] };
    await openclaw.after({ ...event, durationMs: 7, result });
    const { allow, reason } = await openclaw.trusted({ ...event, params: { command: "rm -rf /" } });
    assert.equal(allow, false);
    assert.match(reason, /rule no-rm of policy acme\/support.*; .*\.$/);
    const [allowed, outcome, blocked, ...more] = records().slice(from);
    assert.deepEqual(more, [], "the two hooks of a call make one record");
    assert.deepEqual([allowed.outcome.rule, allowed.action.callId], ["shell", event.toolCallId]);
    assert.equal(outcome.requestId, allowed.requestId);
    const resultSha256 = createHash("sha256").update(JSON.stringify(result)).digest("hex");
    assert.deepEqual(outcome.action, { type: "toolResult", tool: "exec", durationMs: 7, error: false, resultSha256 });
    assert.equal(outcome.outcome.verdict, "reported");
    assert.equal(blocked.outcome.code, "TierBlock");
  }
});
