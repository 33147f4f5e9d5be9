// Reference client of the decide API: asks whether a tool call may happen. Whatever is not a clear "allow" is a no.
//   node decide-client.mjs URL TOOL '{"json": "arguments"}'     exit 0: allowed, 1: not
import crypto from "node:crypto";
import { pathToFileURL } from "node:url";

export async function decide(url, tool, args) {
  const requestId = crypto.randomUUID(); // a retry with the same id gets the same answer
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ version: 1, requestId, tool, args }),
    redirect: "error",
    signal: AbortSignal.timeout(4_000),
  });
  const answer = await response.json();
  if (answer.version !== 1 || answer.requestId !== requestId) throw new Error(`no answer to this request (HTTP ${response.status})`);
  return answer;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [url, tool, args] = process.argv.slice(2);
  const answer = await decide(url, tool, JSON.parse(args));
  console.log(JSON.stringify(answer));
  process.exitCode = answer.decision === "allow" ? 0 : 1;
}
