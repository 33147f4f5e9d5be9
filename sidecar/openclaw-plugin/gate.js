// Speaks to the agent gate's own API over a Unix socket or loopback: one JSON object there, one back, within a time.
// Whatever is not exactly that is an error, and callers block on errors.
import http from "node:http";

export const API_VERSION = 1;

// The gate's answers have some hundred bytes; more is no answer of a gate.
const LARGEST_ANSWER = 64 * 1024;
const DEFAULT_TIMEOUT_MS = 500;

/** Why there is no answer: `status` is there when the gate gave one that is no 200. */
export class NoAnswer extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Where the gate is, from the plugin's configuration; throws on anything that it cannot be. */
export function address(config) {
  const { socket, url, timeoutMs = DEFAULT_TIMEOUT_MS } = config ?? {};
  if ((socket === undefined) === (url === undefined)) throw new Error("set exactly one of socket and url");
  if (!Number.isInteger(timeoutMs) || timeoutMs < 10 || timeoutMs > 10_000) throw new Error("timeoutMs must be 10 to 10000");
  if (socket !== undefined) {
    if (typeof socket !== "string" || !socket.startsWith("/")) throw new Error("socket must be an absolute path");
    return { connect: { socketPath: socket }, host: "localhost", timeoutMs };
  }
  const parts = typeof url === "string" ? /^http:\/\/(127\.0\.0\.1|\[::1\]|localhost):(\d{1,5})\/?$/.exec(url) : null;
  if (!parts || Number(parts[2]) < 1 || Number(parts[2]) > 65_535) throw new Error("url must be http://127.0.0.1:PORT");
  const name = parts[1] === "[::1]" ? "::1" : parts[1];
  return { connect: { host: name, port: Number(parts[2]) }, host: `${parts[1]}:${parts[2]}`, timeoutMs };
}

/** The agent gate. */
export class Gate {
  #place;
  #agent;

  constructor(place) {
    this.#place = place;
    // Idle connections end long before the gate ends them, so that no question is written into one that is being closed.
    this.#agent = new http.Agent({ keepAlive: true, timeout: 10_000, maxSockets: 64, maxFreeSockets: 8 });
  }

  get timeoutMs() {
    return this.#place.timeoutMs;
  }

  /** Sends a JSON text and resolves with the object that comes back with 200. Rejects on everything else. */
  post(path, text) {
    const { connect, host, timeoutMs } = this.#place;
    return new Promise((resolve, reject) => {
      const body = Buffer.from(text);
      const headers = { host, "content-type": "application/json", "content-length": body.length };
      // The place stands in the request: OpenClaw's proxy support puts another agent under it, which must know it too.
      const request = http.request({ ...connect, method: "POST", path, headers, agent: this.#agent });
      // Over everything: the connection, the head and the body.
      const timer = setTimeout(() => request.destroy(new NoAnswer(`no answer within ${timeoutMs} ms`)), timeoutMs);
      const fail = (error) => {
        clearTimeout(timer);
        reject(error);
      };
      request.on("error", fail);
      request.on("response", (response) => {
        const parts = [];
        let size = 0;
        response.on("data", (part) => {
          size += part.length;
          if (size > LARGEST_ANSWER) request.destroy(new NoAnswer("the answer is too large"));
          else parts.push(part);
        });
        response.on("error", fail);
        response.on("close", () => fail(new NoAnswer("the answer broke off")));
        response.on("end", () => {
          clearTimeout(timer);
          try {
            resolve(read(response.statusCode, Buffer.concat(parts).toString("utf8")));
          } catch (error) {
            reject(error);
          }
        });
      });
      request.end(body);
    });
  }
}

function read(status, text) {
  if (status !== 200) throw new NoAnswer(`the gate answered ${status}: ${text.slice(0, 200)}`, status);
  const answer = JSON.parse(text);
  if (answer === null || typeof answer !== "object" || answer.version !== API_VERSION) {
    throw new NoAnswer("the gate speaks another version");
  }
  return answer;
}
