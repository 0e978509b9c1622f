"""A fake Hugging Face Hub on loopback: the routes that `huggingface_hub` uses to download and upload.

Repositories are folders, `USER/MODEL/COMMIT/FILE`; `USER/MODEL/repository.json` stores branches and access. Graphs are
large files as on the Hub: uploaded separately and served by another host, which must not receive the token.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_owner"
LARGE = ".onnx"


class HubRefusal(Exception):
    """An error response: its status, error code and message."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status, code, message)
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}


class Hub:
    """The repositories in a folder, and a log of the requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []  # method and path
        self.url = self.elsewhere = ""

    @property
    def downloaded(self) -> list[str]:
        """The names of the downloaded files."""
        return [line.split("/")[-1] for line in self.requests if line.startswith("GET") and "/resolve/" in line]

    def commit(self, repository: str, files: Mapping[str, bytes], branch: str = "main", **state: bool) -> str:
        """Replace the files of a branch; `private=True` and `gated=True` restrict access to the repository."""
        digest = hashlib.sha1(repr((branch, sorted(files.items()))).encode()).hexdigest()
        folder = self.folder / repository / digest
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        known = self.state(repository)
        known["branches"][branch] = digest
        (self.folder / repository / "repository.json").write_text(json.dumps({**known, **state}))
        return digest

    def push(self, repository: str, bundle: Path, branch: str = "main", **more: bytes) -> str:
        """Commit a bundle's folder, with the `.gitattributes` of every repository."""
        files = {path.name: path.read_bytes() for path in bundle.iterdir()}
        return self.commit(repository, {".gitattributes": b"*.onnx filter=lfs\n", **files, **more}, branch)

    def state(self, repository: str) -> dict[str, Any]:
        path = self.folder / repository / "repository.json"
        return dict(json.loads(path.read_text())) if path.exists() else {"branches": {}}

    def files(self, repository: str, revision: str) -> tuple[str, Path]:
        """Return the commit and the folder of a revision."""
        commit = self.state(repository)["branches"].get(revision, revision)
        folder = self.folder / repository / commit
        if not folder.is_dir():
            raise HubRefusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, folder

    def large(self, oid: str) -> Path:
        path = self.folder / "large" / oid
        path.parent.mkdir(exist_ok=True)
        return path


