// What the gate is told of a call beside its arguments.
import assert from "node:assert/strict";
import test from "node:test";
import { Models, claims } from "../claims.js";
import { EXEC, host, startGate, verdict } from "./fake.mjs";

test("a call is asked about with its requester, run and model, by both hooks alike", async (t) => {
  const gate = await startGate(t, (path, body) => verdict(body, "allow"));
  const openclaw = host(gate.config);
  openclaw.modelCalled({ runId: "run-1", provider: "scripted", model: "m-1" });
  const event = { ...EXEC, runId: "run-1" };
  const ctx = { runId: "run-1", requester: { channel: "telegram", senderId: "42", senderIsOwner: true } };
  await openclaw.trusted(event, ctx);
  await openclaw.last(event, ctx);
  await openclaw.last(event, ctx);
  const [first, second] = gate.asked;
  assert.deepEqual({ requester: first.body.requester, run: first.body.run, model: first.body.model }, { requester: "telegram:42", run: "run-1", model: "scripted/m-1" });
  assert.equal(second.text, first.text);
});

test("what the gate would refuse to read is left out", () => {
  const models = new Models();
  models.called({ runId: "r", provider: "p", model: "x".repeat(300) });
  const said = (requester, run = "r") => claims({ runId: run }, { requester }, models);
  assert.deepEqual(said(undefined), { run: "r" });
  assert.deepEqual(said({ senderId: "7" }), { requester: "7", run: "r" });
  for (const senderId of ["", "a\n", "\ud800", "é".repeat(129), 7, null, {}]) {
    assert.equal("requester" in said({ senderId }), false, JSON.stringify(senderId));
  }
  assert.equal("run" in said(undefined, "a\u0000"), false);
  assert.deepEqual(claims(undefined, undefined, models), {});
});

test("the number of runs is bounded", () => {
  const models = new Models();
  for (let n = 0; n < 1000; n += 1) models.called({ runId: `run-${n}`, provider: "p", model: "m" });
  assert.equal(models.size, 256);
  assert.equal(models.of("run-999"), "p/m");
  models.called({ provider: "p", model: "m" });
  assert.equal(models.size, 256);
});
