// Tells the story: each step says what was sent, what came back, which rule decided and how long it took.
// A step passes when its function returns and none of its checks failed; the table at the end repeats all of them.
import { performance } from "node:perf_hooks";

const JSON_OUTPUT = process.env.DEMO_OUTPUT === "json";
const COLOUR = process.stdout.isTTY && !process.env.NO_COLOR && !JSON_OUTPUT;
const paint = (code, text) => (COLOUR ? `\x1b[${code}m${text}\x1b[0m` : text);
const MAX_SHOWN = 400;

export class Failure extends Error {}

/** Throws with both sides when a promise of the story is broken. */
export function check(holds, promise, seen) {
  if (!holds) throw new Failure(seen === undefined ? promise : `${promise}; seen: ${shown(seen)}`);
}

function shown(value) {
  const text = (typeof value === "string" ? value : JSON.stringify(value) ?? String(value)).replace(/\s*\n\s*/g, " ⏎ ").trim();
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)} …` : text;
}

export const seconds = (ms) => (ms < 1000 ? `${ms.toFixed(ms < 10 ? 1 : 0)} ms` : `${(ms / 1000).toFixed(1)} s`);

export class Report {
  #steps = [];
  #started = performance.now();

  constructor(story) {
    this.say(`\n${paint("1", story)}`);
  }

  say(text) {
    if (!JSON_OUTPUT) console.log(text);
  }

  /** Runs one step; returns whether it passed. */
  async step(title, run) {
    const number = this.#steps.length + 1;
    this.say(`\n${paint("1", `${number}. ${title}`)}`);
    const entry = { step: number, title, rules: [], lines: [] };
    const line = (label) => (value) => {
      entry.lines.push([label, shown(value)]);
      this.say(`   ${paint("2", label.padEnd(8))} ${shown(value)}`);
    };
    const tell = { sent: line("sent"), got: line("answer"), note: line("note"), proof: line("proof") };
    tell.rule = (record) => {
      const { verdict, code, policy, rule } = record.outcome;
      const by = rule ? `rule ${rule} of ${policy}` : "no rule";
      entry.rules.push(rule ?? code ?? verdict);
      const { agentGate, gateway } = record.latencyUs;
      const took = record.gate === "gateway" ? `${agentGate} + ${gateway} µs at both gates` : `${agentGate} µs at the agent's gate`;
      line("decided")(`${verdict} by ${by}${code ? ` (${code})` : ""}, in ${took}`);
    };
    const start = performance.now();
    try {
      await run(tell);
      entry.pass = true;
    } catch (error) {
      entry.pass = false;
      entry.error = error instanceof Failure ? error.message : error.stack;
    }
    entry.ms = performance.now() - start;
    this.#steps.push(entry);
    const verdict = entry.pass ? paint("32", "PASS") : paint("31", `FAIL: ${entry.error}`);
    this.say(`   ${paint("2", "result".padEnd(8))} ${verdict} in ${seconds(entry.ms)}`);
    if (JSON_OUTPUT) console.log(JSON.stringify(entry));
    return entry.pass;
  }

  /** All that the story has shown so far. */
  everything() {
    return JSON.stringify(this.#steps);
  }

  /** Prints the table; returns whether every step passed. */
  finish(expected) {
    const passed = this.#steps.filter((entry) => entry.pass).length;
    const total = performance.now() - this.#started;
    const width = Math.max(...this.#steps.map((entry) => entry.title.length));
    this.say(`\n${"  #".padEnd(5)}${"step".padEnd(width + 2)}${"time".padStart(8)}  result`);
    for (const entry of this.#steps) {
      const result = entry.pass ? paint("32", "PASS") : paint("31", "FAIL");
      this.say(`${String(entry.step).padStart(3)}  ${entry.title.padEnd(width + 2)}${seconds(entry.ms).padStart(8)}  ${result}`);
    }
    this.say(`\n${passed} of ${expected} steps as told, ${seconds(total)} in all`);
    if (JSON_OUTPUT) console.log(JSON.stringify({ passed, expected, ms: total }));
    return passed === expected;
  }
}
