// Sets up the story's world on the cluster and tells it (steps.mjs). Started by demo/kind/run in the cluster's shell.
import { execFileSync } from "node:child_process";
import crypto from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { configuration, environment } from "../lib/openclaw.mjs";
import { Report } from "../lib/report.mjs";
import { apply, kubectl } from "./kubectl.mjs";
import { STEPS, requests } from "./steps.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const SERVICES = ["model", "payments"];
const HOME = "/home/agent";
const CONFIG = "/config/openclaw.json";
const PORT = 18789;

/** A key of this run alone. Letters and digits only, so that no encoding changes how it looks. */
const makeKey = (name) => `demo${name}${crypto.randomBytes(24).toString("hex")}`;
const base64 = (text) => Buffer.from(text).toString("base64");
const host = (service) => `${service}.demo-upstreams.svc.cluster.local`;

const manifest = (name) => fs.readFileSync(path.join(here, "manifests", name), "utf8");

function secret(namespace, name, values) {
  const data = Object.fromEntries(Object.entries(values).map(([key, value]) => [key, base64(value)]));
  return JSON.stringify({ apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, data });
}

/** Takes away what a story before has left: agents first, then the tenant. */
async function clean() {
  await kubectl(["delete", "deployment,pod,agenthalt", "--all", "-n", "demo", "--ignore-not-found", "--timeout=60s"]);
  await kubectl(["delete", "tenantgateway", "--all", "-n", "demo-gateway", "--ignore-not-found", "--timeout=60s"]);
  await kubectl(["delete", "namespace", "demo", "demo-gateway", "demo-upstreams", "--ignore-not-found", "--timeout=90s"]);
}

/** The rest of the world: two services that want keys. None of it knows Clawlock. */
async function upstreams(keys) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "clawlock-demo-"));
  try {
    execFileSync(path.join(process.env.DEMO_BIN, "clawlock-demo-certs"), [folder, ...SERVICES.map(host)]);
    const files = Object.fromEntries(fs.readdirSync(folder).map((name) => [name, fs.readFileSync(path.join(folder, name), "utf8")]));
    const restricted = { "pod-security.kubernetes.io/enforce": "restricted" };
    const namespace = { apiVersion: "v1", kind: "Namespace", metadata: { name: "demo-upstreams", labels: restricted } };
    await apply(JSON.stringify(namespace));
    const { "ca.crt": ca, ...servers } = files;
    await apply(secret("demo-upstreams", "tls", servers));
    await apply(secret("demo-upstreams", "keys", { MODEL_KEY: keys.model, PAYMENTS_KEY: keys.payments }));
    for (const service of SERVICES) await apply(manifest("upstreams.yaml").replaceAll("SERVICE", service));
    return ca;
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

async function build() {
  const keys = { model: makeKey("Model"), payments: makeKey("Payments") };
  const token = crypto.randomBytes(16).toString("hex");
  await clean();
  const ca = await upstreams(keys);
  const wanted = configuration(PORT, token, HOME, `${HOME}/workspace`, `https://${host("model")}`);
  // OpenClaw's own list of what it fetches; names that end with "local" are on none by themselves.
  wanted.tools.web = { fetch: { ssrfPolicy: { allowedHostnames: SERVICES.map(host) } } };
  const config = JSON.stringify(wanted, null, 2);
  const variables = { ...environment(HOME, CONFIG), PORT: String(PORT), TOKEN: token };
  return {
    keys,
    manifest,
    payments: `https://${host("payments")}`,
    model: `https://${host("model")}`,
    modelRequests: async () => (await requests("model")).length,
    /** The credentials and the CA: what the platform team keeps in its namespace. */
    async credentials() {
      await apply(secret("demo-gateway", "model", { key: keys.model }));
      await apply(secret("demo-gateway", "payments", { token: keys.payments }));
      const bundle = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "demo-ca", namespace: "demo-gateway" }, data: { "ca.crt": ca } };
      await apply(JSON.stringify(bundle));
    },
    /** What OpenClaw's owner keeps beside it. */
    async configuration() {
      await apply(secret("demo", "openclaw", { "openclaw.json": config }));
      await apply(secret("demo", "openclaw-environment", variables));
    },
  };
}

async function main() {
  const report = new Report("Clawlock: an unchanged OpenClaw on Kubernetes, behind two gates");
  let passed = false;
  try {
    const world = await build();
    world.report = report;
    for (const [title, run, vital] of STEPS) {
      const went = await report.step(title, (tell) => run(world, tell));
      if (!went && vital) break;
    }
    passed = report.finish(STEPS.length);
  } catch (error) {
    console.error(`the demo could not be set up: ${error.stack}`);
  }
  report.say("The cluster stays: look around in it with e2e/cluster shell, and take it down with e2e/cluster down.");
  process.exitCode = passed ? 0 : 1;
}

await main();
