// Which request id a tool call was decided under. Both hooks of a call ask the same question under the same id, so that
// the gate answers the second one from memory and records the call once; its outcome is reported under that id too.
import { createHash, randomUUID } from "node:crypto";

// Calls that run at the same time are few; this many are remembered, the oldest go first.
const MOST = 1024;

export class Calls {
  #calls = new Map();

  /** The id for a question about a call: the one of before when it is the same question. */
  requestId(callId, question) {
    const digest = createHash("sha256").update(question).digest("base64");
    const known = callId === undefined ? undefined : this.#calls.get(callId);
    if (known?.digest === digest) return known.requestId;
    const requestId = randomUUID();
    if (callId !== undefined) this.#put(callId, { digest, requestId });
    return requestId;
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
