"""Blobs behind the S3 API: the same promises as in a folder, over real HTTP."""

import base64
import hashlib
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from local_processes import free_port
from s3_server import S3Server

from atlas.config import Settings, load_settings
from atlas.errors import ArtifactCorrupt, InvalidSettings, StoreUnavailable
from atlas.registry import BlobStore, Resealed, open_blobs
from atlas.registry.aws_signature import Credentials
from atlas.registry.blob_bucket import BucketHome
from atlas.registry.blob_cache import BlobCache
from atlas.registry.sealing import Keyring

DATA = b"the bytes of a model"
NAME = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def bucket(s3_server: S3Server) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    where = {"LocationConstraint": s3_server.region}
    s3_server.client().create_bucket(Bucket=name, CreateBucketConfiguration=where)
    return name


@pytest.fixture
def home(s3_server: S3Server, bucket: str) -> BucketHome:
    return at(s3_server, f"s3://{bucket}/models of ada/")


def at(server: S3Server, address: str, **changes: Any) -> BucketHome:
    options = {"credentials": server.credentials, "region": server.region, "endpoint": server.url}
    return BucketHome(address, **{**options, **changes})


@pytest.fixture
def settings_of(
    s3_server: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Settings]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.credentials.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.credentials.secret)
    monkeypatch.setenv("AWS_REGION", s3_server.region)
    monkeypatch.setenv("ATLAS_S3_ENDPOINT_URL", s3_server.url)
    monkeypatch.setenv("ATLAS_BLOBS_URL", f"s3://{bucket}/models")
    return lambda **changes: load_settings(home=tmp_path, **changes)


def test_what_comes_out_is_what_went_in(home: BucketHome) -> None:
    store = BlobStore(home)
    contents = [b"", DATA, os.urandom(3_000_000)]
    names = [store.put(data) for data in contents]
    assert [store.get(name) for name in names] == contents
    assert [name in store for name in [*names, "0" * 64]] == [True] * 3 + [False]
    assert list(home.names()) == sorted(names)


def test_objects_lie_as_files_in_the_folder_do(
    s3_server: S3Server, bucket: str, tmp_path: Path
) -> None:
    BlobStore(at(s3_server, f"s3://{bucket}")).put(DATA)
    folder = BlobStore(tmp_path)
    folder.put(DATA)
    listed = s3_server.client().list_objects_v2(Bucket=bucket)["Contents"]
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert [each["Key"] for each in listed] == [str(path) for path in files]


def test_names_are_listed_over_many_pages(
    s3_server: S3Server, bucket: str, home: BucketHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = sorted(BlobStore(home).put(bytes([i])) for i in range(5))
    s3_server.client().put_object(Bucket=bucket, Key="models of ada/README", Body=b"not a blob")
    real = home._ask

    def in_pages_of_two(method: str, path: str, query: Any = None, body: bytes = b"") -> Any:
        return real(method, path, query and {**query, "max-keys": "2"}, body)

    monkeypatch.setattr(home, "_ask", in_pages_of_two)
    assert list(home.names()) == names


def test_a_missing_and_a_damaged_blob_are_told(
    s3_server: S3Server, bucket: str, home: BucketHome
) -> None:
    store = BlobStore(home)
    with pytest.raises(ArtifactCorrupt, match=f"Expected blob {NAME} in s3://.*; found none"):
        store.get(NAME)
    store.put(DATA)
    key = f"models of ada/{NAME[:2]}/{NAME}"
    s3_server.client().put_object(Bucket=bucket, Key=key, Body=DATA[:-1])
    with pytest.raises(ArtifactCorrupt, match="Expected bytes with SHA-256"):
        store.get(NAME)
    store.put(DATA)
    assert store.get(NAME) == DATA


def test_blobs_are_sealed_there_and_sealed_anew(
    s3_server: S3Server, bucket: str, home: BucketHome
) -> None:
    plain, key = BlobStore(home), Keyring(os.urandom(32))
    plain.put(DATA)
    assert BlobStore(home, keys=key).reseal() == Resealed(1, 0, ())
    kept = s3_server.client().get_object(Bucket=bucket, Key=f"models of ada/{NAME[:2]}/{NAME}")
    assert DATA not in kept["Body"].read()
    assert BlobStore(home, keys=key).get(NAME) == DATA


@pytest.mark.parametrize("ask", ["get", "put", "contains", "names"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "NoSuchBucket. Make the bucket"),
        ({"credentials": Credentials("unknown", "secret")}, "InvalidAccessKeyId|AccessDenied"),
        ({"credentials": Credentials("{known}", "secret")}, "SignatureDoesNotMatch. Check AWS_SEC"),
        ({"endpoint": "http://127.0.0.1:1"}, "found no answer: .*refused"),
    ],
    ids=["no bucket", "unknown key", "wrong secret", "no server"],
)
def test_what_is_wrong_is_said_in_one_sentence(
    s3_server: S3Server, bucket: str, changes: dict[str, Any], said: str, ask: str
) -> None:
    if "credentials" in changes and changes["credentials"].key_id == "{known}":
        changes = {"credentials": Credentials(s3_server.credentials.key_id, "secret")}
    where = bucket if changes else "no-such-bucket-here"
    store = BlobStore(at(s3_server, f"s3://{where}", **changes))
    asks: dict[str, Callable[[], Any]] = {
        "get": lambda: store.get(NAME),
        "put": lambda: store.put(DATA),
        "contains": lambda: NAME in store,
        "names": lambda: list(store.home.names()),
    }
    if ask == "contains":
        # The answer to a HEAD has no body, so it cannot say why.
        if not changes:
            assert asks[ask]() is False
            return
        said = said if "endpoint" in changes else "HTTP 403 Forbidden"
    with pytest.raises(StoreUnavailable, match=said) as caught:
        asks[ask]()
    assert "secret" not in str(caught.value)


