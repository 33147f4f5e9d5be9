// When an answer of the gate serves for the second hook of a call.
import assert from "node:assert/strict";
import test from "node:test";
import { Calls } from "../calls.js";

test("an answer serves once, for the same question, and only while it is new", () => {
  const calls = new Calls();
  const allow = (now) => calls.allowed("call", calls.requestId("call", "question"), now);
  assert.equal(calls.takeAllowed("call", "question", 0), false, "nothing was asked");
  calls.requestId("call", "question");
  assert.equal(calls.takeAllowed("call", "question", 0), false, "nothing was allowed");
  allow(1000);
  assert.equal(calls.takeAllowed("call", "question", 1499), true);
  assert.equal(calls.takeAllowed("call", "question", 1499), false, "it was used");
  allow(1000);
  assert.equal(calls.takeAllowed("call", "question", 1500), false, "it is old");
  allow(2000);
  assert.equal(calls.takeAllowed("call", "other", 2001), false, "another question");
  assert.equal(calls.takeAllowed("other", "question", 2001), false, "another call");
  allow(3000);
  calls.allowed("call", "another request", 9000);
  assert.equal(calls.takeAllowed("call", "question", 9001), false, "an answer to another request renews nothing");
  allow(10_000);
  calls.drop("call");
  assert.equal(calls.takeAllowed("call", "question", 10_001), false, "a call that does not run");
});
