"""Mutation testing of clawlock-policy: what scripts/mutants does once it has cargo-mutants.

mutants.py CHECKOUT KEPT CARGO_MUTANTS [--fresh] [WORD...]

cargo-mutants says which changes there are. Nearly all of them are built into one program, each behind a switch
(mutants_switches.py), so a change costs a run of the engine's tests until the first that fails. What cannot stand
behind a switch, constants above all, is left to cargo-mutants, which builds the engine for each.

Both happen in copies of the checkout, which are workspaces of the engine alone: they build while another crate does
not. They and their target folder stay. The fuzz targets are left out; they would only make it slower.

A result belongs to the changed file and to what the engine is built from. A change that was caught stays caught when
tests are added or another file is edited; one that was missed is tried again as soon as anything differs. How many were
caught before the last edit is said at the end: `--fresh` asks today's tests about today's engine.
"""

import collections
import concurrent.futures
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import mutants_switches as switches

PACKAGE = "clawlock-policy"
FOLDER = pathlib.Path("sidecar/policy")
TESTS = ["--test=policy"]
# For `--fail-fast` and `--report-time`, which are not stable yet.
UNSTABLE = ["RUSTC_BOOTSTRAP=1"]
# The first test that fails is enough. What is skipped asks whether the tests' random world is large enough.
ENOUGH = ["-Zunstable-options", "--fail-fast", "--test-threads=1"]
ENOUGH += ["--skip", "reference::the_random_world_reaches_every_kind_of_answer"]
THRESHOLD = 85.0
# For a change that makes the tests run for ever: seconds of processor time, which a busy machine does not use up, and
# how many times what they take (5 is cargo-mutants' own). Seconds of the clock only end a test that waits for ever.
SHORTEST_LIMIT, SLOWER, CLOCK_LIMIT = 2, 5, 3600
# For a change that makes the tests collect for ever: bytes of memory. They need a tenth of it.
MEMORY = 1 << 30
# The part of the time in which the quick tests are through.
QUICK = 0.2
# How many of the tests that noticed other changes to a file come before these.
FIRST = 8
# What the status of the test program, or of `timeout`, stands for. All else is a test that failed, or a crash.
ENDS = {0: "MissedMutant", -signal.SIGXCPU: "Timeout", 124: "Timeout"}
CAUGHT = ("CaughtMutant", "Timeout")
# What cargo says of a test program that was stopped by its limit of processor time.
OUT_OF_TIME = "SIGXCPU"


def main(checkout, kept, tool, *words):
    checkout, kept = pathlib.Path(checkout), pathlib.Path(kept)
    fresh = "--fresh" in words
    words = [word for word in words if word != "--fresh"]
    tree, out = kept / "tree", kept / "out"
    files = sources(checkout)
    copy(files, tree)
    listed = run(tool, "mutants", "--list", "--json", "--package", PACKAGE, cwd=tree, stdout=subprocess.PIPE)
    mutants = {mutant["name"]: mutant for mutant in json.loads(listed.stdout)}
    places = {name: mutant["file"] for name, mutant in mutants.items()}
    store = Store(kept / "results.json", out, tree, places)
    if fresh:
        store.forget()
    wanted = [name for name, file in places.items() if not words or any(word in file for word in words)]
    if not wanted:
        sys.exit(f"error: no file of the engine has a path with one of: {' '.join(words)}")
    todo = {name for name in wanted if store.is_open(name)}
    say(f"{len(wanted)} changes, {len(wanted) - len(todo)} tried before, {len(todo)} to try")
    if todo:
        alone = try_switched(kept / "switched", files, mutants, todo, store)
        if alone:
            try_alone(tool, tree, out, alone, store)
    return report(store, {name: places[name] for name in wanted})


