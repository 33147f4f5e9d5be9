// What the demo's three upstreams have in common: TLS, a record of every request, and a channel to the process that
// started them. No dependency beyond Node itself.
//
// Start one with: node NAME.mjs DIR NAME.test   (DIR holds NAME.test.crt and NAME.test.key)
// It listens on a free port of loopback, or on LISTEN=ADDRESS:PORT; its record NAME.test.jsonl is in DIR, or in RECORDS.
import fs from "node:fs";
import https from "node:https";
import path from "node:path";

// No request of the demo is larger; a bigger one is a fault of the demo.
const MAX_BODY_BYTES = 4 * 1024 * 1024;

/** Serves `answer(request)` where request is {method, url, headers, body, response}; returns `emit` for more records. */
export function serve(answer) {
  const [directory, name] = process.argv.slice(2);
  if (!directory || !name) {
    console.error("usage: node SERVER.mjs DIR NAME");
    process.exit(2);
  }
  const record = path.join(process.env.RECORDS ?? directory, `${name}.jsonl`);
  fs.writeFileSync(record, "", { mode: 0o600 });
  const emit = (entry) => fs.appendFileSync(record, JSON.stringify({ at: Date.now(), ...entry }) + "\n");

  const server = https.createServer(
    { cert: fs.readFileSync(path.join(directory, `${name}.crt`)), key: fs.readFileSync(path.join(directory, `${name}.key`)) },
    (request, response) => {
      const parts = [];
      let size = 0;
      request.on("data", (part) => {
        size += part.length;
        if (size > MAX_BODY_BYTES) return request.destroy();
        parts.push(part);
      });
      request.on("end", () => {
        const body = Buffer.concat(parts).toString("utf8");
        const { method, url, headers } = request;
        // The record is the demo's proof of what arrived, credential included; it stays in the run's folder.
        emit({ kind: "request", method, url, headers, body });
        answer({ method, url, headers, body, response });
      });
    },
  );
  // A handshake that fails (a client that does not trust the demo's CA) is worth knowing, not dying for.
  server.on("tlsClientError", (error) => emit({ kind: "tls-error", error: error.message }));
  const [host, port] = (process.env.LISTEN ?? "127.0.0.1:0").split(":");
  server.listen(Number(port), host, () => {
    if (process.send) process.send({ listening: server.address().port });
    else console.log(`${name} listens on https://${host}:${server.address().port}`);
  });
  // The first process of a container is not ended by a signal that it does not take.
  process.on("SIGTERM", () => process.exit(0));
  // The demo ends its servers by hanging up: none outlives it.
  process.on("disconnect", () => process.exit(0));
  return emit;
}

/** Answers with a JSON document. */
export function json(response, status, document) {
  const body = JSON.stringify(document);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
}
