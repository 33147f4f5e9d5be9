// The hooks against a real HTTP server: what it says in every wrong way blocks.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { NO_ANSWER, TOO_LARGE } from "../guard.js";
import { EXEC, denied, host, startGate, verdict } from "./fake.mjs";

const allowing = (path, body) => verdict(body, "allow");

for (const unix of [false, true]) {
  test(`an allowed call runs with what was decided, over ${unix ? "a Unix socket" : "loopback"}`, async (t) => {
    const gate = await startGate(t, allowing, { unix });
    const openclaw = host(gate.config);
    assert.equal(await openclaw.trusted(EXEC), undefined);
    assert.deepEqual(await openclaw.last(EXEC), { params: { command: "ls" } });
    assert.equal(gate.asked.length, 1, "the second hook has the same question, and its answer");
    assert.deepEqual(await openclaw.last(EXEC), { params: { command: "ls" } });
    const [first, second] = gate.asked;
    assert.equal(first.path, "/v1/decide");
    assert.equal(first.headers["content-type"], "application/json");
    assert.equal(first.headers.host, unix ? "localhost" : new URL(gate.config.url).host);
    const { requestId, ...question } = first.body;
    assert.deepEqual(question, { version: 1, tool: "exec", args: { command: "ls" }, callId: "call_1" });
    assert.match(requestId, /^[0-9a-f-]{36}$/);
    assert.equal(second.text, first.text, "an answer serves once; then the same question is asked under the same id");
  });
}

test("a call without an id is decided too", async (t) => {
  const gate = await startGate(t, allowing);
  const openclaw = host(gate.config);
  const { toolCallId: _, ...event } = EXEC;
  assert.equal(await openclaw.trusted(event), undefined);
  assert.deepEqual(await openclaw.last({ ...event, params: undefined }), { params: {} });
  assert.equal("callId" in gate.asked[0].body, false);
  assert.notEqual(gate.asked[0].body.requestId, gate.asked[1].body.requestId);
});

test("other arguments are another question", async (t) => {
  const gate = await startGate(t, allowing);
  const openclaw = host(gate.config);
  await openclaw.trusted(EXEC);
  await openclaw.last({ ...EXEC, params: { command: "rm -rf /" } });
  assert.notEqual(gate.asked[0].body.requestId, gate.asked[1].body.requestId);
  assert.deepEqual(gate.asked[1].body.args, { command: "rm -rf /" });
});

test("arguments that change while the gate decides do not run", async (t) => {
  const event = { ...EXEC, params: { command: "ls" } };
  const gate = await startGate(t, (path, body) => {
    event.params.command = "rm -rf /";
    return verdict(body, "allow");
  });
  assert.deepEqual(await host(gate.config).last(event), { params: { command: "ls" } });
});

test("a denial reaches the model as the gate's sentence, and programs as its code", async (t) => {
  const gate = await startGate(t, (path, body) => denied(body));
  const openclaw = host(gate.config);
  const message = "Blocked by policy: rule no-rm; ask.";
  assert.deepEqual(await openclaw.trusted(EXEC), { allow: false, reason: message });
  assert.deepEqual(await openclaw.last(EXEC), { block: true, blockReason: message });
  const told = JSON.parse(openclaw.logged.at(-1));
  assert.deepEqual([told.clawlock, told.code, told.rule, told.tool], ["blocked", "TierBlock", "no-rm", "exec"]);
  assert.equal(told.requestId, gate.asked.at(-1).body.requestId);
});

const WRONG = {
  "another decision": (path, body) => verdict(body, "maybe", { message: "x" }),
  "a decision in other letters": (path, body) => verdict(body, "Allow"),
  "a decision that is to come": (path, body) => verdict(body, "pending", { approval: "req-1" }),
  "no decision": (path, body) => verdict(body, undefined),
  "true for a decision": (path, body) => verdict(body, true),
  "a list for a decision": (path, body) => verdict(body, ["allow"]),
  "another version": (path, body) => JSON.stringify({ version: 2, requestId: body.requestId, decision: "allow" }),
  "no version": (path, body) => JSON.stringify({ requestId: body.requestId, decision: "allow" }),
  "the answer to another question": () => verdict({ requestId: "other" }, "allow"),
  "no object": () => "null",
  "a list": () => "[]",
  "no JSON": () => "allow",
  "nothing": () => "",
  "a denial without a sentence": (path, body) => verdict(body, "deny"),
  "a denial whose sentence is none": (path, body) => verdict(body, "deny", { message: { a: 1 } }),
  "a denial with a book for a sentence": (path, body) => verdict(body, "deny", { message: "x".repeat(5000) }),
  "201": (path, body) => ({ status: 201, body: verdict(body, "allow") }),
  "204": () => ({ status: 204 }),
  "302": (path, body) => ({ status: 302, body: verdict(body, "allow") }),
  "403": (path, body) => ({ status: 403, body: verdict(body, "allow") }),
  "500": (path, body) => ({ status: 500, body: verdict(body, "allow") }),
  "too much": (path, body) => verdict(body, "allow", { detail: "x".repeat(100_000) }),
  "half an answer": (path, body, response) => {
    response.writeHead(200, { "content-length": 1000 }).write(verdict(body, "allow"));
    response.destroy();
  },
  "a closed connection": (path, body, response) => void response.destroy(),
};

for (const [name, answer] of Object.entries(WRONG)) {
  test(`${name} blocks`, async (t) => {
    const gate = await startGate(t, answer);
    const openclaw = host({ ...gate.config, timeoutMs: 10_000 });
    assert.deepEqual(await openclaw.trusted(EXEC), { allow: false, reason: NO_ANSWER });
    assert.deepEqual(await openclaw.last(EXEC), { block: true, blockReason: NO_ANSWER });
  });
}