def try_switched(tree, new, mutants, todo, store):
    """Tries all changes that one program can hold, and returns the names of the others."""
    numbers = {name: number for number, name in enumerate(mutants, 1)}
    names = {number: name for name, number in numbers.items()}
    held = {name for name, mutant in mutants.items() if mutant["function"] and store.get(name)[0] != "Unviable"}
    while True:
        switched, lines = dict(new), {}
        for file in sorted({mutants[name]["file"] for name in held}):
            own = [name for name in mutants if name in held and mutants[name]["file"] == file]
            changes = [(numbers[name], mutants[name]) for name in own]
            text, places, alone = switches.Source(new[pathlib.Path(file)].decode()).switched(changes)
            switched[pathlib.Path(file)] = text.encode()
            lines |= {(file, line): number for number, place in places.items() for line in place}
            held -= {names[number] for number in alone}
        switched[FOLDER / "src/lib.rs"] += switches.SWITCH.encode()
        copy(switched, tree)
        say(f"building one program of {len(held)} changes ...")
        program, bad = switches.build(["cargo", "test", "--quiet", "--package", PACKAGE, *TESTS], tree, lines)
        if program:
            break
        say(f"{len(bad)} changes do not compile")
        held -= {names[number] for number in bad}
        store.put({names[number]: "Unviable" for number in bad})
    tests = Tests(program, tree / FOLDER)
    ready = sorted(todo & held, key=numbers.get)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(tests.try_change, numbers[name], mutants[name]["file"]): name for name in ready}
        for done, future in enumerate(concurrent.futures.as_completed(running), 1):
            store.put({running[future]: future.result()})
            if done % 50 == 0:
                say(f"{done} of {len(ready)} tried")
    return {name for name in todo - held if store.is_open(name)}


def try_alone(tool, tree, out, names, store):
    """Leaves changes to cargo-mutants, which builds the engine for each of them."""
    say(f"{len(names)} changes to try alone ...")
    store.begin(names)
    version = run("rustc", "-vV", stdout=subprocess.PIPE).stdout
    host = re.search(r"^host: (.*)$", version, re.M).group(1).upper().replace("-", "_")
    # On test programs only: the compiler has no such limits.
    os.environ[f"CARGO_TARGET_{host}_RUNNER"] = " ".join(["env", *UNSTABLE, *limited(10 * SHORTEST_LIMIT)])
    command = [tool, "mutants", "--package", PACKAGE, "--in-place", "--iterate", "--output", str(out)]
    command += ["--baseline", "skip", "--timeout", str(CLOCK_LIMIT), "--colors", "never"]
    # For its build and its test: what stands behind -- is for the test only, and then it builds every program.
    command += [f"--cargo-arg={argument}" for argument in TESTS]
    rc = run(*command, "--", "--", *ENOUGH, cwd=tree, check=False).returncode
    store.gather()
    # 2: some were missed; 3: some ran into the time limit. Both are results; all else is a failure of the run.
    if rc not in (0, 2, 3):
        sys.exit(f"error: cargo-mutants ended with {rc}; see {out}")


