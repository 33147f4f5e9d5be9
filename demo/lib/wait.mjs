// Waiting: always for a condition, always with a deadline, never for a time to pass.
import { setTimeout as pause } from "node:timers/promises";
import { Failure } from "./report.mjs";

// Between two looks at a condition: short enough not to blur what is measured in milliseconds.
const LOOK_EVERY_MS = 5;

/** Calls `look` until it returns something true, and returns that. */
export async function until(what, deadlineMs, look, everyMs = LOOK_EVERY_MS) {
  const end = Date.now() + deadlineMs;
  let last;
  for (;;) {
    try {
      const value = await look();
      if (value) return value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) {
      throw new Failure(`${what} did not happen within ${deadlineMs / 1000} s${last ? ` (${last.message})` : ""}`);
    }
    await pause(everyMs);
  }
}
