// The demo's payment service: an upstream that wants a key and does with charges and refunds what such services do.
//   GET /v1/charges · POST /v1/refunds {"charge", "amount"} · DELETE /v1/charges/ID · GET /v1/events (server-sent events)
// Whoever comes without the key that the demo made for this run (PAYMENTS_KEY) gets 401, so an answer proves the key.
import { json, serve } from "./serve.mjs";

const key = process.env.PAYMENTS_KEY;
if (!key) throw new Error("PAYMENTS_KEY is not set: the service would let anybody in");
const EVENT_EVERY_MS = 100;
let refunds = 0;

const emit = serve((request) => {
  const { method, url, headers, response } = request;
  if (headers.authorization !== `Bearer ${key}`) return json(response, 401, { error: "wrong or missing key" });
  const path = url.split("?")[0];
  if (method === "GET" && path === "/v1/charges") {
    return json(response, 200, { charges: [{ id: "ch_1", amount: 4200, currency: "usd" }] });
  }
  if (method === "POST" && path === "/v1/refunds") return refund(request);
  if (method === "DELETE" && path.startsWith("/v1/charges/")) return json(response, 200, { deleted: true });
  if (method === "GET" && path === "/v1/events") return events(response);
  json(response, 404, { error: "no such path" });
});

function refund({ body, response }) {
  try {
    const { charge, amount } = JSON.parse(body);
    refunds += 1;
    json(response, 200, { id: `re_${refunds}`, charge, amount, status: "succeeded" });
  } catch (error) {
    json(response, 400, { error: `the body is no JSON: ${error.message}` });
  }
}

/** An endless stream: only the client, or whoever stands between, ends it. */
function events(response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  emit({ kind: "stream-open" });
  let number = 0;
  const timer = setInterval(() => response.write(`data: {"event":${(number += 1)}}\n\n`), EVENT_EVERY_MS);
  response.on("close", () => {
    clearInterval(timer);
    emit({ kind: "stream-closed", events: number });
  });
}
