// The hooks: a trusted policy that runs before all other plugins, an ordinary hook behind them, a gate before each run,
// and a report after each call. A tool runs only on a clear "allow"; whatever is thrown, late or unknown blocks.
import { createHash } from "node:crypto";
import { Calls } from "./calls.js";
import { Models, claims } from "./claims.js";
import { API_VERSION, Gate, address } from "./gate.js";
import { Heartbeat, liveHooks } from "./heartbeat.js";

export const ID = "clawlock-guard";
export const NAME = "Clawlock guard";
export const DESCRIPTION = "Asks Clawlock's agent gate before every tool call. What it does not clearly allow is blocked.";
export const VERSION = "0.1.0";
const POLICY_ID = "clawlock";

/** What the model reads when nothing was decided. The gate knows these sentences: do not change them alone. */
export const NO_ANSWER = "Blocked by Clawlock: the gate gave no answer, so the tool did not run; try again later.";
export const TOO_LARGE = "Blocked by Clawlock: the arguments are larger than what can be decided, so the tool did not run; send less at once.";
const NO_RUN = "Clawlock's gate does not answer, so this agent does nothing; try again later.";

// The gate's sentences are shorter.
const LONGEST_MESSAGE = 4096;
// Behind every other plugin's hook.
const LAST = Number.MIN_SAFE_INTEGER;

/** Decides tool calls, and reports what came of them. */
export class Guard {
  #gate;
  #log;
  #calls = new Calls();
  #models = new Models();

  constructor(gate, log) {
    this.#gate = gate;
    this.#log = log;
  }

  /**
   * Resolves with `{args}`, what may run, or with `{reason}`, the sentence for the model. Never rejects. `again`: what
   * the hook before this one has just asked need not be asked once more.
   */
  async decide(event, ctx, { again = false } = {}) {
    const callId = typeof event?.toolCallId === "string" && event.toolCallId ? event.toolCallId : undefined;
    let verdict;
    try {
      verdict = await this.#ask(event, ctx, callId, again);
    } catch (error) {
      this.#log.warn(JSON.stringify({ clawlock: "no answer", tool: event?.toolName, error: error?.message }));
      verdict = { reason: error?.status === 413 ? TOO_LARGE : NO_ANSWER };
    }
    if (verdict.reason !== undefined && callId !== undefined) this.#calls.drop(callId);
    return verdict;
  }

  async #ask(event, ctx, callId, again) {
    const { toolName, params } = event;
    // Read once: what is asked about is what runs.
    const args = JSON.stringify(params ?? {});
    const call = callId === undefined ? "" : `,"callId":${JSON.stringify(callId)}`;
    const said = Object.entries(claims(event, ctx, this.#models)).map(([name, text]) => `,"${name}":${JSON.stringify(text)}`);
    const question = `"tool":${JSON.stringify(toolName)},"args":${args}${call}${said.join("")}`;
    if (again && callId !== undefined && this.#calls.takeAllowed(callId, question)) return { args: JSON.parse(args) };
    const requestId = this.#calls.requestId(callId, question);
    const answer = await this.#gate.post("/v1/decide", `{"version":${API_VERSION},"requestId":"${requestId}",${question}}`);
    if (answer.requestId !== requestId) throw new Error("the answer is to another question");
    if (answer.decision === "allow") {
      if (!again && callId !== undefined) this.#calls.allowed(callId, requestId);
      return { args: JSON.parse(args) };
    }
    const { code, policy, rule, message } = answer;
    this.#log.warn(JSON.stringify({ clawlock: "blocked", tool: toolName, code, policy, rule, requestId }));
    const usable = answer.decision === "deny" && typeof message === "string" && message !== "" && message.length <= LONGEST_MESSAGE;
    return { reason: usable ? message : NO_ANSWER };
  }

  /** A run speaks to a model. */
  modelCalled(event) {
    this.#models.called(event);
  }

  /** Reports what came of a call. Nothing depends on it. */
  async report(event) {
    const requestId = this.#calls.take(event?.toolCallId);
    if (requestId === undefined) return;
    try {
      await this.#gate.post("/v1/outcome", JSON.stringify({ version: API_VERSION, requestId, ...outcome(event) }));
    } catch (error) {
      this.#log.warn(JSON.stringify({ clawlock: "outcome not recorded", requestId, error: error?.message }));
    }
  }
}

function outcome({ durationMs, error, result }) {
  const text = result === undefined ? undefined : JSON.stringify(result);
  return {
    durationMs: Number.isFinite(durationMs) ? Math.min(Math.max(Math.round(durationMs), 0), 0xffff_ffff) : 0,
    error: error !== undefined,
    resultSha256: text === undefined ? undefined : createHash("sha256").update(text).digest("hex"),
  };
}

/** Registers everything with OpenClaw. A configuration that is wrong still registers: then everything is blocked. */
export function register(api) {
  const log = api.logger ?? console;
  const gate = gateOf(api.pluginConfig, log);
  const guard = new Guard(gate, log);
  const registered = new Set();
  const heartbeat = new Heartbeat({ gate, log, version: VERSION, hooks: () => liveHooks(ID, POLICY_ID, registered) });
  // Of the host: longer than ours, so that the sentence is ours.
  const timeoutMs = gate.timeoutMs + 1_000;
  const on = (name, handler, options) => {
    api.on(name, handler, { timeoutMs, ...options });
    registered.add(name);
  };

  // The host puts no time on this one; the gate's is all there is.
  api.registerTrustedToolPolicy({
    id: POLICY_ID,
    description: "the decision of Clawlock's agent gate",
    evaluate: async (event, ctx) => {
      const { reason } = await guard.decide(event, ctx);
      return reason === undefined ? undefined : { allow: false, reason };
    },
  });
  registered.add("trusted_tool_policy");

  // Other plugins may have changed the arguments by now, and this hook is not shown how: what was decided is what runs.
  on("before_tool_call", async (event, ctx) => {
    const { reason, args } = await guard.decide(event, ctx, { again: true });
    return reason === undefined ? { params: args } : { block: true, blockReason: reason };
  }, { priority: LAST });

  // No turn begins that could not be governed. It also covers runs outside of OpenClaw's gateway, which starts no timer.
  on("before_agent_run", async () => {
    try {
      await heartbeat.beat();
    } catch (error) {
      log.warn(JSON.stringify({ clawlock: "run refused", error: error?.message }));
      return { outcome: "block", reason: NO_RUN, message: NO_RUN };
    }
    heartbeat.start();
    return { outcome: "pass" };
  });

  on("after_tool_call", (event) => guard.report(event));
  api.on("model_call_started", (event) => guard.modelCalled(event));
  api.on("gateway_start", () => heartbeat.start());
  api.on("gateway_stop", () => heartbeat.stop());
}

function gateOf(config, log) {
  try {
    return new Gate(address(config));
  } catch (error) {
    log.error?.(`the configuration of ${ID} is wrong, so every tool call is blocked: ${error.message}`);
    return { timeoutMs: 500, post: () => Promise.reject(error) };
  }
}
