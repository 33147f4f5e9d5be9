"""Real HTTP clients under `clawlock dev -- CLIENT`, with nothing but the variables and files that it sets.

Each client reads something that the policy allows and tries something that it blocks. It passes when
- what it read came from the upstream, which saw the credential and not the one that the client sent;
- what was blocked came back as 403 (with the problem document, where the client shows bodies), never reached the
  upstream, and stands in the decision log with the rule's name;
- the credential is in nothing that the client printed.
"""

import argparse
import dataclasses
import json
import pathlib
import secrets
import shutil
import subprocess
import sys
import time

import dev
import upstreams

HERE = pathlib.Path(__file__).resolve().parent
RULES = {"api": "no-writing", "code": "no-writing", "packages": "no-forbidden-package"}
# A start of `clawlock dev`, a client and its requests take a second or two; a hang is a failure.
CLIENT_TIMEOUT = 60


@dataclasses.dataclass(frozen=True)
class Client:
    name: str
    version: list
    command: list
    upstream: str = "api"
    path: str = "/v1/greeting"
    shows_problem: bool = True


def clients(tools):
    python, node, scripts = str(tools / "venv/bin/python"), str(tools / "node/bin/node"), HERE / "clients"

    def package(name):
        return [python, "-c", f"import {name}; print({name}.__version__)"]

    # ECMAScript imports are looked up beside the script, so it runs from where the package is.
    undici = tools / "node" / "undici.mjs"
    shutil.copyfile(scripts / "undici.mjs", undici)
    undici_version = [node, "-p", f"require({str(tools / 'node/node_modules/undici/package.json')!r}).version"]
    return [
        Client("curl", ["curl", "--version"], [scripts / "curl"]),
        Client("wget", ["wget", "--version"], [scripts / "wget"]),
        Client("git", ["git", "--version"], [scripts / "git"], "code", "/greeting.git", shows_problem=False),
        Client("requests", package("requests"), [python, scripts / "requests_client.py"]),
        Client("httpx", package("httpx"), [python, scripts / "httpx_client.py"]),
        Client("aiohttp", package("aiohttp"), [python, scripts / "aiohttp_client.py"]),
        Client("pip", package("pip"), [scripts / "pip", python], "packages", "/simple", shows_problem=False),
        Client("Node fetch", [node, "--version"], [node, scripts / "fetch.mjs"]),
        Client("undici", undici_version, [node, undici]),
        Client("Go net/http", ["go", "version"], [tools / "go-client"]),
    ]


class Matrix:
    def __init__(self, clawlock, tools, certificates, work):
        self.clawlock, self.tools, self.work = clawlock, tools, work
        self.canary = "canary-" + secrets.token_hex(16)
        self.servers = upstreams.start(certificates, work)
        self.folder = work / "policies"
        ports = {name: server.port for name, server in self.servers.items()}
        dev.write_policies(self.folder, certificates / "ca.crt", ports)

    def run(self, client, method):
        """Runs the client once; returns its process and the records of its decisions."""
        run = self.work / f"{client.name.replace('/', '-').replace(' ', '-')}-{method}"
        run.mkdir()
        log = run / "decisions.jsonl"
        server = self.servers[client.upstream]
        agent = [*client.command, method, server.url + client.path]
        words = dev.command(self.clawlock, self.folder, run, "--", *agent)
        done = dev.run(words, CLIENT_TIMEOUT, dev.environment(run, self.canary))
        (run / "stdout").write_text(done.stdout)
        (run / "stderr").write_text(done.stderr)
        records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return done, records

    def check_environment(self):
        """Returns what is wrong with the variables that every client gets, or nothing."""
        # The method and the URL that follow are the shell's arguments, which nothing reads.
        printer = Client("variables", [], ["sh", "-c", "env"])
        done, _ = self.run(printer, "GET")
        if self.canary in done.stdout:
            return "the client gets the credential"
        if done.returncode != 0 or "HTTPS_PROXY=http://127.0.0.1:" not in done.stdout:
            return f"exit {done.returncode}, no proxy: {last_line(done)}"
        return None

    def check(self, client):
        """Returns what is wrong with the client, or nothing."""
        server = self.servers[client.upstream]
        try:
            server.seen.clear()
            done, _ = self.run(client, "GET")
            if problem := self.judge_allowed(done, server.seen):
                return f"allowed: {problem}: {last_line(done)}"
            server.seen.clear()
            done, records = self.run(client, "POST")
            if problem := self.judge_blocked(client, done, records, server.seen):
                return f"blocked: {problem}: {last_line(done)}"
        except subprocess.TimeoutExpired as hang:
            return f"no end after {hang.timeout} s"
        return None

    def judge_allowed(self, done, seen):
        *body, status = done.stdout.strip().splitlines() or [""]
        if self.canary in done.stdout + done.stderr:
            return "the client got the credential"
        if done.returncode != 0 or status != "200" or upstreams.GREETING not in "\n".join(body):
            return f"exit {done.returncode}, status {status!r}"
        if not seen:
            return "the upstream saw nothing"
        if any(request["authorization"] != [f"Bearer {self.canary}"] for request in seen):
            return "the upstream saw another credential than the injected one"
        return None

    def judge_blocked(self, client, done, records, seen):
        *body, status = done.stdout.strip().splitlines() or [""]
        rule = RULES[client.upstream]
        if self.canary in done.stdout + done.stderr:
            return "the client got the credential"
        if status != "403":
            return f"exit {done.returncode}, status {status!r} where 403 was expected"
        if client.shows_problem:
            try:
                problem = json.loads("\n".join(body))
            except ValueError:
                return "what came back is no problem document"
            if (problem.get("rule"), problem.get("code")) != (rule, "TierBlock"):
                return f"the problem document names rule {problem.get('rule')!r}, code {problem.get('code')!r}"
        if not any(denies(record, rule) for record in records):
            return f"no record of rule {rule} in the decision log"
        if any(forbidden(client, request) for request in seen):
            return "the upstream saw the blocked request"
        return None


def forbidden(client, request):
    if client.upstream == "packages":
        return request["path"].startswith("/files/forbidden-")
    return request["method"] == "POST" and not request["path"].endswith("/git-upload-pack")


def denies(record, rule):
    outcome = record["outcome"]
    return (outcome["verdict"], outcome.get("rule")) == ("deny", rule)


def last_line(done):
    lines = [line for line in (done.stderr + done.stdout).strip().splitlines() if line]
    return lines[-1][:300] if lines else "it printed nothing"


def version(client):
    done = subprocess.run(client.version, stdout=subprocess.PIPE, text=True, check=True)
    words = done.stdout.split()
    return next((word.lstrip("vgo") for word in words if any(digit in word for digit in "0123456789")), "?")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ["clawlock", "tools", "certificates", "work"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="one client, by name")
    arguments = parser.parse_args()

    matrix = Matrix(arguments.clawlock, arguments.tools, arguments.certificates, arguments.work)
    passed = failed = 0

    def judge(name, version, check, *what):
        nonlocal passed, failed
        started = time.monotonic()
        problem = check(*what)
        took = time.monotonic() - started
        passed, failed = passed + (problem is None), failed + (problem is not None)
        verdict = "ok  " if problem is None else "FAIL"
        print(f"  {verdict}  {name:<12} {version:<10} {took:5.1f} s  {problem or ''}".rstrip(), flush=True)

    judge("variables", "", matrix.check_environment)
    for client in clients(arguments.tools):
        if arguments.only in (None, client.name):
            judge(client.name, version(client), matrix.check, client)
    print(f"clients: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
