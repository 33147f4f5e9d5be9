// The processes that the demo starts. It ends those and no others: by the handle that it holds, never by a name.
import { fork, spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { family, runs } from "./proc.mjs";
import { Failure } from "./report.mjs";
import { until } from "./wait.mjs";

// Clawlock itself gives its agent 10 s to end before it kills it.
const END_WITHIN_MS = 20_000;
const LISTEN_WITHIN_MS = 10_000;
const children = [];

/** Starts a program with its output in a file of the run's folder. */
export function start(name, command, args, { run, env, cwd }) {
  const log = fs.openSync(path.join(run, `${name}.log`), "a", 0o600);
  // A group of its own: the agent's shells end with the agent, and Ctrl-C reaches only the demo, which cleans up.
  const child = spawn(command, args, { env, cwd, detached: true, stdio: ["ignore", log, log] });
  fs.closeSync(log);
  return keep(name, child);
}

/** Starts one of the demo's servers and waits until it listens; the result has `port` and `send`. */
export async function startServer(script, { run, directory, host, env = {} }) {
  const log = fs.openSync(path.join(run, `${host}.log`), "a", 0o600);
  const child = fork(script, [directory, host], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", log, log, "ipc"],
  });
  fs.closeSync(log);
  const entry = keep(host, child);
  child.on("message", (message) => (entry.port ??= message.listening));
  await until(`${host} listening`, LISTEN_WITHIN_MS, () => alive(entry) && entry.port);
  return Object.assign(entry, { host, url: `https://${host}:${entry.port}`, send: (message) => child.send(message) });
}

function keep(name, child) {
  const entry = { name, child, pid: child.pid, exit: null };
  child.on("error", (error) => (entry.exit = error.message));
  child.on("exit", (code, signal) => (entry.exit ??= signal ?? code));
  children.push(entry);
  return entry;
}

/** Throws when a program has ended by itself: waiting on for it would only hide why. */
export function alive(entry) {
  if (entry.exit !== null) throw new Failure(`${entry.name} has ended (${entry.exit}); see its log`);
  return true;
}

/** Ends everything that was started, the newest first, and says so when something needed force. */
export async function endAll() {
  for (const entry of children.splice(0).reverse()) await end(entry);
}

/** Ends one program and what it has started. */
export async function end(entry) {
  if (entry.exit === null) {
    // Noted before: a process whose parent is gone can no longer be found from here.
    const members = family(entry.pid);
    entry.child.kill("SIGTERM");
    try {
      await until(`the end of ${entry.name}`, END_WITHIN_MS, () => !members.some(runs));
    } catch {
      const left = members.filter(runs);
      console.error(`${entry.name}: ${left.length} of its processes did not end on SIGTERM within ${END_WITHIN_MS / 1000} s; killed`);
      left.forEach(({ pid }) => process.kill(pid, "SIGKILL"));
    }
  }
}
