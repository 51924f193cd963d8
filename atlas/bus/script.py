"""How a Lua script is run inside Redis: by its hash, and sent whole only when Redis forgot it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError

from atlas.bus.connection import reaching

__all__ = ["Script"]

Argument = str | bytes | int | float


class Script:
    """One Lua script, for blocking and asyncio clients alike; it runs as one step in Redis."""

    def __init__(self, text: str) -> None:
        self.text = text
        # Redis names scripts by SHA-1; nothing is protected by it.
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def run(self, redis: Redis, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run it and return its reply.

        Raises
        ------
        StoreUnavailable
            If Redis does not answer, or refuses.
        """
        with reaching(redis):
            try:
                return redis.evalsha(self._sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return redis.eval(self.text, len(keys), *keys, *arguments)

    async def run_async(
        self, redis: AsyncRedis, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Any:
        """Run it on an asyncio client; otherwise as `run`."""
        with reaching(redis):
            try:
                reply: Any = redis.evalsha(self._sha, len(keys), *keys, *arguments)
                return await reply
            except NoScriptError:
                reply = redis.eval(self.text, len(keys), *keys, *arguments)
                return await reply
