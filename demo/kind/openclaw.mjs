// OpenClaw in its pod, asked as its user asks it, and what its sidecar recorded.
import { exec, kubectl } from "./kubectl.mjs";

/** A question to OpenClaw through its own interface; answers what it said. `at` names another one's port and token. */
export async function ask(w, question, { at, signal } = {}) {
  const variables = at ? ["env", `PORT=${at.port}`, `TOKEN=${at.token}`] : [];
  const text = await exec("demo", w.pod, "openclaw", [...variables, "node", "/demo/kind/agent.mjs", ...question], { signal });
  return JSON.parse(text.trim().split("\n").at(-1));
}

/** One call of one of OpenClaw's tools. */
export async function tool(w, tell, name, args) {
  tell.sent(`${name} ${JSON.stringify(args)}`);
  const text = await ask(w, ["tool", name, JSON.stringify(args)]);
  tell.got(text);
  return text;
}

/** A command in OpenClaw's own shell. */
export async function shell(w, tell, command, more = {}) {
  tell.sent(command);
  const text = await ask(w, ["tool", "exec", JSON.stringify({ command, ...more })]);
  tell.got(text);
  return text;
}

/** What the pod's sidecar has decided so far. Its log has lines for people too. */
export async function records(w) {
  const log = await kubectl(["logs", "-n", "demo", w.pod, "-c", "clawlock"]);
  return log.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}
