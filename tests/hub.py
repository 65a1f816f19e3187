"""The Hugging Face Hub as a server on this machine: repositories are directories, which can be read and written."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = hashlib.sha1(b"one commit", usedforsecurity=False).hexdigest()
TOKEN = "hf_right"


@contextmanager
def hub(repositories: dict[str, Path], *, root: Path | None = None) -> Iterator[tuple[str, list[str]]]:
    """Serve ``repositories``; yield the address and the paths that were asked for. ``root`` is for those created."""
    asked: list[str] = []
    private: dict[str, bool] = {}
    stored: dict[str, bytes] = {}  # large files, by their digests

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            path = unquote(urlsplit(self.path).path)
            for name, directory in repositories.items():
                if path.startswith(f"/api/models/{name}/tree/"):
                    files = [
                        {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": COMMIT}
                        for file in directory.iterdir()
                        if file.is_file()
                    ]
                    return self.answer(files)
                if path.startswith(f"/api/models/{name}"):
                    files = [{"rfilename": file.name} for file in directory.iterdir() if file.is_file()]
                    about = {"id": name, "sha": COMMIT, "siblings": files, "private": private.get(name, False)}
                    return self.answer(about)
                if path.startswith(f"/{name}/resolve/"):
                    return self.answer((directory / path.rpartition("/")[2]).read_bytes())
            return self.answer({"error": "Repository not found"}, 404)

        do_HEAD = do_GET  # noqa: N815 - the base class's name

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            body = self.read()
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return self.answer({"error": "Invalid credentials"}, 401)
            if path == "/api/repos/create":
                return self.create(json.loads(body))
            name = "/".join(path.removeprefix("/api/models/").strip("/").removesuffix(".git").split("/")[:2])
            name = name.removesuffix(".git")
            if path.endswith("/preupload/main"):
                return self.answer({"files": [upload_mode(file) for file in json.loads(body)["files"]]})
            if path.endswith("/objects/batch"):
                return self.answer(
                    {"transfer": "basic", "objects": [self.place(o) for o in json.loads(body)["objects"]]}
                )
            for line in body.splitlines():
                commit(json.loads(line), repositories[name])
            return self.answer({"commitUrl": f"{self.address}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

        def do_PUT(self) -> None:
            stored[self.path.rpartition("/")[2]] = self.read()
            self.answer({})

        def create(self, asked_for: dict[str, Any]) -> None:
            name = f"{asked_for['organization']}/{asked_for['name']}"
            there = name in repositories
            if not there:
                assert root is not None
                repositories[name] = root / name
                repositories[name].mkdir(parents=True)
                private[name] = (
                    asked_for.get("visibility") == "private" or asked_for.get("private") is True
                )  # by version
            self.answer({"url": f"{self.address}/{name}"}, 409 if there else 200)

        def place(self, large: dict[str, Any]) -> dict[str, Any]:
            return {**large, "actions": {"upload": {"href": f"{self.address}/large/{large['oid']}"}}}

        @property
        def address(self) -> str:
            return f"http://{self.headers['Host']}"

        def read(self) -> bytes:
            if self.headers["Transfer-Encoding"] != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"]))
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def answer(self, answer: Any, status: int = 200) -> None:
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    def commit(line: dict[str, Any], directory: Path) -> None:
        value = line["value"]
        if line["key"] == "file":
            (directory / value["path"]).write_bytes(base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            (directory / value["path"]).write_bytes(stored[value["oid"]])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def upload_mode(file: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["path"].endswith(".safetensors") else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False}
