// kubectl, as the people of the story type it.
import { execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";

// A command of the story takes a second; one that takes this long hangs.
const WITHIN_MS = 120_000;
const MAX_OUTPUT_BYTES = 64 * 1024 * 1024;

/** Runs kubectl; answers what it printed. Throws with what it complained about. */
export function kubectl(args, { input, user, signal } = {}) {
  const all = user ? [...args, "--as", user, "--as-group", "system:authenticated"] : args;
  return new Promise((resolve, reject) => {
    const child = execFile("kubectl", all, { timeout: WITHIN_MS, maxBuffer: MAX_OUTPUT_BYTES, signal }, (error, stdout, stderr) => {
      if (error) reject(new Error(`kubectl ${args.slice(0, 6).join(" ")}: ${(stderr || error.message).trim()}`));
      else resolve(stdout);
    });
    child.stdin.end(input ?? "");
  });
}

export const apply = (manifest) => kubectl(["apply", "--server-side", "--force-conflicts", "-f", "-"], { input: manifest });

/** An object, or null. */
export async function get(namespace, kind, name) {
  const text = await kubectl(["get", "-n", namespace, kind, ...(name ? [name] : []), "-o", "json", "--ignore-not-found"]);
  return text.trim() ? JSON.parse(text) : null;
}

export const condition = (object, type) => object?.status?.conditions?.find((found) => found.type === type);

/** A command in a pod; answers what it printed. */
export const exec = (namespace, pod, container, command, more) => kubectl(["exec", "-n", namespace, pod, "-c", container, "--", ...command], more);

/** Whether a command in a pod prints one of the values. It may print more than memory should hold. */
export async function prints(namespace, pod, container, command, values) {
  const child = spawn("kubectl", ["exec", "-n", namespace, pod, "-c", container, "--", ...command], { stdio: ["ignore", "pipe", "inherit"] });
  const longest = Math.max(...values.map((value) => value.length));
  let rest = "";
  let bytes = 0;
  for await (const piece of child.stdout) {
    const text = rest + piece.toString("latin1");
    if (values.some((value) => text.includes(value))) {
      child.kill();
      return { found: true, bytes };
    }
    bytes += piece.length;
    rest = text.slice(-longest);
  }
  return { found: false, bytes };
}

/** A command in a pod whose lines come as they are printed. */
export async function* lines(namespace, pod, container, command) {
  const child = spawn("kubectl", ["exec", "-n", namespace, pod, "-c", container, "--", ...command], { stdio: ["ignore", "pipe", "ignore"] });
  try {
    for await (const line of createInterface({ input: child.stdout })) yield line;
  } finally {
    child.kill();
  }
}
