// Loaded into OpenClaw ahead of everything: writes down how long each question to the gate took, as OpenClaw's own event
// loop saw it, from the request to the end of the answer.
const fs = require("node:fs");
const http = require("node:http");

const request = http.request;
http.request = function (options, ...rest) {
  const started = performance.now();
  const asked = request.call(this, options, ...rest);
  if (options?.path === "/v1/decide") {
    asked.on("response", (response) =>
      response.on("end", () => fs.appendFileSync(process.env.BENCH_TIMES, `${performance.now() - started}\n`)),
    );
  }
  return asked;
};
