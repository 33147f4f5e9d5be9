"""h2spec against the three HTTP/2 listeners: the proxy's plain one, the intercepted one behind CONNECT, and the mTLS
hop's. h2spec speaks plain HTTP/2, so TLS is opened by a shim that only forwards bytes.

What is asked for is always denied; the suite judges the protocol, not the answers. A denial does not wait for the
rest of a request, so a few cases race: the answer may be complete before the faulty frame arrives, and then nothing is
left that could fail. Hence a suite that falls short is run again.
"""

import argparse
import contextlib
import pathlib
import re
import subprocess
import sys
import time

import dev

# The plain listener also takes HTTP/1, so it answers a broken preface as HTTP/1 would: one case. One more may race.
CASES, WANTED = 147, 145
# Runs of a suite that falls short. What is really wrong fails in each of them.
RUNS = 3
# h2spec waits this long for each answer that does not come.
ANSWER_TIMEOUT = 2
SUITE_TIMEOUT = 300


def run_suite(h2spec, port, log):
    """Returns passed, all and the titles of what failed."""
    words = [h2spec, "--strict", "--host", "127.0.0.1", "--port", port, "--timeout", ANSWER_TIMEOUT]
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=SUITE_TIMEOUT,
    )
    log.write_text(done.stdout)
    found = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    if not found:
        raise SystemExit(f"error: h2spec ended with {done.returncode} and no result; see {log}")
    total, passed, _, _ = map(int, found.groups())
    return passed, total, sorted(failures(done.stdout))


def failures(text):
    """`8.1 case 1: ...` and the like, from the list at the end."""
    section = "?"
    for line in re.sub(r"\x1b\[[0-9;]*m", "", text).partition("Failures:")[2].splitlines():
        if heading := re.match(r"\s+([0-9.]+)\. [A-Z]", line):
            section = heading[1]
        elif crossed := re.match(r"\s+×\s+(\d+): (.*)", line):
            yield f"{section} case {crossed[1]}: {crossed[2]}"


@contextlib.contextmanager
def shim(program, log, *arguments):
    words = [program, *arguments]
    with dev.process(words, log, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip()
        if not address:
            raise SystemExit(f"error: the shim did not start: {log.read_text()}")
        yield int(address.rpartition(":")[2])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ["clawlock", "gateway", "tools", "certificates", "work"]:
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    work, tools = arguments.work, arguments.tools
    failed = 0

    def judge(listener, port):
        nonlocal failed
        started = time.monotonic()
        for run in range(1, RUNS + 1):
            passed, total, crossed = run_suite(tools / "h2spec", port, work / f"h2spec-{listener}-{run}.log")
            good = total == CASES and passed >= WANTED
            if good:
                break
        failed += not good
        took = time.monotonic() - started
        print(f"  {'ok  ' if good else 'FAIL'}  {listener:<12} {passed} of {total} passed, run {run} {took:5.1f} s", flush=True)
        for title in crossed:
            print(f"          not passed: {title}")

    folder, log, proxy = work / "h2spec-policies", work / "dev.log", dev.free_port()
    dev.write_policies(folder, arguments.certificates / "ca.crt", dev.PORTS)
    environment = dev.environment(work, "nothing-is-injected-here")
    words = dev.command(arguments.clawlock, folder, work, "--listen", f"127.0.0.1:{proxy}")
    with open(work / "dev.out", "wb") as out, dev.process(words, log, stdout=out, env=environment) as process:
        dev.wait_for_port(proxy, process, log)
        judge("plain", proxy)
        target = f"api.test:{dev.PORTS['api']}"
        options = ["-to", f"127.0.0.1:{proxy}", "-connect", target, "-name", "api.test", "-ca", work / "state/ca/ca.crt"]
        with shim(tools / "shim", work / "shim-intercepted.log", *options) as port:
            judge("intercepted", port)

    hop = work / "hop"
    hop.mkdir()
    with dev.process([arguments.gateway, hop], work / "gateway.log", stdout=subprocess.PIPE, text=True) as process:
        name, address = process.stdout.readline().split()
        options = ["-to", address, "-name", name, "-ca", hop / "ca.crt", "-cert", hop / "client.crt"]
        with shim(tools / "shim", work / "shim-hop.log", *options, "-key", hop / "client.key") as port:
            judge("mTLS hop", port)

    print(f"h2spec: {3 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
