// Drives OpenClaw from within its container, as a user on its loopback would: one question a run, the answer as JSON.
//   node agent.mjs started | turn TEXT | stream TEXT | tool NAME ARGS | decide NAME ARGS
// TOKEN and PORT say how to reach OpenClaw. `stream` prints a line for each piece as it arrives.
import { decide } from "../decide-client.mjs";
import { streamedTurn, tool, turn } from "../lib/openclaw.mjs";

const agent = { url: `http://127.0.0.1:${process.env.PORT}`, token: process.env.TOKEN };
const [question, ...args] = process.argv.slice(2);

const QUESTIONS = {
  /** Whether OpenClaw says that it has started. Unknown paths answer 200 too, so the document is what counts. */
  async started() {
    const response = await fetch(`${agent.url}/startupz`, { signal: AbortSignal.timeout(5_000) });
    return response.status === 200 && (await response.json()).ok === true;
  },
  turn: (text) => turn(agent, text),
  async stream(text) {
    for await (const piece of streamedTurn(agent, text)) console.log(JSON.stringify(piece));
    return null;
  },
  tool: (name, text) => tool(agent, name, JSON.parse(text)),
  decide: (name, text) => decide("http://127.0.0.1:15002/v1/decide", name, JSON.parse(text)),
};

if (!QUESTIONS[question]) throw new Error(`unknown question ${question}`);
console.log(JSON.stringify(await QUESTIONS[question](...args)));
