// A scripted model behind the OpenAI chat-completions interface, streamed. It thinks nothing; the newest user message
// with a command says what it does:
//   CALL tool {"json": "arguments"}   asks for that one tool call, then answers with the tool's result
//   HOLD                              streams a first part and keeps the rest back until the demo says "release"
//   anything else                     streams a greeting
// Note: OpenClaw appends an internal user message after a tool result, so "the last message is a tool's" proves nothing.
import { json, serve } from "./serve.mjs";

const MODEL = "scripted-1";
const key = process.env.MODEL_KEY;
if (!key) throw new Error("MODEL_KEY is not set: the service would let anybody in");
const held = [];

const release = () => held.splice(0).forEach((go) => go());
process.on("message", (message) => {
  if (message === "release") release();
});
// For whoever is not its parent.
process.on("SIGUSR2", release);

serve(({ method, url, headers, body, response }) => {
  if (headers.authorization !== `Bearer ${key}`) return json(response, 401, { error: { message: "wrong or missing key" } });
  if (method === "GET" && url === "/v1/models") {
    return json(response, 200, { object: "list", data: [{ id: MODEL, object: "model" }] });
  }
  if (method !== "POST" || url !== "/v1/chat/completions") return json(response, 404, { error: { message: "no such path" } });
  let request;
  try {
    request = JSON.parse(body);
  } catch (error) {
    return json(response, 400, { error: { message: `the body is no JSON: ${error.message}` } });
  }
  const plan = script(request.messages ?? []);
  if (request.stream) return stream(response, request, plan);
  json(response, 200, {
    ...head(request),
    object: "chat.completion",
    choices: [{ index: 0, message: wholeMessage(plan), finish_reason: plan.finish }],
    usage,
  });
});

const usage = { prompt_tokens: 10, completion_tokens: 5, total_tokens: 15 };
const head = (request) => ({ id: "cmpl-1", created: Math.floor(Date.now() / 1000), model: request.model ?? MODEL });

function text(content) {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map((part) => part.text ?? "").join("\n") : "";
}

/** What to say: {parts: [text…], call?, hold?, finish}. */
function script(messages) {
  let command = null;
  let at = -1;
  messages.forEach((message, index) => {
    if (message.role !== "user") return;
    const found = /^(?:.*\s)?(?:CALL (\S+) (\{.*\})|(HOLD)|(HELLO))\s*$/m.exec(text(message.content));
    if (found) [command, at] = [found, index];
  });
  if (command?.[3]) return { parts: ["first part, ", "second part, ", "last part"], hold: true, finish: "stop" };
  if (!command?.[1]) return { parts: ["hello ", "from ", "the ", "scripted ", "model"], finish: "stop" };
  const result = messages.slice(at + 1).findLast((message) => message.role === "tool");
  if (result) return { parts: ["RESULT ", text(result.content)], finish: "stop" };
  return { parts: [], call: { name: command[1], arguments: command[2] }, finish: "tool_calls" };
}

const toolCall = (call) => ({ id: `call_${Date.now()}`, type: "function", function: call });

function wholeMessage(plan) {
  const message = { role: "assistant", content: plan.parts.join("") };
  return plan.call ? { ...message, content: null, tool_calls: [toolCall(plan.call)] } : message;
}

function stream(response, request, plan) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  const send = (choices, more = {}) =>
    response.write(`data: ${JSON.stringify({ ...head(request), object: "chat.completion.chunk", choices, ...more })}\n\n`);
  const delta = (content) => send([{ index: 0, delta: content, finish_reason: null }]);
  const finish = () => {
    send([{ index: 0, delta: {}, finish_reason: plan.finish }]);
    send([], { usage });
    response.end("data: [DONE]\n\n");
  };
  delta({ role: "assistant", content: "" });
  if (plan.call) delta({ tool_calls: [{ index: 0, ...toolCall(plan.call) }] });
  const [first, ...rest] = plan.parts;
  if (first !== undefined) delta({ content: first });
  const others = () => {
    rest.forEach((part) => delta({ content: part }));
    finish();
  };
  if (plan.hold) held.push(others);
  else others();
}