class Tests:
    """The test program, which holds all changes."""

    def __init__(self, program, folder):
        self.program, self.folder, self.noticed = program, folder, collections.defaultdict(collections.Counter)
        outcome, took, said = self.run(0, 100 * SHORTEST_LIMIT, ["--report-time"])
        if outcome != "MissedMutant":
            sys.exit(f"error: the tests fail without any change; see cargo test -p {PACKAGE} {' '.join(TESTS)}")
        # Most changes are noticed by one of the many quick tests: the few that take most of the time come last.
        times = re.findall(r"^test (\S+) \.\.\. ok <(.*)s>$", said, re.M)
        times = sorted((float(time), name) for name, time in times)
        passed = list(itertools.accumulate(time for time, _ in times))
        slow = [name for (_, name), at in zip(times, passed) if at > QUICK * passed[-1]]
        quick = [argument for name in slow for argument in ("--skip", name)]
        self.turns = [
            (max(SHORTEST_LIMIT, math.ceil(SLOWER * part * took)), ["--exact", *chosen])
            for part, chosen in ((QUICK, quick), (1, slow))
        ]
        limits = " and ".join(f"{limit} s" for limit, _ in self.turns)
        say(f"the tests pass in {took:.1f} s of processor time; a change has {limits}; {len(slow)} slow ones come last")

    def try_change(self, number, file):
        # Those first that noticed most of the other changes to the file.
        noticed = [name for name, _ in self.noticed[file].most_common(FIRST)]
        turns = [(SHORTEST_LIMIT, ["--exact", *noticed]), *self.turns] if noticed else self.turns
        for limit, tests in turns:
            outcome, _, said = self.run(number, limit, tests)
            if outcome != "MissedMutant":
                self.noticed[file].update(re.findall(r"^test (\S+) \.\.\. FAILED$", said, re.M))
                break
        return outcome

    def run(self, number, limit, arguments):
        """Runs tests with a change switched on: the outcome, the processor time that it took, and what was printed."""
        command = ["timeout", "--kill-after=5", str(CLOCK_LIMIT), *limited(limit)]
        command += ["env", *UNSTABLE, f"{switches.VARIABLE}={number}"]
        command += [self.program, *ENOUGH, *arguments]
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            tests = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.DEVNULL
            )
            _, status, used = os.wait4(tests.pid, 0)
            tests.returncode = os.waitstatus_to_exitcode(status)
            said.seek(0)
            outcome = ENDS.get(tests.returncode, "CaughtMutant")
            return outcome, used.ru_utime + used.ru_stime, said.read()


def limited(seconds):
    """The start of a command that has that many seconds of processor time, and a bounded memory."""
    return ["prlimit", f"--as={MEMORY}", f"--cpu={seconds}:{seconds + 5}"]


class Store:
    """Outcomes by file version and name of the change, each with the version of everything that it was seen by."""

    def __init__(self, path, out, tree, files):
        self.path, self.out, self.files = path, out, files
        built_from = dependencies(tree)
        self.versions = {file: digest(tree, [tree / file], built_from) for file in set(files.values())}
        folder = tree / FOLDER
        self.whole = digest(tree, [*(folder / "src").rglob("*.rs"), *(folder / "tests").rglob("*.rs")], built_from)
        self.outcomes = json.loads(path.read_text()) if path.exists() else {}
        self.gather()

    def key(self, name):
        return f"{self.versions[self.files[name]]} {name}"

    def get(self, name):
        return self.outcomes.get(self.key(name), ("open", None))

    def gather(self):
        """Takes in what cargo-mutants has written, also by a run that was stopped."""
        written, about = self.out / "mutants.out/outcomes.json", self.out / "about.json"
        if not written.exists() or not about.exists():
            return
        described = json.loads(about.read_text())
        for outcome in json.loads(written.read_text() or '{"outcomes":[]}')["outcomes"]:
            if outcome["scenario"] != "Baseline":
                mutant, summary = outcome["scenario"]["Mutant"], outcome["summary"]
                if summary == "CaughtMutant" and OUT_OF_TIME in (written.parent / outcome["log_path"]).read_text():
                    summary = "Timeout"
                key = f"{described['versions'][mutant['file']]} {mutant['name']}"
                self.outcomes[key] = [summary, described["whole"]]
        self.save()

    def put(self, outcomes):
        for name, outcome in outcomes.items():
            self.outcomes[self.key(name)] = [outcome, self.whole]
        self.save()

    def save(self):
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.outcomes, indent=0))
        temporary.rename(self.path)

    def forget(self):
        self.outcomes = {}
        (self.out / "about.json").unlink(missing_ok=True)

    def is_open(self, name):
        outcome, whole = self.get(name)
        return outcome == "open" or (outcome not in (*CAUGHT, "Unviable") and whole != self.whole)

    def begin(self, todo):
        """Makes cargo-mutants believe that it has caught what is not to be tried: `--iterate` skips that."""
        done = set(self.files) - todo
        last = self.out / "mutants.out"
        last.mkdir(parents=True, exist_ok=True)
        for file in last.iterdir():
            if file.suffix in (".txt", ".json"):
                file.unlink()
        (last / "caught.txt").write_text("".join(f"{name}\n" for name in sorted(done)))
        (self.out / "about.json").write_text(json.dumps({"versions": self.versions, "whole": self.whole}))


