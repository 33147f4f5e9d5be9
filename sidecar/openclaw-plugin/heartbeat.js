// Tells the gate that the plugin is there and that its hooks are registered. Without it the gate lets no request to a
// language model pass: OpenClaw runs tools also without its plugins.
import { randomBytes } from "node:crypto";
import { API_VERSION } from "./gate.js";

// The gate bears 15 s of silence: two of these may be lost.
const EVERY_MS = 5_000;

/** Where OpenClaw 2026.9.6 keeps what is registered now. It changes when plugins are reloaded or switched off. */
const HOOKS = Symbol.for("openclaw.plugins.hook-runner-global-state");
const ACTIVE = Symbol.for("openclaw.pluginRegistryState");

export class Heartbeat {
  #gate;
  #hooks;
  #log;
  #version;
  #process = randomBytes(16).toString("hex");
  #sequence = 0;
  #timer;
  #heard;

  /** `hooks` answers the names of the hooks that are registered at the time of the call. */
  constructor({ gate, hooks, log, version }) {
    this.#gate = gate;
    this.#hooks = hooks;
    this.#log = log;
    this.#version = version;
  }

  /** Sends one; rejects when the gate did not take it. */
  async beat() {
    const body = { version: API_VERSION, plugin: this.#version, process: this.#process, sequence: ++this.#sequence, hooks: this.#hooks() };
    await this.#gate.post("/v1/heartbeat", JSON.stringify(body));
  }

  /** Sends one now and then, until `stop`. */
  start() {
    if (this.#timer) return;
    const tick = () => this.beat().then(() => this.#tell(true), (error) => this.#tell(false, error));
    this.#timer = setInterval(tick, EVERY_MS);
    // A process that has nothing else to do may end.
    this.#timer.unref();
    void tick();
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  #tell(heard, error) {
    if (this.#heard === heard) return;
    this.#heard = heard;
    if (heard) this.#log.info("the gate hears the heartbeat");
    else this.#log.warn(`the gate does not take the heartbeat, so language models are out of reach: ${error?.message}`);
  }
}

/** Of the hooks that this plugin has registered, those that OpenClaw would call now. */
export function liveHooks(pluginId, policyId, registered) {
  const registries = [globalThis[HOOKS]?.registry, globalThis[ACTIVE]?.activeRegistry].filter((one) => Array.isArray(one?.typedHooks));
  // Another version of OpenClaw may keep them elsewhere: then only what `register` has seen is known.
  if (registries.length === 0) return [...registered];
  const live = new Set();
  for (const { typedHooks, trustedToolPolicies = [] } of registries) {
    typedHooks.filter((hook) => hook.pluginId === pluginId).forEach((hook) => live.add(hook.hookName));
    const ours = trustedToolPolicies.some((entry) => entry.pluginId === pluginId && entry.policy?.id === policyId);
    if (ours) live.add("trusted_tool_policy");
  }
  return [...registered].filter((name) => live.has(name));
}
