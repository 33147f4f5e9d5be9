// Node's own fetch, with nothing set: NODE_USE_ENV_PROXY makes it look at the proxy variables.
const [method, url] = process.argv.slice(2);
const response = await fetch(url, {
  method,
  headers: { authorization: "Bearer of-the-agent", "content-type": "application/json" },
  body: method === "POST" ? JSON.stringify({ amount: 1 }) : undefined,
});
console.log(await response.text());
console.log(response.status);
