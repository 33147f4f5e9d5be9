"""Runs `clawlock dev` over a copy of policy.yaml, with none of the machine's settings for proxies and certificates."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
# The placeholders in policy.yaml.
PORTS = {"api": 10001, "code": 10002, "packages": 10003}
# The variable with the credential of the upstreams.
CANARY = "CONFORMANCE_CANARY"
HOSTS = ["api.test", "code.test", "packages.test"]
START_TIMEOUT = 30
END_TIMEOUT = 30


def write_policies(folder, ca, ports):
    """Copies the policy, with the ports of the upstreams and their certificate authority."""
    folder.mkdir()
    text = (HERE / "policy.yaml").read_text()
    for name, port in ports.items():
        text = text.replace(f"port: {PORTS[name]}", f"port: {port}")
    (folder / "policy.yaml").write_text(text)
    pem = ca.read_text().strip().replace("\n", "\n    ")
    metadata = "{name: upstreams-ca, namespace: conformance-platform}"
    (folder / "ca.yaml").write_text(
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {metadata}\ndata:\n  ca.crt: |\n    {pem}\n"
    )


def command(clawlock, folder, run, *more):
    """The command line, with everything that it keeps below `run`."""
    words = [clawlock, "dev", "--folder", folder, "--state-dir", run / "state", "--log", run / "decisions.jsonl"]
    words += ["--output", "json", "--secret", f"canary/token=env:{CANARY}"]
    for host in HOSTS:
        words += ["--resolve", f"{host}:127.0.0.1"]
    return [str(word) for word in [*words, *more]]


def environment(home, canary):
    """What clawlock gets, and passes on to the client but for the credential."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8", CANARY: canary}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(words, timeout, environment):
    """Runs a command to its end; when it takes too long, it is killed with all that it started."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    options = {"text": True, "errors": "replace", "start_new_session": True, "env": environment}
    with subprocess.Popen(words, **pipes, **options) as started:
        try:
            stdout, stderr = started.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(words, started.returncode, stdout, stderr)


@contextlib.contextmanager
def process(words, log, **options):
    """A process that ends with the block, and is waited for."""
    with open(log, "wb") as errors:
        started = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stderr=errors, **options)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def wait_for_port(port, process, log):
    """Until something listens; a process that ended instead is told with what it said."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"error: it ended with {process.returncode} instead of listening:\n{log.read_text()}")
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise SystemExit(f"error: nothing listens on port {port} after {START_TIMEOUT} s:\n{log.read_text()}")
