"""The HTML that all reports share: one document with its style inside, tables, figures as text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["document", "figure", "outcome_mark", "table", "write_document"]


def document(title: str, body: Iterable[str]) -> str:
    """Return a page that needs no server and no network."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n"
    )


def write_document(page: str, path: Path) -> Path:
    """Write a page; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(page, encoding="utf-8")
    os.replace(fresh, path)
    return path


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of text, the heading first; an outcome in a cell is coloured as one."""
    head, *body = rows
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(_cell(cell) for cell in row) for row in body]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def outcome_mark(outcome: str) -> str:
    """Return an outcome for a heading, in its colour."""
    return f'<span class="{escape(outcome)}">{escape(outcome)}</span>'


def figure(value: Any) -> str:
    """Return a value of a manifest or a report as text."""
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {figure(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(figure(item) for item in value)
    return "none" if value is None else str(value)


def _cell(text: str) -> str:
    known = text if text in ("PASS", "FAIL", "INCONCLUSIVE") else ""
    return f'<td class="{known}">{escape(text)}</td>' if known else f"<td>{escape(text)}</td>"


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#22313f;background:#fbfbfa;margin:0}
main{max-width:1020px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;margin:.6rem 0;font-size:.9rem}
th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid #e3e6e8;
vertical-align:top;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1.2rem}
dt{color:#66737f}dd{margin:0}
svg{max-width:100%;height:auto}
.PASS{color:#1a7f5a;font-weight:600}.FAIL{color:#b3402e;font-weight:600}
.INCONCLUSIVE{color:#a06a00;font-weight:600}
.simulated{background:#fff4d6;border-left:4px solid #d9a400;padding:.5rem .8rem}
.decision{font-size:1.1rem;font-weight:600}
"""
