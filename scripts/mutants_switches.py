"""All changes in one program, each behind a switch: building the engine once per change would take hours.

The body of a function that cargo-mutants would change becomes `match crate::mutant() { 1 => {...} _ => {...} }`: a
changed copy of it per change, and last the body as it is. An environment variable says which of them runs.
"""

import collections
import json
import re
import subprocess

VARIABLE = "CLAWLOCK_MUTANT"
SWITCH = f"""
pub(crate) fn mutant() -> u32 {{
    static MUTANT: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("{VARIABLE}").map_or(0, |number| number.parse().unwrap_or(0)));
    *MUTANT
}}
"""


class Source:
    """A file of the engine, and the changes to it."""

    def __init__(self, text):
        self.text = text
        self.line_starts = [0]
        for line in text.splitlines(keepends=True):
            self.line_starts.append(self.line_starts[-1] + len(line))

    def offset(self, place):
        return self.line_starts[place["line"] - 1] + place["column"] - 1

    def span(self, span):
        return self.offset(span["start"]), self.offset(span["end"])

    def switched(self, mutants):
        """The file with its changes behind switches. `mutants`: number and description of each.

        Returns the text, the lines of each change, and the numbers of those that cannot stand behind one.
        """
        functions = collections.defaultdict(list)
        for number, mutant in mutants:
            functions[self.span(mutant["function"]["span"])].append((number, mutant))
        text, lines, alone, at = "", {}, [], 0
        for (start, end), changes in sorted(functions.items()):
            opening = self.opening(start, end, changes[0][1]["function"]["function_name"])
            if opening is None or start < at:
                alone += [number for number, _ in changes]
                continue
            before, around, after = wrapped(changes[0][1]["function"]["return_type"])
            text += self.text[at:opening] + f"{{ {before} match crate::mutant() {{\n"
            for number, mutant in changes:
                first, last = self.span(mutant["span"])
                body = self.text[opening:first] + mutant["replacement"] + self.text[last:end]
                line = text.count("\n") + 1
                text += f"{number} => {around}({body}),\n"
                lines[number] = range(line, text.count("\n") + 1)
            text += f"_ => {around}({self.text[opening:end]}) }}{after} }}"
            at = end
        return text + self.text[at:], lines, alone

    def opening(self, start, end, name):
        """Where the body of a function opens; nothing when it is one of those that run at compile time."""
        name = re.escape(name.rsplit("::")[-1])
        head = re.compile(rf"^ *(?:pub(?:\([a-z]+\))? )?(const )?fn {name}\b", re.M)
        found = head.search(self.text, self.text.rfind("\n", 0, start) + 1, end)
        return None if found is None or found.group(1) else self.text.index("{", found.end())


def wrapped(return_type):
    """What stands before, around and behind the copies of a body: those for an `impl Trait` are of different types."""
    if not return_type.startswith("-> impl "):
        return "", "", ""
    return f"let all: Box<dyn {return_type.removeprefix('-> impl ')} + '_> =", "Box::new", "; all"


def build(command, tree, lines):
    """Builds the tests. `lines`: which change a line of a file belongs to.

    Returns the test program, or nothing and the changes that do not compile.
    """
    command = [*command, "--no-run", "--message-format=json"]
    done = subprocess.run(command, cwd=tree, text=True, stdin=subprocess.DEVNULL, capture_output=True)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode == 0:
        return [message["executable"] for message in messages if message.get("executable")][-1], set()
    bad = set()
    for message in messages:
        if message["reason"] == "compiler-message" and message["message"]["level"] == "error":
            spans = message["message"]["spans"]
            found = {lines.get((place["file_name"], place["line_start"])) for span in spans for place in origins(span)}
            if spans and not found - {None}:
                raise RuntimeError(f"this is not because of a change:\n{message['message']['rendered']}")
            bad |= found - {None}
    if not bad:
        raise RuntimeError(done.stderr)
    return None, bad


def origins(span):
    """The place of an error, and the places of the macros that it came out of."""
    while span:
        yield span
        span = (span["expansion"] or {}).get("span")