const LATE = {
  "no head": () => undefined,
  "no end": (path, body, response) => void response.writeHead(200).write(verdict(body, "allow")),
};

for (const [name, answer] of Object.entries(LATE)) {
  test(`an answer with ${name} within its time blocks`, async (t) => {
    const gate = await startGate(t, answer);
    const openclaw = host({ ...gate.config, timeoutMs: 20 });
    assert.deepEqual(await openclaw.trusted(EXEC), { allow: false, reason: NO_ANSWER });
    assert.match(openclaw.logged.at(-1), /no answer within 20 ms/);
  });
}

test("a gate that is not there blocks", async (t) => {
  const gate = await startGate(t, allowing);
  await new Promise((resolve) => gate.server.close(resolve));
  assert.deepEqual(await host(gate.config).last(EXEC), { block: true, blockReason: NO_ANSWER });
  assert.deepEqual(await host({ socket: "/nowhere/gate.sock" }).last(EXEC), { block: true, blockReason: NO_ANSWER });
});

test("arguments that are too large say so", async (t) => {
  const gate = await startGate(t, () => ({ status: 413, body: "{}" }));
  assert.deepEqual(await host(gate.config).last(EXEC), { block: true, blockReason: TOO_LARGE });
});

test("arguments that are no JSON block without a question", async (t) => {
  const gate = await startGate(t, allowing);
  const openclaw = host(gate.config);
  const cyclic = {};
  cyclic.self = cyclic;
  const throwing = Object.defineProperty({}, "x", { enumerable: true, get: () => assert.fail("read") });
  for (const params of [cyclic, { big: 1n }, throwing]) {
    assert.deepEqual(await openclaw.trusted({ ...EXEC, params }), { allow: false, reason: NO_ANSWER });
  }
  assert.deepEqual(await openclaw.trusted(undefined), { allow: false, reason: NO_ANSWER });
  assert.equal(gate.asked.length, 0);
});

test("a configuration that is wrong blocks everything", async () => {
  const wrong = [undefined, {}, { socket: "relative" }, { url: "http://10.0.0.1:1" }, { url: "http://127.0.0.1:0" }, { url: "https://127.0.0.1:1" }, { url: "http://127.0.0.1:1/x" }, { url: "http://127.0.0.1:1", socket: "/a" }, { url: "http://127.0.0.1:70000" }, { socket: "/a", timeoutMs: 0 }, { socket: "/a", timeoutMs: "5" }];
  for (const config of wrong) {
    const openclaw = host(config);
    assert.match(openclaw.logged[0], /configuration of clawlock-guard is wrong/, JSON.stringify(config));
    assert.deepEqual(await openclaw.trusted(EXEC), { allow: false, reason: NO_ANSWER });
    assert.equal((await openclaw.run({})).outcome, "block");
  }
});

test("the last hook is behind all others and has longer than the gate", () => {
  const { hooks, policy } = host({ socket: "/a", timeoutMs: 700 });
  assert.deepEqual(hooks.get("before_tool_call").options, { timeoutMs: 1700, priority: Number.MIN_SAFE_INTEGER });
  assert.equal(policy.id, "clawlock");
  assert.equal(policy.matcher, undefined, "it is asked about every tool");
});

test("the outcome of a call is reported under the id that allowed it", async (t) => {
  const gate = await startGate(t, (path, body) => (path === "/v1/decide" ? verdict(body, "allow") : '{"version":1}'));
  const openclaw = host(gate.config);
  await openclaw.last(EXEC);
  const result = { content: [{ type: "text", text: "käse" }] };
  await openclaw.after({ ...EXEC, durationMs: 12.4, result });
  const { path, body } = gate.asked[1];
  assert.equal(path, "/v1/outcome");
  const resultSha256 = createHash("sha256").update(JSON.stringify(result)).digest("hex");
  assert.deepEqual(body, { version: 1, requestId: gate.asked[0].body.requestId, durationMs: 12, error: false, resultSha256 });
  await openclaw.after({ ...EXEC, durationMs: 1, result });
  assert.equal(gate.asked.length, 2, "each call has one");
});

test("an outcome says whether the call failed, and its duration fits", async (t) => {
  const gate = await startGate(t, (path, body) => (path === "/v1/decide" ? verdict(body, "allow") : '{"version":1}'));
  const openclaw = host(gate.config);
  for (const [durationMs, shown] of [[undefined, 0], [-5, 0], [Number.NaN, 0], [1e12, 0xffff_ffff]]) {
    await openclaw.last(EXEC);
    await openclaw.after({ ...EXEC, durationMs, error: "exit 1" });
    const { body } = gate.asked.at(-1);
    assert.deepEqual([body.durationMs, body.error, "resultSha256" in body], [shown, true, false]);
  }
});

test("a blocked call has no outcome, and one that is not recorded harms nobody", async (t) => {
  let decide = denied;
  const gate = await startGate(t, (path, body) => (path === "/v1/decide" ? decide(body) : { status: 503, body: "{}" }));
  const openclaw = host(gate.config);
  await openclaw.last(EXEC);
  await openclaw.after({ ...EXEC, error: "blocked" });
  await openclaw.after({ toolName: "exec" });
  assert.equal(gate.asked.length, 1);
  decide = (body) => verdict(body, "allow");
  await openclaw.last(EXEC);
  await openclaw.after({ ...EXEC, result: { toJSON: () => assert.fail("no JSON") } });
  assert.match(openclaw.logged.at(-1), /outcome not recorded/);
});
