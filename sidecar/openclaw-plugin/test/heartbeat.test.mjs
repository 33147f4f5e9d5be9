// The heartbeat: what it says, when a run may begin, and that it ends with the hooks.
import assert from "node:assert/strict";
import test from "node:test";
import { liveHooks } from "../heartbeat.js";
import { host, startGate } from "./fake.mjs";

const STATE = Symbol.for("openclaw.plugins.hook-runner-global-state");
const ACTIVE = Symbol.for("openclaw.pluginRegistryState");
const HOOKS = ["trusted_tool_policy", "before_tool_call", "before_agent_run", "after_tool_call"];

const heard = () => '{"version":1}';

test("a run begins only when the gate has heard the plugin", async (t) => {
  let answer = heard;
  const gate = await startGate(t, () => answer());
  const openclaw = host(gate.config);
  t.after(() => openclaw.stop());
  answer = () => ({ status: 400, body: "{}" });
  assert.equal((await openclaw.run({})).outcome, "block");
  answer = heard;
  assert.deepEqual(await openclaw.run({}), { outcome: "pass" });
  const [first, second] = gate.asked.map((asked) => asked.body);
  assert.equal(gate.asked[0].path, "/v1/heartbeat");
  assert.match(first.process, /^[0-9a-f]{32}$/);
  assert.equal(second.process, first.process);
  assert.ok(second.sequence > first.sequence);
  assert.deepEqual(first.hooks, HOOKS);
  assert.match(first.plugin, /^\d+\.\d+\.\d+$/);
});

test("the gateway's start begins it, and its stop ends it", async (t) => {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const beats = [];
  let next;
  const gate = await startGate(t, (path, body) => {
    beats.push(body.sequence);
    next?.();
    return heard();
  });
  const openclaw = host(gate.config);
  const beat = () => new Promise((resolve) => (next = resolve));
  const first = beat();
  openclaw.start();
  openclaw.start();
  await first;
  const second = beat();
  t.mock.timers.tick(5_000);
  await second;
  openclaw.stop();
  t.mock.timers.tick(60_000);
  assert.deepEqual(beats, [1, 2]);
});

test("only hooks that OpenClaw still calls are told", (t) => {
  const mine = (hookName) => ({ pluginId: "clawlock-guard", hookName });
  const names = new Set(HOOKS);
  const live = () => liveHooks("clawlock-guard", "clawlock", names);
  assert.deepEqual(live(), HOOKS, "a host that keeps them elsewhere");
  globalThis[STATE] = { registry: { typedHooks: HOOKS.slice(1).map(mine), trustedToolPolicies: [{ pluginId: "clawlock-guard", policy: { id: "clawlock" } }] } };
  t.after(() => delete globalThis[STATE]);
  assert.deepEqual(live(), HOOKS);
  globalThis[STATE].registry.trustedToolPolicies = [{ pluginId: "other", policy: { id: "clawlock" } }];
  assert.equal(live().includes("trusted_tool_policy"), false);
  const policies = [{ pluginId: "clawlock-guard", policy: { id: "clawlock" } }];
  globalThis[ACTIVE] = { activeRegistry: { typedHooks: [], trustedToolPolicies: policies } };
  t.after(() => delete globalThis[ACTIVE]);
  assert.deepEqual(live(), HOOKS, "OpenClaw looks at both");
  globalThis[ACTIVE].activeRegistry.trustedToolPolicies = [];
  globalThis[STATE].registry = { typedHooks: [{ pluginId: "other", hookName: "before_tool_call" }] };
  assert.deepEqual(live(), [], "the plugin was switched off");
});
