// What is under test: `clawlock dev` over a folder of YAML, with the agent as its child.
import fs from "node:fs";
import path from "node:path";
import { start } from "./processes.mjs";
import { until } from "./wait.mjs";

const RECORD_WITHIN_MS = 2_000;

/** Copies the policies into the run's folder, with the ports of the upstreams and their certificate authority. */
export function writePolicies(source, folder, ports, ca) {
  fs.mkdirSync(folder);
  let platform = fs.readFileSync(path.join(source, "platform.yaml"), "utf8");
  for (const [placeholder, port] of Object.entries(ports)) platform = platform.replace(`port: ${placeholder}`, `port: ${port}`);
  fs.writeFileSync(path.join(folder, "platform.yaml"), platform);
  fs.copyFileSync(path.join(source, "openclaw.yaml"), path.join(folder, "openclaw.yaml"));
  const indented = ca.trim().replace(/^/gm, "    ");
  const metadata = "{name: demo-ca, namespace: demo-platform}";
  fs.writeFileSync(path.join(folder, "ca.yaml"), `apiVersion: v1\nkind: ConfigMap\nmetadata: ${metadata}\ndata:\n  ca.crt: |\n${indented}\n`);
}

/** Replaces a file as editors do: written beside, then renamed, so that nobody reads half of it. */
export function replaceFile(file, text) {
  const beside = `${file}.new`;
  fs.writeFileSync(beside, text);
  fs.renameSync(beside, file);
}

/** Starts `clawlock dev` with a command under it. */
export function startDev({ binary, run, folder, secrets, hosts, ports, env, command, cwd, more = [] }) {
  const log = path.join(run, "decisions.jsonl");
  fs.writeFileSync(log, "", { mode: 0o600 });
  const args = ["dev", "--folder", folder, "--state-dir", path.join(run, "state"), "--log", log, "--output", "json"];
  for (const [name, source] of Object.entries(secrets)) args.push("--secret", `${name}=${source}`);
  for (const host of hosts) args.push("--resolve", `${host}:127.0.0.1`);
  for (const port of ports) args.push("--allow-port", String(port));
  const process = start("clawlock", binary, [...args, ...more, "--", ...command], { run, env, cwd });
  return { process, decisions: new Decisions(log), events: () => events(path.join(run, "clawlock.log")) };
}

/** What clawlock says of itself; it shares its log with the agent's output. */
function events(log) {
  const lines = fs.readFileSync(log, "utf8").split("\n").slice(0, -1);
  return lines.filter((line) => line.startsWith('{"event":"') && !line.startsWith('{"event":"decision"')).map((line) => JSON.parse(line));
}

/** The decision log as it grows. */
class Decisions {
  #file;

  constructor(file) {
    this.#file = file;
  }

  all() {
    const lines = fs.readFileSync(this.#file, "utf8").split("\n");
    // The last line may still be on its way; a record is whole when its newline is there.
    return lines.slice(0, -1).filter(Boolean).map((line) => JSON.parse(line));
  }

  /** Everything that is logged from now on. */
  mark() {
    const from = this.all().length;
    return () => this.all().slice(from);
  }

  /** The first record since `mark` for which `wanted` holds; the log may trail the answer by a moment. */
  async find(what, since, wanted) {
    return until(`a record of ${what}`, RECORD_WITHIN_MS, () => since().find(wanted));
  }
}
