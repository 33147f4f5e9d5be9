// Which request id a tool call was decided under. Both hooks of a call have the same question, unless another plugin has
// changed the arguments in between: the second one then needs no answer of its own as long as the first one is new, and
// asks under the same id later, so that the gate records the call once; its outcome is reported under that id too.
import { createHash, randomUUID } from "node:crypto";

// Calls that run at the same time are few; this many are remembered, the oldest go first.
const MOST = 1024;

// An edit and a halt are in force everywhere within a second: an answer counts for less.
const NEW_MS = 500;

const digestOf = (question) => createHash("sha256").update(question).digest("base64");

export class Calls {
  #calls = new Map();

  /** The id for a question about a call: the one of before when it is the same question. */
  requestId(callId, question) {
    const digest = digestOf(question);
    const known = callId === undefined ? undefined : this.#calls.get(callId);
    if (known?.digest === digest) return known.requestId;
    const requestId = randomUUID();
    if (callId !== undefined) this.#put(callId, { digest, requestId });
    return requestId;
  }

  /** The gate has allowed this question about a call now. */
  allowed(callId, requestId, now = performance.now()) {
    const known = this.#calls.get(callId);
    if (known?.requestId === requestId) known.allowedAt = now;
  }

  /** Whether the gate has just allowed this very question. It says so once. */
  takeAllowed(callId, question, now = performance.now()) {
    const known = this.#calls.get(callId);
    if (known?.allowedAt === undefined || known.digest !== digestOf(question)) return false;
    const isNew = now - known.allowedAt < NEW_MS;
    known.allowedAt = undefined;
    return isNew;
  }

  /** Forgets a call: it does not run. */
  drop(callId) {
    this.#calls.delete(callId);
  }

  /** The id under which a call that has ended was allowed. */
  take(callId) {
    const known = this.#calls.get(callId);
    this.#calls.delete(callId);
    return known?.requestId;
  }

  get size() {
    return this.#calls.size;
  }

  #put(callId, call) {
    this.#calls.delete(callId);
    this.#calls.set(callId, call);
    if (this.#calls.size > MOST) this.#calls.delete(this.#calls.keys().next().value);
  }
}