def test_a_worker_that_starts_without_s3_has_what_it_had(
    settings_of: Callable[..., Settings],
) -> None:
    open_blobs(settings_of()).put(DATA)
    assert open_blobs(settings_of()).get(NAME) == DATA
    away = settings_of(s3_endpoint_url="http://127.0.0.1:1")
    assert open_blobs(away).get(NAME) == DATA
    with pytest.raises(StoreUnavailable, match="found no answer"):
        open_blobs(away).get("0" * 64)


def test_copies_are_sealed_as_the_blobs_are_and_survive_a_new_key(
    settings_of: Callable[..., Settings], tmp_path: Path
) -> None:
    keys = [base64.b64encode(os.urandom(32)).decode() for _ in range(2)]
    open_blobs(settings_of(artifact_key=keys[0])).put(DATA)
    assert open_blobs(settings_of(artifact_key=keys[0])).get(NAME) == DATA
    copy = tmp_path / "blob-cache" / NAME[:2] / NAME
    assert DATA not in copy.read_bytes()
    changed = {"artifact_key": keys[1], "former_artifact_keys": keys[0]}
    away = settings_of(**changed, s3_endpoint_url="http://127.0.0.1:1")
    assert open_blobs(away).get(NAME) == DATA
    assert open_blobs(settings_of(**changed)).get(NAME) == DATA
    assert open_blobs(settings_of(artifact_key=keys[1])).get(NAME) == DATA


def test_a_damaged_copy_is_fetched_again(
    settings_of: Callable[..., Settings], tmp_path: Path
) -> None:
    store = open_blobs(settings_of())
    store.get(store.put(DATA))
    copy = tmp_path / "blob-cache" / NAME[:2] / NAME
    copy.write_bytes(b"damaged")
    assert store.get(NAME) == DATA
    assert copy.read_bytes() == DATA


def test_the_copies_used_last_are_kept(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache", most=2)
    names = [f"{i:064x}" for i in range(3)]
    for moment, name in enumerate(names[:2]):
        cache.write(name, b"x")
        os.utime(tmp_path / "cache" / "00" / name, (moment, moment))
    assert cache.read(names[0]) == b"x"
    cache.write(names[2], b"x")
    assert [cache.read(name) for name in names] == [b"x", None, b"x"]


def test_a_cache_that_cannot_be_written_costs_only_the_next_fetch(
    home: BucketHome, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    store = BlobStore(home, cache=BlobCache(tmp_path / "file" / "cache"))
    assert store.get(store.put(DATA)) == DATA


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [
        ("http://bucket", None),
        ("s3://", None),
        ("bucket/prefix", None),
        ("s3://bucket", "localhost:9000"),
        ("s3://bucket", "ftp://host"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(address: str, endpoint: str | None) -> None:
    with pytest.raises(InvalidSettings, match="Expected"):
        BucketHome(address, credentials=Credentials("key", "secret"), endpoint=endpoint)


def test_keys_that_are_missing_are_told(
    settings_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InvalidSettings, match="found only one"):
        open_blobs(settings_of())


def test_of_amazons_own_the_bucket_is_a_host_unless_its_name_has_a_dot() -> None:
    asked = [
        str(BucketHome(address, credentials=Credentials("k", "s"), region="eu-west-1"))
        for address in ("s3://models/a", "s3://models.desk/a")
    ]
    assert asked == [
        "s3://models/a at https://models.s3.eu-west-1.amazonaws.com",
        "s3://models.desk/a at https://s3.eu-west-1.amazonaws.com",
    ]


class Flaky(BaseHTTPRequestHandler):
    """Plays one behaviour after the other, and then answers."""

    plays: list[str]

    def do_GET(self) -> None:
        play = self.plays.pop(0) if self.plays else "answer"
        if play == "busy":
            self.send_error(503)
        elif play == "broken off":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(DATA)
        elif play == "silent":
            self.connection.settimeout(3)
            self.rfile.read(1)
        elif play == "elsewhere":
            self.send_response(301)
            self.send_header("x-amz-bucket-region", "ap-south-1")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(DATA)))
            self.end_headers()
            self.wfile.write(DATA)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., BlobStore]]:
    monkeypatch.setattr("atlas.registry.blob_bucket._TIMEOUT_S", 0.3)
    port = free_port()
    handler = type("Played", (Flaky,), {"plays": []})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def play(*plays: str) -> BlobStore:
        handler.plays = list(plays)
        url = f"http://127.0.0.1:{port}"
        return BlobStore(BucketHome("s3://b", credentials=Credentials("k", "s"), endpoint=url))

    yield play
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("play", ["busy", "broken off", "silent"])
def test_one_failure_is_retried_and_two_are_told(
    flaky: Callable[..., BlobStore], play: str
) -> None:
    assert flaky(play).get(NAME) == DATA
    with pytest.raises(StoreUnavailable, match=r"Expected blobs in s3://b at http"):
        flaky(play, play).get(NAME)


def test_a_bucket_of_another_region_is_told(flaky: Callable[..., BlobStore]) -> None:
    with pytest.raises(StoreUnavailable, match="in the region ap-south-1: set AWS_REGION"):
        flaky("elsewhere").get(NAME)


def test_the_client_costs_a_worker_no_library(settings_of: Callable[..., Settings]) -> None:
    code = (
        "import sys\n"
        "from atlas.config import load_settings; from atlas.registry import open_blobs\n"
        "store = open_blobs(load_settings()); assert store.get(store.put(b'x')) == b'x'\n"
        "heavy = {'botocore', 'boto3', 'urllib3', 'requests', 'httpx', 'sqlalchemy', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    settings = settings_of()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ATLAS_HOME": str(settings.home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
