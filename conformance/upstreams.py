"""The upstreams of the client matrix: TLS servers on loopback that keep what reached them.

`api.test` answers JSON, `code.test` is git over smart HTTP, `packages.test` a simple index of Python packages. They
demand no credential: what they were sent is judged by the caller, from `seen`.
"""

import contextlib
import http.server
import io
import json
import os
import ssl
import subprocess
import threading
import urllib.parse
import zipfile

GREETING = "hello from the upstream"
PACKAGE = "greeting-1.0-py3-none-any.whl"


class Upstream(http.server.ThreadingHTTPServer):
    """One TLS server, on a free port, with a list of the requests that it saw."""

    daemon_threads = True

    def __init__(self, handler, certificates, name):
        super().__init__(("127.0.0.1", 0), handler)
        self.name = name
        self.seen = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")

    @property
    def port(self):
        return self.server_address[1]

    @property
    def url(self):
        return f"https://{self.name}:{self.port}"

    # In the connection's own thread: a handshake that stalls must not stop the others.
    def finish_request(self, request, client_address):
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            with self.context.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self


class Handler(http.server.BaseHTTPRequestHandler):
    """What the upstreams share: reading, keeping, answering."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def keep(self):
        self.server.seen.append(
            {"method": self.command, "path": self.path, "authorization": self.headers.get_all("Authorization", [])}
        )

    def answer(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Api(Handler):
    def do_GET(self):
        self.keep()
        self.answer(200, "application/json", json.dumps({"greeting": GREETING}).encode())

    def do_POST(self):
        self.body()
        self.do_GET()


class Packages(Handler):
    """A simple index with two packages that differ in their names only."""

    def do_GET(self):
        self.keep()
        parts = self.path.strip("/").split("/")
        match parts:
            case ["simple", ("greeting" | "forbidden") as package]:
                name = PACKAGE.replace("greeting", package)
                self.answer(200, "text/html", f'<html><body><a href="/files/{name}">{name}</a></body></html>'.encode())
            case ["files", file] if file.endswith(".whl"):
                self.answer(200, "application/octet-stream", wheel(file.split("-")[0]))
            case _:
                self.answer(404, "text/plain", b"no such page\n")


def wheel(package):
    """The smallest wheel that pip installs."""
    info = f"{package}-1.0.dist-info"
    files = {
        f"{package}.py": f"TEXT = {GREETING!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: none\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


class Code(Handler):
    """git's own CGI program over one bare repository, which accepts pushes."""

    def do_GET(self):
        self.keep()
        self.cgi(b"")

    def do_POST(self):
        self.keep()
        self.cgi(self.body())

    def cgi(self, body):
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.server.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": urllib.parse.unquote(path),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "agent",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=environment, check=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.answer(int(fields.get("Status", "200").split()[0]), fields["Content-Type"], content)


def repository(folder):
    """A bare repository with one commit, to which an unnamed user may push."""

    def git(*arguments, stdin=None):
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            input=stdin,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
        )
        return done.stdout.strip()

    folder.mkdir(parents=True)
    git("init", "--quiet", "--bare", "--initial-branch=main")
    git("config", "http.receivepack", "true")
    blob = git("hash-object", "-w", "--stdin", stdin=GREETING + "\n")
    tree = git("mktree", stdin=f"100644 blob {blob}\tREADME\n")
    person = ["-c", "user.name=conformance", "-c", "user.email=conformance@example"]
    git("update-ref", "refs/heads/main", git(*person, "commit-tree", tree, "-m", "first"))


def start(certificates, work):
    """Starts the three; ends with the process."""
    repository(work / "repositories" / "greeting.git")
    code = Upstream(Code, certificates, "code.test")
    code.repositories = work / "repositories"
    return {
        "api": Upstream(Api, certificates, "api.test").start(),
        "code": code.start(),
        "packages": Upstream(Packages, certificates, "packages.test").start(),
    }
