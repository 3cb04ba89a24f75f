"""A local HTTP server that plays the Hub: repositories with revisions, private ones, and transfers that break."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

Repo = dict[str, dict[str, bytes]]  # revision -> path -> content
TOKEN = "hf_secret"


@dataclass
class Hub:
    """`repos` may be changed while it runs; `log` is every request; `break_after` cuts the next download of a path."""

    repos: dict[str, Repo] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    break_after: dict[str, int] = field(default_factory=dict)
    log: list[tuple[str, str, str]] = field(default_factory=list)
    url: str = ""

    def fetched(self) -> list[str]:
        """The paths of files whose content was sent, in order."""
        return [
            path.split("/resolve/")[1].split("/", 1)[1]
            for method, path, _ in self.log
            if method == "GET" and "/resolve/" in path
        ]


def commit(repo: str, revision: str) -> str:
    return hashlib.sha1(f"{repo} {revision}".encode()).hexdigest()


@contextmanager
def running() -> Generator[Hub, None, None]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(send_body=False)

        def do_GET(self) -> None:
            self.answer(send_body=True)

        def answer(self, send_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.log.append((self.command, path, self.headers.get("Range", "")))
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+).*)?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            match = api or file
            if match is None:
                return self.refuse(404, "")
            repo, revision = match[1], (match[3] if api else match[2]) or "main"
            if repo not in hub.repos or (
                repo in hub.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
            ):
                return self.refuse(401 if repo in hub.private else 404, "RepoNotFound")
            named = {commit(repo, name): name for name in hub.repos[repo]}
            revision = named.get(revision, revision)
            if revision not in hub.repos[repo]:
                return self.refuse(404, "RevisionNotFound")
            files = hub.repos[repo][revision]
            if api:
                return self.send_json(self.tree(files) if match[2] == "tree" else self.info(repo, revision, files))
            if match[3] not in files:
                return self.refuse(404, "EntryNotFound", repo, revision)
            return self.send_file(repo, revision, match[3], files[match[3]], send_body)

        def info(self, repo: str, revision: str, files: dict[str, bytes]) -> object:
            siblings = [{"rfilename": name} for name in files]
            return {
                "_id": "1",
                "id": repo,
                "modelId": repo,
                "sha": commit(repo, revision),
                "siblings": siblings,
                "tags": [],
            }

        def tree(self, files: dict[str, bytes]) -> object:
            return [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]

        def send_json(self, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def send_file(self, repo: str, revision: str, name: str, content: bytes, send_body: bool) -> None:
            start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", commit(repo, revision))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if not send_body:
                return
            cut = hub.break_after.pop(name, None)
            self.wfile.write(content[start:] if cut is None else content[start:cut])
            if cut is not None:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)

        def refuse(self, status: int, code: str, repo: str = "", revision: str = "") -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            if repo:
                self.send_header("X-Repo-Commit", commit(repo, revision))
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
