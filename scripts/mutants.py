"""Mutation testing of clawlock-policy: what scripts/mutants does once it has cargo-mutants.

mutants.py CHECKOUT KEPT CARGO_MUTANTS [--fresh] [WORD...]

cargo-mutants changes the files in place, so it works in a copy. The copy is a workspace of the engine alone: it builds
while another crate of the checkout does not. The copy and its target folder stay, so a change costs what cargo must
build for it and one run of the engine's test program. The fuzz targets are left out; they would only make it slower.

A result belongs to the changed file and to what the engine is built from. A change that was caught stays caught when
tests are added or another file is edited; one that was missed is tried again as soon as anything differs. How many were
caught before the last edit is said at the end: `--fresh` asks today's tests about today's engine.
"""

import collections
import hashlib
import json
import os
import pathlib
import re
import resource
import subprocess
import sys

PACKAGE = "clawlock-policy"
FOLDER = pathlib.Path("sidecar/policy")
TESTS = ["--test", "policy"]
# The first test that fails is enough. What is skipped asks whether the tests' random world is large enough.
ENOUGH = ["-Zunstable-options", "--fail-fast", "--skip", "the_random_world_reaches_every_kind_of_answer"]
THRESHOLD = 85.0
# For a change that makes the tests run for ever: seconds of processor time, which a busy machine does not use up, and
# how many times what they take. In seconds of the clock only a test that does nothing at all could be caught.
SHORTEST_LIMIT, SLOWER, CLOCK_LIMIT = 20, 10, 3600
# For a change that makes the tests collect for ever: bytes of memory. The compiler needs less.
MEMORY = 4 << 30
CAUGHT = ("CaughtMutant", "Timeout")
# What cargo says of a test program that was stopped by its limit of processor time.
OUT_OF_TIME = "SIGXCPU"


def main(checkout, kept, tool, *words):
    checkout, kept = pathlib.Path(checkout), pathlib.Path(kept)
    fresh = "--fresh" in words
    words = [word for word in words if word != "--fresh"]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    tree, out = kept / "tree", kept / "out"
    copy(checkout, tree)
    listed = run(tool, "mutants", "--list", "--json", "--package", PACKAGE, cwd=tree, stdout=subprocess.PIPE)
    files = {mutant["name"]: mutant["file"] for mutant in json.loads(listed.stdout)}
    store = Store(kept / "results.json", out, tree, files)
    if fresh:
        store.forget()
    wanted = [name for name, file in files.items() if not words or any(word in file for word in words)]
    if not wanted:
        sys.exit(f"error: no file of the engine has a path with one of: {' '.join(words)}")
    todo = [name for name in wanted if store.is_open(name)]
    say(f"{len(wanted)} changes, {len(wanted) - len(todo)} tried before, {len(todo)} to try")
    if todo:
        limit_tests(time_limit(tree))
        store.begin(set(files) - set(todo))
        command = [tool, "mutants", "--package", PACKAGE, "--in-place", "--iterate", "--output", str(out)]
        command += ["--baseline", "skip", "--timeout", str(CLOCK_LIMIT), "--colors", "never", "--", *TESTS, "--", *ENOUGH]
        rc = run(*command, cwd=tree, check=False).returncode
        store.gather()
        # 2: some were missed; 3: some ran into the time limit. Both are results; all else is a failure of the run.
        if rc not in (0, 2, 3):
            sys.exit(f"error: cargo-mutants ended with {rc}; see {out}")
    return report(store, {name: files[name] for name in wanted})


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
        temporary = self.path.with_suffix(".new")
        temporary.write_text(json.dumps(self.outcomes, indent=0))
        temporary.rename(self.path)

    def forget(self):
        self.outcomes = {}
        (self.out / "about.json").unlink(missing_ok=True)

    def is_open(self, name):
        outcome, whole = self.get(name)
        return outcome == "open" or (outcome not in (*CAUGHT, "Unviable") and whole != self.whole)

    def begin(self, done):
        """Makes cargo-mutants believe that it has caught what is not to be tried: `--iterate` skips that."""
        last = self.out / "mutants.out"
        last.mkdir(parents=True, exist_ok=True)
        for file in last.iterdir():
            if file.suffix in (".txt", ".json"):
                file.unlink()
        (last / "caught.txt").write_text("".join(f"{name}\n" for name in sorted(done)))
        (self.out / "about.json").write_text(json.dumps({"versions": self.versions, "whole": self.whole}))


def copy(checkout, tree):
    """Brings the copy up to date. Files that are the same stay untouched, and are not built again."""
    new = {path: (checkout / path).read_bytes() for path in map(pathlib.Path, ("Cargo.lock", "rust-toolchain.toml"))}
    manifest = (checkout / "Cargo.toml").read_text()
    alone, count = re.subn(r"(?ms)^members = \[.*?\]", f'members = ["{FOLDER}"]', manifest)
    if count != 1:
        sys.exit("error: Cargo.toml has no list of members")
    new[pathlib.Path("Cargo.toml")] = alone.encode()
    for path in (checkout / FOLDER).rglob("*"):
        if path.is_file():
            new[path.relative_to(checkout)] = path.read_bytes()
    for path, content in new.items():
        target = tree / path
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    for path in list((tree / FOLDER).rglob("*")):
        if path.is_file() and path.relative_to(tree) not in new:
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


def time_limit(tree):
    """Builds, and runs the tests on the engine as it is: they must pass."""
    say("the engine as it is ...")
    command = ["cargo", "test", "--quiet", "--package", PACKAGE, *TESTS]
    run(*command, "--no-run", cwd=tree)
    limit_tests(10 * SHORTEST_LIMIT)
    before = processor_time()
    if run(*command, "--", *ENOUGH, cwd=tree, check=False, stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"error: the tests fail without any change; see cargo test -p {PACKAGE} {' '.join(TESTS)}")
    took = processor_time() - before
    limit = max(SHORTEST_LIMIT, round(SLOWER * took))
    say(f"its tests pass in {took:.1f} s of processor time; a change has {limit} s")
    return limit


def processor_time():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def limit_tests(seconds):
    """Puts a limit on test programs only. The variable lets them stop at the first failure, which is not stable yet."""
    version = run("rustc", "-vV", stdout=subprocess.PIPE).stdout
    host = re.search(r"^host: (.*)$", version, re.M).group(1).upper().replace("-", "_")
    os.environ[f"CARGO_TARGET_{host}_RUNNER"] = f"env RUSTC_BOOTSTRAP=1 prlimit --cpu={seconds}:{seconds + 5}"


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