def sources(checkout):
    """The files of a workspace of the engine alone."""
    files = {path: (checkout / path).read_bytes() for path in map(pathlib.Path, ("Cargo.lock", "rust-toolchain.toml"))}
    manifest = (checkout / "Cargo.toml").read_text()
    alone, count = re.subn(r"(?ms)^members = \[.*?\]", f'members = ["{FOLDER}"]', manifest)
    if count != 1:
        sys.exit("error: Cargo.toml has no list of members")
    files[pathlib.Path("Cargo.toml")] = alone.encode()
    for path in (checkout / FOLDER).rglob("*"):
        if path.is_file():
            files[path.relative_to(checkout)] = path.read_bytes()
    return files


def copy(files, tree):
    """Brings a copy up to date. Files that are the same stay untouched, and are not built again."""
    for path, content in files.items():
        target = tree / path
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for path in list((tree / FOLDER).rglob("*")):
        if path.is_file() and path.relative_to(tree) not in files:
            path.unlink()


def dependencies(tree):
    """The engine's manifest, and the versions and features of what it is built from."""
    command = ["cargo", "tree", "--quiet", "--package", PACKAGE, "--edges", "normal,build,features", "--prefix", "none"]
    lines = run(*command, cwd=tree, stdout=subprocess.PIPE).stdout.replace(str(tree), "").splitlines()
    built_from = sorted({line.removesuffix(" (*)") for line in lines})
    return "\n".join([(tree / FOLDER / "Cargo.toml").read_text(), *built_from])


def digest(tree, files, more):
    state = hashlib.sha256(more.encode())
    for file in sorted(files):
        state.update(f"{file.relative_to(tree)}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return state.hexdigest()[:16]


def report(store, files):
    rows = collections.defaultdict(collections.Counter)
    for name, file in files.items():
        outcome, whole = store.get(name)
        for row in (str(pathlib.Path(file).relative_to(FOLDER / "src")), "total"):
            rows[row][outcome] += 1
            rows[row]["earlier"] += outcome in CAUGHT and whole != store.whole
        if outcome == "MissedMutant":
            print(f"missed: {name}")
    total = rows.pop("total")
    print(f"\n{'file':34} {'caught':>7} {'by time':>8} {'missed':>7} {'score':>8}   {'no build':>8} {'not tried':>10}")
    for name, row in [*sorted(rows.items()), ("total", total)]:
        print(
            f"{name:34} {row['CaughtMutant']:7} {row['Timeout']:8} {row['MissedMutant']:7} {score(row):6.1f} %"
            f"   {row['Unviable']:8} {row['open']:10}"
        )
    if total["earlier"]:
        print(f"{total['earlier']} of these were caught before the last edit of a test or another file")
    unclear = set(total) - {*CAUGHT, "MissedMutant", "Unviable", "open", "earlier"}
    if unclear:
        sys.exit(f"error: outcomes that say nothing: {', '.join(unclear)}")
    print(f"score {score(total):.1f} %, at least {THRESHOLD:g} % wanted")
    return int(score(total) < THRESHOLD)


def score(row):
    """A change that makes the tests run for ever was noticed too. One that does not compile says nothing."""
    caught = sum(row[outcome] for outcome in CAUGHT)
    viable = caught + row["MissedMutant"]
    return 100 * caught / viable if viable else 0.0


def run(*command, check=True, **options):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, **options)
    if check and done.returncode:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}")
    return done


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
