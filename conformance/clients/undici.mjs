// The undici package, which looks at the proxy variables only through its environment agent.
import { EnvHttpProxyAgent, request } from "undici";

const [method, url] = process.argv.slice(2);
const response = await request(url, {
  method,
  dispatcher: new EnvHttpProxyAgent(),
  headers: { authorization: "Bearer of-the-agent", "content-type": "application/json" },
  body: method === "POST" ? JSON.stringify({ amount: 1 }) : undefined,
});
console.log(await response.body.text());
console.log(response.statusCode);
