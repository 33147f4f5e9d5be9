// A package registry with one package of one file, enough for `npm install`: the packument and the tarball.
// Both are made here at start, so nothing binary is kept in the repository.
import crypto from "node:crypto";
import zlib from "node:zlib";
import { json, serve } from "./serve.mjs";

const NAME = "clawlock-demo-greeting";
const VERSION = "1.0.0";
const tarball = tar({
  "package/package.json": JSON.stringify({ name: NAME, version: VERSION, main: "index.js" }),
  "package/index.js": 'module.exports = "greetings from the registry";\n',
});

serve(({ method, url, headers, response }) => {
  if (method !== "GET") return json(response, 405, { error: "read only" });
  if (url === `/${NAME}`) return json(response, 200, packument(headers.host));
  if (url !== `/${NAME}/-/${NAME}-${VERSION}.tgz`) return json(response, 404, { error: "no such package" });
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": tarball.length });
  response.end(tarball);
});

function packument(host) {
  const dist = {
    tarball: `https://${host}/${NAME}/-/${NAME}-${VERSION}.tgz`,
    integrity: `sha512-${crypto.createHash("sha512").update(tarball).digest("base64")}`,
  };
  const version = { name: NAME, version: VERSION, main: "index.js", dist };
  return { _id: NAME, name: NAME, "dist-tags": { latest: VERSION }, versions: { [VERSION]: version } };
}

/** A gzipped ustar archive of small text files. */
function tar(files) {
  const blocks = [];
  for (const [name, text] of Object.entries(files)) {
    const content = Buffer.from(text);
    const header = Buffer.alloc(512);
    const octal = (value, width) => value.toString(8).padStart(width - 1, "0") + "\0";
    header.write(name, 0);
    header.write(octal(0o644, 8) + octal(0, 8) + octal(0, 8) + octal(content.length, 12) + octal(0, 12), 100);
    header.write("        0", 148);
    header.write("ustar\0" + "00", 257);
    const sum = header.reduce((total, byte) => total + byte, 0);
    header.write(sum.toString(8).padStart(6, "0") + "\0 ", 148);
    blocks.push(header, content, Buffer.alloc((512 - (content.length % 512)) % 512));
  }
  return zlib.gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024)]));
}
