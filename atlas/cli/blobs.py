"""`atlas blobs`: the store of models' bytes."""

from __future__ import annotations

import typer
from rich.markup import escape

from atlas.cli.terminal import open_console
from atlas.config import load_settings
from atlas.errors import InvalidSettings

__all__ = ["blobs"]

blobs = typer.Typer(name="blobs", help="Look after the stored models' bytes.", add_completion=False)


@blobs.callback()
def _blobs() -> None:
    """Look after the stored models' bytes."""


@blobs.command()
def encrypt() -> None:
    """Encrypt every blob with ATLAS_ARTIFACT_KEY: plain ones, and those under a former key.

    Run it after the key was set or changed; ATLAS_FORMER_ARTIFACT_KEYS holds the earlier ones.

    Exits with 1 if any blob had to be left alone, as it is damaged or its key is missing.
    """
    from atlas.registry import open_blobs

    settings = load_settings()
    if settings.artifact_key is None:
        raise InvalidSettings(
            "Expected ATLAS_ARTIFACT_KEY, to encrypt with; it is not set. Make a key with "
            "`openssl rand -base64 32`."
        )
    done = open_blobs(settings).reseal()
    console = open_console()
    console.print(f"{done.changed} encrypted, {done.unchanged} were so already.")
    for reason in done.refused:
        console.print(f"[red]Left alone:[/] {escape(reason)}", soft_wrap=True)
    raise typer.Exit(1 if done.refused else 0)
