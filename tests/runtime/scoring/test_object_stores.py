"""Inputs and outputs in an object store: a real S3 server on loopback."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs
import pytest
from tests.runtime.scoring.conftest import Command

from manylabel.data import filesystem
from manylabel.errors import DataError, InputError, MissingDependency

pytest.importorskip("moto")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Return the URI of an empty bucket; credentials and the server's address are in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    known = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**known, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        system, _ = pyarrow.fs.FileSystem.from_uri("s3://bucket?allow_bucket_creation=true")
        system.create_dir("bucket")
        yield "s3://bucket"
    server.stop()


def put(uri: str, content: bytes) -> str:
    filesystem.write_bytes(uri, content)
    return uri


def keys(uri: str) -> list[str]:
    """Return the keys below a URI, without the markers of folders that pyarrow writes."""
    system, path = pyarrow.fs.FileSystem.from_uri(uri)
    found = system.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
    return sorted(each.path.removeprefix(path + "/") for each in found if each.is_file)


def test_score_bucket_to_bucket_and_resume(bundle: Path, bucket: str, command: Command) -> None:
    for name in ("a", "b"):
        put(f"{bucket}/in/{name}.jsonl", b"".join(b'{"text": "late %d"}\n' % n for n in range(10)))
    put(f"{bucket}/in/_SUCCESS", b"")
    arguments = ("score", bundle, f"{bucket}/in", "-o", f"{bucket}/out", "--to", "jsonl", "--shard-rows", 4)
    done = command(*arguments)
    assert (done["rows"], done["parts"], done["rows_resumed"]) == (20, 6, 0)
    parts = [f"part-{n:06d}" for n in range(6)]
    assert keys(f"{bucket}/out") == [
        "_manylabel/job.json", *(f"_manylabel/{part}.json" for part in parts), *(f"{part}.jsonl" for part in parts)
    ]  # fmt: skip
    before = filesystem.read_bytes(f"{bucket}/out/part-000002.jsonl")
    filesystem.remove(f"{bucket}/out/_manylabel/part-000002.json")
    assert command(*arguments)["rows_resumed"] == 18
    assert filesystem.read_bytes(f"{bucket}/out/part-000002.jsonl") == before
    assert "--shard-rows was 4 and is 5" in command(*arguments[:-1], 5, code=2)["stderr"]
    merged = command("merge", f"{bucket}/out", "-o", f"{bucket}/merged.jsonl")
    assert merged["rows"] == 20
    whole = (filesystem.read_bytes(f"{bucket}/merged.jsonl") or b"").splitlines()
    assert [json.loads(line)["text"] for line in whole] == [f"late {n}" for n in range(10)] * 2


def test_glob_of_compressed_objects_to_one_object(bundle: Path, bucket: str, command: Command) -> None:
    import gzip

    put(f"{bucket}/packed/x1.csv.gz", gzip.compress(b"text\nlate\ngood\n"))
    put(f"{bucket}/packed/y1.csv.gz", b"not of the glob")
    done = command("score", bundle, f"{bucket}/packed/x*.csv.gz", "-o", f"{bucket}/one.csv", "--shard-rows", 1)
    assert (done["rows"], done["parts"]) == (2, 2)
    assert (filesystem.read_bytes(f"{bucket}/one.csv") or b"").count(b"\n") == 3
    assert not [key for key in keys(bucket) if ".parts" in key]


def test_object_is_read_from_an_offset(bucket: str) -> None:
    uri = put(f"{bucket}/offset.csv", b"text\n" + b"row\n" * 1000)
    with filesystem.open_input(uri) as file:
        file.seek(4001)
        assert file.readline() == b"row\n"


def test_missing_object_error(bundle: Path, bucket: str, tmp_path: Path, command: Command) -> None:
    for named in (f"{bucket}/none.csv", f"{bucket}/none", f"{bucket}/none/*.csv"):
        with pytest.raises((DataError, InputError)):
            filesystem.expand(named)
    assert filesystem.status(f"{bucket}/none.csv") is None
    stderr = command("score", bundle, "s3://no-such-bucket/x.csv", "-o", tmp_path / "out", code=2)["stderr"]
    assert "s3://no-such-bucket/x.csv" in stderr
    with pytest.raises(InputError, match=r"nosuchscheme://x cannot be reached"):
        filesystem.status("nosuchscheme://x")


def test_other_filesystems_come_from_fsspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hf://` is one of them; here it is the one in memory."""
    pytest.importorskip("fsspec")
    uri = put("memory://folder/x.csv", b"text\nlate\n")
    assert filesystem.read_bytes(uri) == b"text\nlate\n"
    assert [each.rpartition("/")[2] for each in filesystem.expand("memory://folder")] == ["x.csv"]
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependency, match="pip install fsspec"):
        filesystem.status("memory://folder/x.csv")


def test_uri_scheme_selects_filesystem() -> None:
    """The file systems are only created, not used: there is no network."""
    pytest.importorskip("huggingface_hub")
    system, path = filesystem.resolve("gs://bucket/folder/x.csv")
    assert (type(system).__name__, path) == ("GcsFileSystem", "bucket/folder/x.csv")
    system, path = filesystem.resolve("hf://datasets/owner/name/x.csv")
    assert (type(system.handler.fs).__name__, path) == ("HfFileSystem", "datasets/owner/name/x.csv")
