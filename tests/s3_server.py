"""A real HTTP S3 server of the tests' own, which checks signatures."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT, Popen
from typing import Any

import boto3
from local_processes import end, free_port, wait_for

from atlas.registry.aws_signature import Credentials

__all__ = ["S3Server", "running_s3"]

_REGION = "eu-central-1"


@dataclass(frozen=True)
class S3Server:
    """Where a running server is, and whom it lets in."""

    url: str
    credentials: Credentials
    region: str = _REGION

    def client(self) -> Any:
        """Return Amazon's own client, of somebody who may do everything."""
        return _client("s3", self.url, self.credentials)


@contextmanager
def running_s3(log: Path) -> Iterator[S3Server]:
    """Run a server until the end of the block."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1"]
    with log.open("wb") as out:
        process = Popen([*command, "-p", str(port)], stdout=out, stderr=STDOUT)
    try:
        wait_for(
            lambda: urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close(), process, log
        )
        credentials = _admit(url)
        yield S3Server(url, credentials)
    finally:
        end(process)


def _admit(url: str) -> Credentials:
    """Make a user who may do everything, and let nobody else in from then on."""
    iam = _client("iam", url, Credentials("nobody", "nothing"))
    iam.create_user(UserName="ada")
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [everything]}
    iam.put_user_policy(UserName="ada", PolicyName="all", PolicyDocument=json.dumps(policy))
    made = iam.create_access_key(UserName="ada")["AccessKey"]
    request = urllib.request.Request(f"{url}/moto-api/reset-auth", data=b"0", method="POST")
    request.add_header("Content-Type", "text/plain")
    urllib.request.urlopen(request, timeout=5).close()
    return Credentials(made["AccessKeyId"], made["SecretAccessKey"])


def _client(service: str, url: str, credentials: Credentials) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=_REGION,
        aws_access_key_id=credentials.key_id,
        aws_secret_access_key=credentials.secret,
    )
