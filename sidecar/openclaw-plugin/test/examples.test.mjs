// The example clients of docs/decide.md, run as they stand there.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import test from "node:test";
import { promisify } from "node:util";
import { denied, startGate, verdict } from "./fake.mjs";

const PAGE = readFileSync(new URL("../../../docs/decide.md", import.meta.url), "utf8");
const NO_ANSWER = "Blocked: the gate gave no answer, so the tool did not run.";
const LINES = 24;

const LANGUAGES = { python: ["example.py", "python3"], typescript: ["example.ts", process.execPath] };

for (const [language, [name, program]] of Object.entries(LANGUAGES)) {
  test(`the example in ${language} blocks on all but a clear yes`, async (t) => {
    const [, text] = new RegExp(`<!-- example: ${language} -->\n\`\`\`${language}\n(.*?)\`\`\``, "s").exec(PAGE);
    assert.ok(text.split("\n").length <= LINES, "it stays short");
    const folder = mkdtempSync(path.join(tmpdir(), "clawlock-example-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const file = path.join(folder, name);
    writeFileSync(file, text);
    let answer;
    const gate = await startGate(t, (_path, body, response) => answer(body, response));
    const ask = async (url = `${gate.config.url}/v1/decide`) => {
      const env = { PATH: process.env.PATH, HTTP_PROXY: "http://127.0.0.1:9", http_proxy: "http://127.0.0.1:9", CLAWLOCK_DECIDE_URL: url };
      const { stdout } = await promisify(execFile)(program, [file, "exec", '{"command":"ls"}'], { env });
      return stdout.trim();
    };
    answer = (body) => verdict(body, "allow");
    assert.equal(await ask(), "allowed");
    const { requestId, ...question } = gate.asked[0].body;
    assert.deepEqual(question, { version: 1, tool: "exec", args: { command: "ls" } });
    assert.ok(requestId.length > 8);
    answer = (body) => denied(body);
    assert.equal(await ask(), "Blocked by policy: rule no-rm; ask.");
    for (const wrong of [
      (body) => verdict(body, "maybe", { message: "allowed" }),
      () => verdict({ requestId: "other" }, "allow"),
      (body) => JSON.stringify({ version: 2, requestId: body.requestId, decision: "allow" }),
      (body) => ({ status: 500, body: verdict(body, "allow") }),
      (body) => ({ status: 201, body: verdict(body, "allow") }),
      () => "allow",
      () => undefined,
      (_body, response) => void response.destroy(),
    ]) {
      answer = wrong;
      assert.equal(await ask(), NO_ANSWER, String(wrong));
    }
    assert.equal(await ask("http://127.0.0.1:9/v1/decide"), NO_ANSWER);
    assert.equal(await ask(""), NO_ANSWER);
  });
}
