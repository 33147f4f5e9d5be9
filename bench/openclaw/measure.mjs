// What the guard adds to a tool call of a real OpenClaw: a question to the agent gate, a round trip over a Unix socket with
// a record of the decision, and in the busy process that OpenClaw is. Started by bench/openclaw/run.
import crypto from "node:crypto";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { startDev, writePolicies } from "../../demo/lib/clawlock.mjs";
import { prepare, shell, started } from "../../demo/lib/openclaw.mjs";
import { endAll, startServer } from "../../demo/lib/processes.mjs";
import { until } from "../../demo/lib/wait.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const demo = path.join(here, "../../demo");
const CALLS = Number(process.env.BENCH_CALLS ?? 200);
// The first ones meet cold caches on both sides.
const WARM_UP = 10;
const LIMIT_MS = 5;
const GATES_WITHIN_MS = 30_000;
const HOSTS = ["model.test", "payments.test", "registry.test"];

/** A quantile by nearest rank. */
const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.ceil(q * sorted.length) - 1)];

async function measure(run) {
  const upstreams = path.join(run, "upstreams");
  execFileSync(path.join(process.env.DEMO_BIN, "clawlock-demo-certs"), [upstreams, ...HOSTS]);
  const key = `demoModel${crypto.randomBytes(24).toString("hex")}`;
  const model = await startServer(path.join(demo, "servers/model.mjs"), { run, directory: upstreams, host: "model.test", env: { MODEL_KEY: key } });
  const folder = path.join(run, "policies");
  writePolicies(path.join(demo, "policies"), folder, { 18441: model.port }, fs.readFileSync(path.join(upstreams, "ca.crt"), "utf8"));
  const agent = await prepare(run, model.url);
  const times = path.join(run, "times");
  fs.writeFileSync(times, "");
  const dev = startDev({
    ...{ run, folder },
    binary: path.join(process.env.DEMO_BIN, "clawlock"),
    secrets: { "model/key": "env:DEMO_MODEL_KEY", "payments/token": "env:DEMO_MODEL_KEY" },
    hosts: HOSTS,
    ports: [agent.port],
    env: { PATH: process.env.PATH, ...agent.env, DEMO_MODEL_KEY: key, BENCH_TIMES: times, NODE_OPTIONS: `--require ${path.join(here, "watch.cjs")}` },
    command: [process.execPath, "--disable-sigusr1", process.env.DEMO_OPENCLAW, "gateway", "run"],
    cwd: agent.workspace,
  });
  await until("the gates", GATES_WITHIN_MS, () => dev.events().find((event) => event.event === "ready"));
  await started(agent, dev.process);
  for (let call = 0; call < WARM_UP + CALLS; call += 1) {
    if (call === WARM_UP) fs.truncateSync(times);
    await shell(agent, `echo ${call}`);
    if (process.stderr.isTTY) process.stderr.write(`\r${call + 1} of ${WARM_UP + CALLS} calls`);
  }
  return fs.readFileSync(times, "utf8").trim().split("\n").map(Number);
}

const run = fs.mkdtempSync(path.join(os.tmpdir(), "clawlock-bench-"));
try {
  const added = (await measure(run)).sort((a, b) => a - b);
  if (added.length !== CALLS) throw new Error(`${added.length} answers for ${CALLS} calls: the others came too late, or other plugins changed arguments`);
  const [p50, p99, most] = [quantile(added, 0.5), quantile(added, 0.99), added.at(-1)];
  const figures = { calls: CALLS, p50Ms: p50, p99Ms: p99, slowestMs: most, limitP99Ms: LIMIT_MS, met: p99 <= LIMIT_MS };
  if (process.env.BENCH_OUTPUT === "json") console.log(JSON.stringify(figures));
  else console.log(`added to a tool call of OpenClaw, ${CALLS} calls: p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms (at most ${LIMIT_MS}: ${figures.met ? "met" : "MISSED"}), slowest ${most.toFixed(2)} ms`);
} finally {
  await endAll();
  fs.rmSync(run, { recursive: true });
}
