"""A bucket behind the S3 API as the home of blobs; keys are laid out as files in the folder are.

The client is a few requests over the standard library: the worker, which must start in an instant,
fetches a blob a few times a day.
"""

from __future__ import annotations

import http.client
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit
from xml.etree import ElementTree

from atlas.errors import InvalidSettings, StoreUnavailable
from atlas.registry.aws_signature import Credentials, encode_path, encode_query, sign

__all__ = ["BucketHome"]

_TIMEOUT_S = 10.0
_PAUSE_S = 0.3
_TRIES = 2
_KEY = re.compile(r"[0-9a-f]{2}/([0-9a-f]{64})")
_ADVICE = {
    "NoSuchBucket": "Make the bucket, or mend ATLAS_BLOBS_URL.",
    "InvalidAccessKeyId": "Check AWS_ACCESS_KEY_ID.",
    "SignatureDoesNotMatch": "Check AWS_SECRET_ACCESS_KEY.",
    "RequestTimeTooSkewed": "Set this machine's clock.",
    "AccessDenied": "Let these keys get, put and list the bucket's objects.",
    "AuthorizationHeaderMalformed": "Check AWS_REGION.",
    "PermanentRedirect": "Check AWS_REGION.",
    "TemporaryRedirect": "Check AWS_REGION.",
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def passes(self) -> bool:
        """Whether the server asks to try again: it is too busy, or broken for a moment."""
        return self.status >= 500 or self.status == 429

    @property
    def code(self) -> str:
        """S3's word for an error, such as `NoSuchKey`; empty where it said none."""
        found = re.search(rb"<Code>([^<]{1,100})</Code>", self.body)
        return found[1].decode(errors="replace") if found else ""


class BucketHome:
    """Keeps each blob in an object under its name.

    Parameters
    ----------
    address : str
        `s3://bucket` or `s3://bucket/prefix`.
    credentials : Credentials
        Whose requests they are.
    region : str
        Where the bucket is; a server of one's own takes any.
    endpoint : str or None
        `https://host:port` of a server that is not Amazon's.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: Credentials,
        region: str = "us-east-1",
        endpoint: str | None = None,
    ) -> None:
        place = urlsplit(address)
        if place.scheme != "s3" or not place.netloc or place.query or place.fragment:
            raise InvalidSettings(
                f"Expected ATLAS_BLOBS_URL as s3://bucket/prefix; found {address!r}."
            )
        bucket, prefix = place.netloc, place.path.strip("/")
        # A certificate for *.s3.region.amazonaws.com covers no bucket with a dot in its name.
        own_host = endpoint is None and "." not in bucket
        base = endpoint or f"https://{bucket + '.' if own_host else ''}s3.{region}.amazonaws.com"
        server = urlsplit(base)
        if server.scheme not in ("http", "https") or not server.hostname or server.query:
            raise InvalidSettings(
                f"Expected the address of an S3 server, https://host:port; found {base!r}."
            )
        self._address, self._base = address, base
        self._server = server
        self._root = server.path.rstrip("/") + ("" if own_host else f"/{bucket}")
        self._prefix = f"{prefix}/" if prefix else ""
        self._credentials, self._region = credentials, region

    def read(self, name: str) -> bytes | None:
        """Return what is kept under a name; None if there is nothing.

        Raises
        ------
        StoreUnavailable
            If the server does not answer, has no such bucket, or lets nobody in with these keys.
        """
        answer = self._ask("GET", self._key(name))
        if answer.status == 404 and answer.code != "NoSuchBucket":
            return None
        return self._checked(answer).body

    def write(self, name: str, kept: bytes) -> None:
        """Keep bytes, all of them or none; the server checks their hash. Raises as `read` does."""
        self._checked(self._ask("PUT", self._key(name), body=kept))

    def holds(self, name: str) -> bool:
        """Tell whether anything is kept under a name. Raises as `read` does."""
        answer = self._ask("HEAD", self._key(name))
        return answer.status != 404 and bool(self._checked(answer))

    def names(self) -> Iterator[str]:
        """Yield the names of all blobs, sorted. Raises as `read` does."""
        query = {"list-type": "2", "prefix": self._prefix}
        while True:
            page = ElementTree.fromstring(self._checked(self._ask("GET", "/", query)).body)
            found = {each.tag.rpartition("}")[2]: each.text or "" for each in page}
            for each in page.iter():
                if each.tag.rpartition("}")[2] == "Key":
                    key = _KEY.fullmatch((each.text or "").removeprefix(self._prefix))
                    if key:
                        yield key[1]
            if found.get("IsTruncated") != "true":
                return
            query["continuation-token"] = found["NextContinuationToken"]

    def __str__(self) -> str:
        return f"{self._address} at {self._base}"

    def _key(self, name: str) -> str:
        return f"/{self._prefix}{name[:2]}/{name}"

    def _checked(self, answer: _Answer) -> _Answer:
        if answer.status == 200:
            return answer
        said = answer.code or f"HTTP {answer.status} {http.client.responses.get(answer.status, '')}"
        advice = _ADVICE.get(answer.code, "Check ATLAS_BLOBS_URL and the AWS_ variables.")
        place = answer.headers.get("x-amz-bucket-region")
        if place and place != self._region:
            advice = f"The bucket is in the region {place}: set AWS_REGION."
        raise StoreUnavailable(f"Expected blobs in {self}; the server said {said}. {advice}")

    def _ask(
        self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b""
    ) -> _Answer:
        """Ask once, and once more if the server was away or said that it is busy."""
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._ask_once(method, self._root + path, query or {}, body)
                if attempt == _TRIES or not answer.passes:
                    return answer
            except (OSError, http.client.HTTPException) as error:
                if attempt == _TRIES:
                    reason = str(error) or type(error).__name__
                    raise StoreUnavailable(
                        f"Expected blobs in {self}; found no answer: {reason}. Check that the "
                        "server runs and that this machine reaches it."
                    ) from error
            time.sleep(_PAUSE_S)
        raise AssertionError("the last attempt returns or raises")

    def _ask_once(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> _Answer:
        connection = self._connect()
        headers = sign(
            method,
            path,
            query,
            {"Host": self._server.netloc.rpartition("@")[2]},
            body,
            credentials=self._credentials,
            region=self._region,
            now=datetime.now(UTC),
        )
        target = encode_path(path) + (f"?{encode_query(query)}" if query else "")
        try:
            connection.request(method, target, body=body or None, headers=headers)
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return _Answer(answer.status, told, answer.read())
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._server.hostname or "", self._server.port
        if self._server.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=_TIMEOUT_S, context=context)
