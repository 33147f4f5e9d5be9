// The agent: an unmodified OpenClaw, driven through its own OpenAI-compatible endpoint as a user would.
import crypto from "node:crypto";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { alive } from "./processes.mjs";
import { check } from "./report.mjs";
import { until } from "./wait.mjs";

// A cold start takes 25 to 40 s on two cores; a turn well under 2 s after the first.
const START_WITHIN_MS = 180_000;
const TURN_WITHIN_MS = 90_000;
export const PLACEHOLDER_KEY = "no-key-the-gateway-adds-it";

/** A port that is free now. The agent gets it by its configuration, so it must be known before it starts. */
export async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Writes the agent's read-only configuration; returns what is needed to start and to drive it. */
export async function prepare(run, modelUrl) {
  const port = await freePort();
  const token = crypto.randomBytes(16).toString("hex");
  const home = path.join(run, "agent");
  const workspace = path.join(home, "workspace");
  for (const directory of [home, workspace, path.join(home, "state")]) fs.mkdirSync(directory, { mode: 0o700 });
  const config = path.join(home, "openclaw.json");
  fs.writeFileSync(config, JSON.stringify(configuration(port, token, home, workspace, modelUrl), null, 2), { mode: 0o400 });
  return { home, workspace, config, env: environment(home, config), port, token, url: `http://127.0.0.1:${port}` };
}

/** What OpenClaw itself wants to find in its environment. */
export function environment(home, config) {
  return {
    HOME: home,
    OPENCLAW_STATE_DIR: path.join(home, "state"),
    OPENCLAW_CONFIG_PATH: config,
    OPENCLAW_CONFIG_READONLY: "1",
    OPENCLAW_SKIP_CHANNELS: "1",
    OPENCLAW_DISABLE_BONJOUR: "1",
    OPENCLAW_NO_AUTO_UPDATE: "1",
    DO_NOT_TRACK: "1",
    NO_COLOR: "1",
  };
}

export function configuration(port, token, home, workspace, modelUrl) {
  return {
    logging: { file: path.join(home, "openclaw.log") },
    gateway: {
      mode: "local",
      bind: "loopback",
      port,
      auth: { mode: "token", token },
      http: { endpoints: { chatCompletions: { enabled: true } } },
    },
    update: { checkOnStart: false },
    agents: { defaults: { workspace, skipBootstrap: true, model: { primary: "scripted/scripted-1" } } },
    models: {
      mode: "merge",
      catalogRefresh: { enabled: false },
      providers: {
        scripted: {
          baseUrl: `${modelUrl}/v1`,
          apiKey: PLACEHOLDER_KEY,
          api: "openai-completions",
          agentRuntime: { id: "openclaw" },
          models: [{ id: "scripted-1", name: "Scripted", contextWindow: 128000, maxTokens: 4096 }],
        },
      },
    },
    // Every tool is offered directly, so that the scripted model can name each one.
    tools: { toolSearch: false },
  };
}

/** Waits until the gateway says that it has started. Unknown paths answer 200 too, so the document is what counts. */
export async function started(agent, process) {
  await until("the start of OpenClaw", START_WITHIN_MS, async () => {
    alive(process);
    const response = await fetch(`${agent.url}/startupz`, { signal: AbortSignal.timeout(5_000) });
    return response.status === 200 && (await response.json()).ok === true;
  });
}

async function post(agent, body) {
  return fetch(`${agent.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${agent.token}`, "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TURN_WITHIN_MS),
  });
}

/** One turn: what the user says, and what the agent answers in the end. */
export async function turn(agent, content) {
  const response = await post(agent, { model: "openclaw", messages: [{ role: "user", content }] });
  const text = await response.text();
  if (response.status !== 200) return `HTTP ${response.status} ${text}`;
  return JSON.parse(text).choices[0].message.content;
}

/** One streamed turn: the pieces of the answer as they arrive. */
export async function* streamedTurn(agent, content) {
  const response = await post(agent, { model: "openclaw", stream: true, messages: [{ role: "user", content }] });
  check(response.status === 200, "a streamed turn is answered with 200", response.status);
  let rest = "";
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + part).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const piece = JSON.parse(line.slice(6)).choices?.[0]?.delta?.content;
      if (piece) yield piece;
    }
  }
}

/** One tool call, asked for by the scripted model; returns what the tool gave back to the agent. */
export async function tool(agent, name, args) {
  const answer = await turn(agent, `CALL ${name} ${JSON.stringify(args)}`);
  check(answer.startsWith("RESULT "), `the tool ${name} ran and its result came back`, answer);
  return answer.slice("RESULT ".length);
}

/** A command in the agent's own shell. */
export const shell = (agent, command, more = {}) => tool(agent, "exec", { command, ...more });