class _HubHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Suppress the request log."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        try:
            content, headers, status = self._route(path.strip("/").split("/"), body)
        except HubRefusal as exc:
            content, headers, status = b"{}", exc.headers, exc.status
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _route(self, parts: list[str], body: bytes) -> tuple[bytes, dict[str, str], int]:
        match parts:
            case ["api", "validate-yaml"]:
                return _json({"errors": [], "warnings": []})
            case ["api", "repos", "create"]:
                return self._create(json.loads(body))
            case ["api", "models", user, model, *rest]:
                repository = self._open(f"{user}/{model}")
                return self._api(repository, rest, body)
            case ["large", oid] if self.command == "PUT":
                self.hub.large(oid).write_bytes(body)
                return b"", {}, 200
            case ["large", oid]:
                if "Authorization" in self.headers:
                    raise HubRefusal(400, "", "The token was sent to a host other than the Hub.")
                return self.hub.large(oid).read_bytes(), {}, 200
            case [user, model, "info", "lfs", "objects", "batch"]:
                self._open(f"{user}/{model.removesuffix('.git')}")
                return self._batch(json.loads(body))
            case [user, model, "resolve", *rest]:
                return self._resolve(self._open(f"{user}/{model}"), "/".join(rest[:-1]), rest[-1])
        raise HubRefusal(404)

    def _open(self, repository: str) -> str:
        """Check that a repository exists and that the client may read it."""
        state, owner = self.hub.state(repository), self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if state.get("gated") and not owner:
            raise HubRefusal(403, "GatedRepo", "Access to this model is restricted.")
        if not state["branches"] or (state.get("private") and not owner):
            raise HubRefusal(
                401, "RepoNotFound", "Repository not found"
            )  # the same response for both, so that it does not reveal which
        return repository

    def _create(self, request: dict[str, Any]) -> tuple[bytes, dict[str, str], int]:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise HubRefusal(401, "", "Invalid username or password.")
        repository = f"{request['organization']}/{request['name']}"
        if self.hub.state(repository)["branches"]:
            return _json({"url": f"{self.hub.url}/{repository}", "error": "You already created this model repo"}, 409)
        private = request.get("private") or request.get("visibility") == "private"
        self.hub.commit(repository, {".gitattributes": b"*.onnx filter=lfs\n"}, private=bool(private))
        return _json({"url": f"{self.hub.url}/{repository}"})

    def _api(self, repository: str, rest: list[str], body: bytes) -> tuple[bytes, dict[str, str], int]:
        match rest:
            case ["revision", *revision]:
                commit, folder = self.hub.files(repository, "/".join(revision))
                names = sorted(path.name for path in folder.iterdir())
                return _json({"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in names]})
            case ["tree", *revision]:
                _, folder = self.hub.files(repository, "/".join(revision))
                return _json([_entry(path) for path in sorted(folder.iterdir())])
            case ["branch", branch]:
                state = self.hub.state(repository)
                if branch in state["branches"]:
                    return _json({"error": "Reference already exists"}, 409)
                state["branches"][branch] = state["branches"]["main"]
                (self.hub.folder / repository / "repository.json").write_text(json.dumps(state))
                return _json({})
            case ["preupload", *_]:
                modes = [
                    {"path": file["path"], "uploadMode": _mode(file["path"]), "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                return _json({"files": modes})
            case ["commit", branch]:
                return self._commit(repository, branch, [json.loads(line) for line in body.splitlines()])
        raise HubRefusal(404)

    def _batch(self, request: dict[str, Any]) -> tuple[bytes, dict[str, str], int]:
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.hub.url}/large/{each['oid']}"}}}
            for each in request["objects"]
        ]
        return _json({"transfer": "basic", "objects": objects})

    def _commit(self, repository: str, branch: str, lines: list[Any]) -> tuple[bytes, dict[str, str], int]:
        parent, folder = self.hub.files(repository, branch)
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header" if value.get("parentCommit", parent) != parent:
                    raise HubRefusal(412, "", "A commit has happened since. Please refresh and try again.")
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.large(value["oid"]).read_bytes()
                case "deletedFile":
                    del files[value["path"]]
        commit = self.hub.commit(repository, files, branch)
        return _json({"commitUrl": f"{self.hub.url}/{repository}/commit/{commit}", "commitOid": commit})

    def _resolve(self, repository: str, revision: str, name: str) -> tuple[bytes, dict[str, str], int]:
        commit, folder = self.hub.files(repository, revision)
        known = {"X-Repo-Commit": commit}
        if not (folder / name).is_file():
            raise HubRefusal(404, "EntryNotFound", f"{name} does not exist")
        content = (folder / name).read_bytes()
        if _mode(name) == "regular":
            return content, {**known, "ETag": f'"{_git_oid(content)}"'}, 200
        oid = hashlib.sha256(content).hexdigest()
        self.hub.large(oid).write_bytes(content)
        linked = {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        return b"", {**known, **linked, "Location": f"{self.hub.elsewhere}/large/{oid}"}, 302


def _mode(name: str) -> str:
    return "lfs" if name.endswith(LARGE) else "regular"


def _entry(path: Path) -> dict[str, Any]:
    """Describe a file as the Hub lists it."""
    content = path.read_bytes()
    entry = {"type": "file", "path": path.name, "size": len(content), "oid": _git_oid(content)}
    large = {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}}
    return entry | (large if _mode(path.name) == "lfs" else {})


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _json(content: object, status: int = 200) -> tuple[bytes, dict[str, str], int]:
    return json.dumps(content).encode(), {"Content-Type": "application/json"}, status


@contextmanager
def serving_hub(folder: Path) -> Iterator[Hub]:
    """Run a hub that serves the repositories of a folder."""
    hub = Hub(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("HubHandler", (_HubHandler,), {"hub": hub}))
    hub.url, hub.elsewhere = (f"http://{host}:{server.server_address[1]}" for host in ("127.0.0.1", "localhost"))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
