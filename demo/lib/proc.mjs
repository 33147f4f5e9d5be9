// What /proc says about the processes below the demo's own.
import fs from "node:fs";

/** The environment of a process that runs now, as it was started with. */
export function environment(pid) {
  const pairs = readIfThere(`/proc/${pid}/environ`).split("\0").filter(Boolean);
  return Object.fromEntries(pairs.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]));
}

/** A process's descendants, itself first, each as {pid, started}: the start time tells a reused number apart. */
export function family(pid) {
  const all = fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(status).filter(Boolean);
  const found = all.filter((process) => process.pid === pid);
  for (let at = 0; at < found.length; at += 1) found.push(...all.filter((process) => process.parent === found[at].pid));
  return found.map(({ pid, started }) => ({ pid, started }));
}

/** Whether it is still the same process that runs under this number. */
export function runs({ pid, started }) {
  return status(pid)?.started === started;
}

function status(pid) {
  const text = readIfThere(`/proc/${pid}/stat`);
  // The name stands in brackets and may hold anything, brackets and spaces included; the rest is numbers.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, parent, started] = [fields[0], Number(fields[1]), fields[19]];
  return started && state !== "Z" ? { pid: Number(pid), parent, started } : undefined;
}

// Processes end while they are looked at: what is gone has no text.
function readIfThere(file) {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
