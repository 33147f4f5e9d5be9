// What OpenClaw says of a call: for whom, in which run, by which model. The gate takes these for claims, with which rules
// can only tighten; what it would refuse to read is left out.

// The gate's bound, in bytes.
const LONGEST = 256;
// Runs that go on at the same time are few; this many are remembered, the oldest go first.
const MOST = 256;

const fits = (text) =>
  typeof text === "string" && text !== "" && text.isWellFormed() && Buffer.byteLength(text) <= LONGEST && !/\p{Cc}/u.test(text);

/** Which model each run speaks to: the hook before a tool is not told. */
export class Models {
  #models = new Map();

  /** A request to a model begins. */
  called({ runId, provider, model }) {
    if (typeof runId !== "string") return;
    this.#models.delete(runId);
    this.#models.set(runId, `${provider}/${model}`);
    if (this.#models.size > MOST) this.#models.delete(this.#models.keys().next().value);
  }

  of(runId) {
    return this.#models.get(runId);
  }

  get size() {
    return this.#models.size;
  }
}

/** The claims about a call, by the names of their fields. A sender is told apart by its channel. */
export function claims(event, ctx, models) {
  const run = event?.runId ?? ctx?.runId;
  const { channel, senderId } = ctx?.requester ?? {};
  const requester = channel === undefined || senderId === undefined ? senderId : `${channel}:${senderId}`;
  return Object.fromEntries(Object.entries({ requester, run, model: models.of(run) }).filter(([, text]) => fits(text)));
}
