// What the upstreams have seen, by their own records: the only place where a credential may turn up.
import fs from "node:fs";
import path from "node:path";

export class Seen {
  constructor(directory, host) {
    this.file = path.join(directory, `${host}.jsonl`);
  }

  all(kind = "request") {
    const lines = fs.readFileSync(this.file, "utf8").split("\n").filter(Boolean);
    return lines.map((line) => JSON.parse(line)).filter((entry) => entry.kind === kind);
  }

  /** What arrives from now on. */
  mark(kind) {
    const from = this.all(kind).length;
    return () => this.all(kind).slice(from);
  }
}

/** Files below a folder that hold one of the values, plain or in base64. */
export function filesWith(folder, values) {
  const needles = values.flatMap((value) => [Buffer.from(value), ...base64Forms(value)]);
  const found = [];
  const visit = (place) => {
    // A running agent removes files while they are looked at; what is gone holds nothing.
    const kind = fs.lstatSync(place, { throwIfNoEntry: false });
    if (kind?.isDirectory()) fs.readdirSync(place).forEach((name) => visit(path.join(place, name)));
    if (!kind?.isFile()) return;
    const content = readIfThere(place);
    if (needles.some((needle) => content.includes(needle))) found.push(path.relative(folder, place));
  };
  visit(folder);
  return found.sort();
}

function readIfThere(file) {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    if (error.code === "ENOENT") return Buffer.alloc(0);
    throw error;
  }
}

/** The three ways in which a value shows inside a longer base64 text, without the characters that its ends share. */
function base64Forms(value) {
  return [0, 1, 2].map((shift) => {
    const text = Buffer.from("x".repeat(shift) + value).toString("base64").replace(/=+$/, "");
    return Buffer.from(text.slice(shift ? 4 : 0, -4));
  });
}
