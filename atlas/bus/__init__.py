"""Redis: the client, the project's clock, the permit, signals, routes and acknowledgements."""

from atlas.bus.acks import Ack, Served, acknowledge, read_acks, withdraw_ack
from atlas.bus.aliases import (
    AliasEdit,
    keep_alias_edit,
    read_alias_edits,
    remember_alias,
    remembered_alias,
)
from atlas.bus.clock import (
    CLOCK_KEY,
    AsyncRedisClock,
    RedisClock,
    read_replay,
    set_replay,
    set_wall,
)
from atlas.bus.connection import connect, connect_async, reaching
from atlas.bus.permit import (
    PERMIT_KEY,
    forget_halts_after,
    grant,
    is_permitted,
    is_permitted_async,
    revoke,
)
from atlas.bus.routes import (
    read_route,
    read_routes,
    read_routes_async,
    watch_routes,
    write_route,
)
from atlas.bus.script import Script
from atlas.bus.signals import (
    SIGNAL_STAGES,
    Publication,
    decode_signal,
    forget_published,
    latest_signals,
    publish,
    publish_async,
    read_signals,
)

__all__ = [
    "CLOCK_KEY",
    "PERMIT_KEY",
    "SIGNAL_STAGES",
    "Ack",
    "AliasEdit",
    "AsyncRedisClock",
    "Publication",
    "RedisClock",
    "Script",
    "Served",
    "acknowledge",
    "connect",
    "connect_async",
    "decode_signal",
    "forget_halts_after",
    "forget_published",
    "grant",
    "is_permitted",
    "is_permitted_async",
    "keep_alias_edit",
    "latest_signals",
    "publish",
    "publish_async",
    "reaching",
    "read_acks",
    "read_alias_edits",
    "read_replay",
    "read_route",
    "read_routes",
    "read_routes_async",
    "read_signals",
    "remember_alias",
    "remembered_alias",
    "revoke",
    "set_replay",
    "set_wall",
    "watch_routes",
    "withdraw_ack",
    "write_route",
]
