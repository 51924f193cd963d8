"""The gates: every verdict on a model version, recorded where people look."""

from __future__ import annotations

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from atlas.gates import Report, desk_policy
from atlas.reporting import report_markdown
from atlas.runtime import workflow
from atlas.runtime.installation import Installation
from atlas.training import Dossier
from flows.retry import STORE_TASK

__all__ = ["gate", "judge_version", "register_verdict"]


@task(**STORE_TASK, timeout_seconds=900, tags=["gate"])
def judge_version(model: str, version: int, who: str) -> Report:
    """Judge the version's evidence, and keep the verdicts in its file and in MLflow."""
    installation = Installation()
    policy = desk_policy(installation.settings)
    return workflow.judge_version(installation, model, version, policy=policy, who=who)


@task(**STORE_TASK, tags=["gate"])
def register_verdict(model: str, version: int, report: Report, who: str) -> None:
    """Enter the version in the deployment log, gated or rejected for ever."""
    workflow.register_verdict(Installation(), model, version, report, who=who)


@flow(name="gate", timeout_seconds=3600)
def gate(model: str, version: int, who: str = "flow gate") -> Report:
    """Judge a version; all gates must pass before it may become a shadow."""
    report = judge_version(model, version, who)
    register_verdict(model, version, report, who)
    _show(model, version, report)
    return report


def _show(model: str, version: int, report: Report) -> None:
    """Leave the verdicts as a table, and everything beside them as a page of markdown."""
    key = f"gates-{model.replace('_', '-')}-{version}".lower()
    head, *rows = report.table()
    create_table_artifact(
        key=key,
        table=[dict(zip(head, row, strict=True)) for row in rows],
        description=f"{model}/{version}: {report.outcome}",
    )
    manifest = Dossier.of(Installation().settings.home, model, version).manifest
    create_markdown_artifact(
        key=f"{key}-report",
        markdown=report_markdown(report, manifest),
        description=f"{model}/{version}: {report.outcome}",
    )
