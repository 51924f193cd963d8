"""How Atlas opens a Redis client, and what it says when Redis does not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from atlas.errors import StoreUnavailable

__all__ = ["connect", "connect_async", "reaching"]

# A blocking read (XREAD BLOCK) must wait for less than this.
SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0


def connect(host: str = "127.0.0.1", port: int = 6379, *, asks: bool = True) -> Redis:
    """Return a blocking client; it is safe to share between threads.

    Parameters
    ----------
    asks : bool
        Whether the server must have answered. Without it, Redis may come up later.

    Raises
    ------
    StoreUnavailable
        If nothing answers there.
    """
    redis = Redis(
        host=host,
        port=port,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        # One retry at once: it replaces a pooled connection that a restart of Redis has cut, and
        # every write of the bus may be sent twice. A longer wait is the caller's decision.
        retry=Retry(NoBackoff(), 1),
    )
    if asks:
        try:
            with reaching(redis):
                redis.ping()
        except StoreUnavailable:
            redis.close()
            raise
    return redis


def connect_async(host: str = "127.0.0.1", port: int = 6379) -> AsyncRedis:
    """Return an asyncio client; it connects at its first command, so Redis may come up later."""
    return AsyncRedis(
        host=host,
        port=port,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=AsyncRetry(NoBackoff(), 1),
    )


@contextmanager
def reaching(redis: Redis | AsyncRedis | RedisCluster | AsyncRedisCluster) -> Iterator[None]:
    """Turn every error of Redis inside the block into `StoreUnavailable`, which counts as halted.

    That includes a Redis that answers but will not serve: loading, out of memory, read only.
    """
    try:
        yield
    except (RedisError, RedisClusterException) as error:
        found = str(error).strip().rstrip(".") or type(error).__name__
        raise StoreUnavailable(
            f"Expected Redis at {_where(redis)}; found: {found[:300]}. "
            "Start it with `make up`, or set ATLAS_REDIS_PORT."
        ) from error


def _where(redis: Redis | AsyncRedis | RedisCluster | AsyncRedisCluster) -> str:
    if isinstance(redis, RedisCluster | AsyncRedisCluster):
        nodes = redis.nodes_manager.startup_nodes.values()
        return f"the nodes of a cluster {', '.join(f'{n.host}:{n.port}' for n in nodes)}"
    where = redis.connection_pool.connection_kwargs
    return f"{where.get('host')}:{where.get('port')}"
