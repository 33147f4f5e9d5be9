// Sets up the demo's world, tells the story (lib/steps.mjs) and takes the world down again. Started by demo/run.
import { execFileSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { startDev, writePolicies } from "./lib/clawlock.mjs";
import { prepare } from "./lib/openclaw.mjs";
import { end, endAll, startServer } from "./lib/processes.mjs";
import { Report } from "./lib/report.mjs";
import { STEPS } from "./lib/steps.mjs";
import { Seen } from "./lib/upstreams.mjs";

const demo = path.dirname(fileURLToPath(import.meta.url));
const HOSTS = ["model.test", "payments.test", "registry.test"];

function needed(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: start the demo with demo/run`);
  return value;
}

function which(program) {
  const found = process.env.PATH.split(":").map((directory) => path.join(directory, program));
  return found.find((file) => fs.existsSync(file));
}

/** A key of this run alone. Letters and digits only, so that no encoding changes how it looks. */
const makeKey = (name) => `demo${name}${crypto.randomBytes(24).toString("hex")}`;

async function build(report) {
  const runs = needed("DEMO_RUNS");
  fs.mkdirSync(runs, { recursive: true });
  // A short name: the path of a Unix socket below it has at most 107 bytes.
  const run = fs.mkdtempSync(path.join(runs, `${new Date().toISOString().slice(5, 16).replaceAll(/[-:]/g, "")}-`));
  report.folder = run;
  const upstreams = path.join(run, "upstreams");
  execFileSync(path.join(needed("DEMO_BIN"), "clawlock-demo-certs"), [upstreams, ...HOSTS]);
  const keys = { model: makeKey("Model"), payments: makeKey("Payments") };
  const secrets = path.join(run, "secrets");
  fs.mkdirSync(secrets, { mode: 0o700 });
  fs.writeFileSync(path.join(secrets, "payments-token"), keys.payments, { mode: 0o600 });

  const server = async (host, env) => {
    const script = path.join(demo, "servers", `${host.split(".")[0]}.mjs`);
    const entry = await startServer(script, { run, directory: upstreams, host, env });
    return Object.assign(entry, { seen: new Seen(upstreams, host) });
  };
  const model = await server("model.test", { MODEL_KEY: keys.model });
  const payments = await server("payments.test", { PAYMENTS_KEY: keys.payments });
  const registry = await server("registry.test");

  const folder = path.join(run, "policies");
  const ca = fs.readFileSync(path.join(upstreams, "ca.crt"), "utf8");
  writePolicies(path.join(demo, "policies"), folder, { 18441: model.port, 18442: payments.port, 18443: registry.port }, ca);
  const agent = await prepare(run, model.url);
  return {
    ...{ demo, run, report, keys, model, payments, registry, agent },
    curl: which("curl"),
    python: which("python3"),
    node: process.execPath,
    policyFile: path.join(folder, "openclaw.yaml"),
    haltFile: path.join(folder, "halt.yaml"),
    mayHoldKeys: ["secrets/payments-token", "upstreams/model.test.jsonl", "upstreams/payments.test.jsonl"],
    /** Folders beside the run's own that the agent or clawlock write to. */
    alsoWritten() {
      const ours = (place) => fs.lstatSync(place, { throwIfNoEntry: false })?.uid === process.getuid();
      const temporary = fs.readdirSync(os.tmpdir()).filter((name) => /^(openclaw|clawlock)/.test(name));
      return [...temporary.map((name) => path.join(os.tmpdir(), name)).filter(ours), path.dirname(this.ready.ca)];
    },
    openclaw: needed("DEMO_OPENCLAW"),
    end,
    /** Starts clawlock dev in a folder of its own, with an agent under it. */
    startDev: ({ run: at, agent: own, command, more }) =>
      startDev({
        ...{ folder, command, more },
        run: at,
        binary: path.join(needed("DEMO_BIN"), "clawlock"),
        secrets: { "model/key": "env:DEMO_MODEL_KEY", "payments/token": `file:${path.join(secrets, "payments-token")}` },
        hosts: HOSTS,
        ports: [own.port],
        env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: path.join(runs, "../compile-cache"), ...own.env, DEMO_MODEL_KEY: keys.model },
        cwd: own.workspace,
      }),
    start() {
      const dev = this.startDev({
        ...{ run, agent },
        // SIGUSR1 would open Node's inspector to every process of the same user.
        command: [process.execPath, "--disable-sigusr1", this.openclaw, "gateway", "run"],
      });
      Object.assign(this, { dev: dev.process, decisions: dev.decisions, events: dev.events });
    },
  };
}

async function main() {
  const report = new Report("Clawlock: an unmodified OpenClaw behind two gates");
  let passed = false;
  try {
    const world = await build(report);
    if (!world.curl) report.say("This machine has no curl: Python's urllib stands in for it (demo/lib/fetch.py).");
    for (const [title, run, vital] of STEPS) {
      const went = await report.step(title, (tell) => run(world, tell));
      if (interrupted || (!went && vital)) break;
    }
    passed = !interrupted && report.finish(STEPS.length);
  } catch (error) {
    console.error(`the demo could not be set up: ${error.stack}`);
  } finally {
    await endAll();
  }
  if (passed && !process.env.DEMO_KEEP) fs.rmSync(report.folder, { recursive: true, force: true });
  else if (report.folder) console.error(`the logs of this run are in ${report.folder}`);
  process.exitCode = passed ? 0 : 1;
}

let interrupted = false;
// A person who stops the demo wants its processes gone too.
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    interrupted = true;
    console.error(`\n${signal}: ending the demo's processes`);
    await endAll();
    process.exit(130);
  });
}

await main();
