"""What an edge works with: one installation, and clients of its stores opened when asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.config import Settings, load_settings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from redis import Redis

    from atlas.bus import RedisClock
    from atlas.registry import BlobStore, DeploymentLog, HaltLog, Latch
    from atlas.schemas import ShareLimit

__all__ = ["Installation"]


class Installation:
    """The stores of one installation, as its settings name them.

    Parameters
    ----------
    settings : Settings or None
        None reads the environment.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()

    @cached_property
    def clickhouse(self) -> Client:
        """A client of the database, with its tables made."""
        from atlas.clickhouse import connect, migrate

        settings = self.settings
        client = connect(host=settings.host, port=settings.clickhouse_port)
        migrate(client, settings.clickhouse_database)
        return client

    @property
    def share_limit(self) -> ShareLimit:
        """The share of bad rows above which a run stops."""
        from atlas.schemas import ShareLimit

        return ShareLimit(self.settings.max_bad_share, self.settings.min_judged_rows)

    @cached_property
    def redis(self) -> Redis:
        """A blocking client."""
        from atlas.bus import connect

        return connect(self.settings.host, self.settings.redis_port)

    @cached_property
    def clock(self) -> RedisClock:
        """The project's clock."""
        from atlas.bus import RedisClock

        return RedisClock(self.redis)

    @cached_property
    def feast(self) -> Any:
        """Feast's `FeatureStore` over the feature repository of the working folder."""
        from feast import FeatureStore

        return FeatureStore(repo_path=str(self.feature_repo))

    @property
    def feature_repo(self) -> Path:
        """Folder of the Feast definitions."""
        return Path("feature_repo")

    @cached_property
    def deployments(self) -> DeploymentLog:
        """The deployment log."""
        from atlas.registry import DeploymentLog

        return DeploymentLog(self.settings.deployments_url)

    @cached_property
    def halts(self) -> HaltLog:
        """The log of halts."""
        from atlas.registry import HaltLog

        return HaltLog(self.settings.deployments_url)

    @cached_property
    def latch(self) -> Latch:
        """Halts and releases the desk."""
        from atlas.registry import Latch

        return Latch(self.halts, self.redis)

    @cached_property
    def blobs(self) -> BlobStore:
        """Models' bytes, by hash."""
        from atlas.registry import open_blobs

        return open_blobs(self.settings)
