// A gate that answers as a test says, and an OpenClaw that keeps what is registered.
import { mkdtempSync, rmSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { register } from "../guard.js";

/** Starts a gate. `answer` gets path and body and returns `{status, body}`, a text, or nothing, which never answers. */
export async function startGate(context, answer, { unix = false } = {}) {
  const asked = [];
  const server = http.createServer((request, response) => {
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", async () => {
      const body = Buffer.concat(parts).toString();
      asked.push({ path: request.url, headers: request.headers, body: JSON.parse(body), text: body });
      const said = await answer(request.url, JSON.parse(body), response);
      if (said === undefined) return;
      const { status = 200, body: text } = typeof said === "string" ? { body: said } : said;
      response.writeHead(status, { "content-type": "application/json" }).end(text);
    });
  });
  const folder = unix ? mkdtempSync(path.join(tmpdir(), "clawlock-guard-")) : undefined;
  const socket = folder && path.join(folder, "gate.sock");
  await new Promise((resolve) => server.listen(socket ?? { port: 0, host: "127.0.0.1" }, resolve));
  context.after(() => {
    server.closeAllConnections();
    server.close();
    if (folder) rmSync(folder, { recursive: true });
  });
  const config = unix ? { socket } : { url: `http://127.0.0.1:${server.address().port}` };
  return { asked, config, server };
}

/** The gate's answer to a question. */
export const verdict = (body, decision, more = {}) => JSON.stringify({ version: 1, requestId: body.requestId, decision, ...more });
export const denied = (body) =>
  verdict(body, "deny", { code: "TierBlock", policy: "acme/p", rule: "no-rm", message: "Blocked by policy: rule no-rm; ask." });

/** What OpenClaw hands to `register`. */
export function host(config) {
  const hooks = new Map();
  const logged = [];
  const log = (line) => logged.push(line);
  let policy;
  register({
    pluginConfig: config,
    logger: { info: log, warn: log, error: log },
    on: (name, handler, options) => hooks.set(name, { handler, options }),
    registerTrustedToolPolicy: (registration) => (policy = registration),
  });
  const call = (name) => (event, ctx = {}) => hooks.get(name).handler(event, ctx);
  return { hooks, policy, logged, trusted: (event, ctx = {}) => policy.evaluate(event, ctx), last: call("before_tool_call"), run: call("before_agent_run"), after: call("after_tool_call"), stop: call("gateway_stop"), start: call("gateway_start"), modelCalled: call("model_call_started") };
}

export const EXEC = { toolName: "exec", params: { command: "ls" }, toolCallId: "call_1" };
