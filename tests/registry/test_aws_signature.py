"""Requests to S3 are signed as Amazon publishes it, and as its own library does it."""

from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Theirs
from hypothesis import given
from hypothesis import strategies as st

from atlas.registry.aws_signature import Credentials, encode_path, encode_query, sign

HOST = "examplebucket.s3.amazonaws.com"
PUBLISHED = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
MOMENT = datetime(2013, 5, 24, tzinfo=UTC)

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "body", "signature"),
    [
        (
            *("GET", "/test.txt", {}, {"Range": "bytes=0-9"}, b""),
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            *("PUT", "/test$file.text", {}),
            {"Date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            *("GET", "/", {"lifecycle": ""}, {}, b""),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            *("GET", "/", {"prefix": "J", "max-keys": "2"}, {}, b""),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get", "put", "lifecycle", "list"],
)
def test_the_published_examples_come_out(
    method: str,
    path: str,
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes,
    signature: str,
) -> None:
    told = sign(
        method,
        path,
        query,
        {"Host": HOST, **headers},
        body,
        credentials=PUBLISHED,
        region="us-east-1",
        now=MOMENT,
    )
    assert told["Authorization"].endswith(f",Signature={signature}")


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD"]),
    path=st.lists(TEXT, max_size=3),
    query=st.dictionaries(TEXT, TEXT, max_size=3),
    body=st.binary(max_size=20),
    token=st.none() | st.just("a/session+token="),
)
def test_every_request_is_signed_as_amazons_library_does_it(
    method: str, path: list[str], query: dict[str, str], body: bytes, token: str | None
) -> None:
    where = "/" + "/".join(path)
    url = f"https://{HOST}{encode_path(where)}?{encode_query(query)}"
    theirs = AWSRequest(method=method, url=url, data=body, headers={"Host": HOST})
    theirs.context["payload_signing_enabled"] = True
    auth = S3SigV4Auth(Theirs("key", "secret", token), "s3", "eu-west-1")
    auth.add_auth(theirs)
    stamped = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    ours = sign(
        method,
        where,
        query,
        {"Host": HOST},
        body,
        credentials=Credentials("key", "secret", token),
        region="eu-west-1",
        now=stamped.replace(tzinfo=UTC),
    )
    assert ours["Authorization"].replace(",", ", ") == theirs.headers["Authorization"]


def test_credentials_do_not_show_their_secret() -> None:
    assert repr(Credentials("key", "secret", "token")) == "Credentials(key_id='key')"
