"""Writes what the cluster tests printed to a page: results.py PAGE COMMIT MACHINE LOG...

The logs are of libtest with --show-output: a line per test, and for each that printed something a part
`---- NAME stdout ----`.
"""

import datetime
import re
import sys

RESULT = re.compile(r"^test (\S+) \.\.\. (ok|FAILED|ignored)", re.M)
TOOK = re.compile(r"^test result: .* finished in ([0-9.]+)s", re.M)
PART = re.compile(r"^---- (\S+) stdout ----\n(.*?)(?=^---- |^(?:successes|failures):|^test result|\Z)", re.M | re.S)


def main(page, commit, machine, *logs):
    texts = [open(log, encoding="utf-8", errors="replace").read() for log in logs]
    today = datetime.date.today().isoformat()
    out = ["# Results of the cluster tests", "", "Written by `make e2e-full`; the last run.", ""]
    out += [f"{today}, commit {commit}. {machine}.", "", "| suite | passed | failed | seconds |", "|---|---|---|---|"]
    for log, text in zip(logs, texts):
        results = [result for _, result in RESULT.findall(text)]
        took = "".join(TOOK.findall(text)[-1:]) or "did not end"
        out.append(f"| {log.rpartition('/')[2]} | {results.count('ok')} | {results.count('FAILED')} | {took} |")
    for text in texts:
        printed = dict(PART.findall(text))
        for name, result in RESULT.findall(text):
            out += ["", f"## {name.replace('::', ': ').replace('_', ' ')}: {result}"]
            if lines := printed.get(name, "").strip():
                out += ["```text", lines, "```"]
    with open(page, "w", encoding="utf-8") as file:
        file.write("\n".join(out) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
