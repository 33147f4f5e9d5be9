// The files that OpenClaw reads agree with each other and with the code.
import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import { Calls } from "../calls.js";
import { DESCRIPTION, ID, NAME, VERSION } from "../guard.js";

const folder = new URL("../", import.meta.url);
const read = (name) => JSON.parse(fs.readFileSync(new URL(name, folder), "utf8"));

test("manifest, package and code say the same", () => {
  const manifest = read("openclaw.plugin.json");
  const project = read("package.json");
  assert.deepEqual([manifest.id, manifest.name, manifest.description, manifest.version], [ID, NAME, DESCRIPTION, VERSION]);
  assert.deepEqual([project.name, project.version, project.type], [ID, VERSION, "module"]);
  assert.deepEqual(project.openclaw.extensions, ["./index.js"]);
  assert.equal("dependencies" in project, false);
  assert.deepEqual(manifest.contracts.trustedToolPolicies, ["clawlock"]);
});

test("nothing is imported but Node, OpenClaw's entry and the plugin's own files", () => {
  const modules = fs.readdirSync(folder).filter((name) => name.endsWith(".js"));
  for (const name of modules) {
    const text = fs.readFileSync(new URL(name, folder), "utf8");
    for (const [, from] of text.matchAll(/from "([^"]+)"/g)) {
      const own = from.startsWith("./") && modules.includes(from.slice(2));
      assert.ok(own || from.startsWith("node:") || (name === "index.js" && from.startsWith("openclaw/")), `${name}: ${from}`);
    }
  }
});

test("the number of calls that are remembered is bounded", () => {
  const calls = new Calls();
  const first = calls.requestId("0", "q");
  assert.equal(calls.requestId("0", "q"), first);
  for (let n = 1; n < 5000; n += 1) calls.requestId(String(n), "q");
  assert.equal(calls.size, 1024);
  assert.notEqual(calls.requestId("0", "q"), first);
});
