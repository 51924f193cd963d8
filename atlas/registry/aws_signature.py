"""How a request to S3 is signed: AWS's Signature Version 4, in its authorization header."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

__all__ = ["Credentials", "encode_path", "encode_query", "sign"]

_SCHEME = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks: a pair of keys, and the token of a session if the keys are of one."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def encode_path(path: str) -> str:
    """Encode a path as both the request and its signature hold it."""
    return quote(path, safe="/-_.~")


def encode_query(query: Mapping[str, str]) -> str:
    """Encode a query as both the request and its signature hold it, in the order of its names."""
    pairs = sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    credentials: Credentials,
    region: str,
    now: datetime,
) -> dict[str, str]:
    """Return the headers with the date, the body's hash and the signature of all.

    Parameters
    ----------
    path : str
        Not encoded.
    headers : mapping
        With `Host`; all are signed.

    References
    ----------
    Amazon Simple Storage Service, API Reference, "Authenticating Requests: Using the Authorization
    Header (AWS Signature Version 4)".
    """
    moment = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(body).hexdigest()
    told = {**headers, "x-amz-content-sha256": digest, "x-amz-date": moment}
    if credentials.token is not None:
        told["x-amz-security-token"] = credentials.token
    canonical = {name.lower(): " ".join(value.split()) for name, value in told.items()}
    names = ";".join(sorted(canonical))
    request = "\n".join(
        [
            method,
            encode_path(path),
            encode_query(query),
            *(f"{name}:{canonical[name]}" for name in sorted(canonical)),
            "",
            names,
            digest,
        ]
    )
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    hashed = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{credentials.secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    signature = _hmac(key, "\n".join([_SCHEME, moment, scope, hashed])).hex()
    told["Authorization"] = (
        f"{_SCHEME} Credential={credentials.key_id}/{scope},SignedHeaders={names},"
        f"Signature={signature}"
    )
    return told


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
