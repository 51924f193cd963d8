"""Puts Feast's SQLite registry into the state folder, wherever that is.

feature_store.yaml cannot say it: Feast fills in variables there but knows no defaults, and SQLite
takes a relative path from the current folder, which `feast -c feature_repo` changes. SQLAlchemy
lets a plugin, named in the address, complete the address instead:

    sqlite:///registry.db?plugin=atlas_home
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.dialects import plugins
from sqlalchemy.engine import URL, CreateEnginePlugin

from atlas.config import load_settings

__all__ = ["StateFolder", "offer_state_folder"]


class StateFolder(CreateEnginePlugin):
    """Takes a SQLite address's path from the state folder (`ATLAS_HOME`, `.atlas` by default).

    A relative state folder lies in the current folder, or in the one above it when the current one
    is the feature repository itself.
    """

    def update_url(self, url: URL) -> URL:
        """Return the address with the whole path; the folder exists afterwards."""
        here = Path.cwd()
        root = here.parent if (here / "feature_store.yaml").exists() else here
        folder = root / load_settings().home
        folder.mkdir(parents=True, exist_ok=True)
        return url.set(database=str(folder / (url.database or "registry.db")))


def offer_state_folder() -> None:
    """Let SQLAlchemy find the plugin by its name."""
    plugins.register("atlas_home", __name__, "StateFolder")
