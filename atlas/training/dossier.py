"""The file kept on each model version: what it is, what it was judged by, and the verdicts.

A folder a version, under the state folder: `manifest.json` for machines and people, `evidence.npz`
with every trial's returns. Both are plain data; reading them runs no code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from atlas.clock import from_micros
from atlas.errors import InvalidInput
from atlas.gates import Evidence, GatePolicy, Report, judge
from atlas.registry import BlobStore
from atlas.serving import Manifest, ReadPlan, Stage
from atlas.stats import sharpe_ratio
from atlas.training.candidate import Candidate
from atlas.training.tracking import Tracked
from atlas.training.trainer import Trained

__all__ = ["Dossier", "file_version"]


@dataclass(frozen=True)
class Dossier:
    """One version's folder."""

    folder: Path

    @staticmethod
    def of(home: Path, model: str, version: int) -> Dossier:
        """Return the file on a version.

        Raises
        ------
        InvalidInput
            If there is none.
        """
        dossier = Dossier(_folder(home, model, version))
        if not (dossier.folder / "manifest.json").is_file():
            raise InvalidInput(
                f"Expected a trained version {version} of {model}; there is none in this state "
                "folder. Look at `atlas deployments`, or train it."
            )
        return dossier

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of the version, with the gates' verdicts once it was judged."""
        fields: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text())
        return fields

    def evidence(self) -> Evidence:
        """Return the returns of every trial and fold, as the gates want them."""
        with np.load(self.folder / "evidence.npz", allow_pickle=False) as arrays:
            windows = range(int(arrays["n_windows"]))
            manifest = self.manifest
            first, last = (datetime.fromisoformat(moment) for moment in manifest["data_range"])
            return Evidence(
                trial_returns=arrays["trial_returns"],
                selected=int(arrays["selected"]),
                trade_returns=arrays["trade_returns"],
                hits=arrays["hits"],
                **_optional(arrays, manifest),
                period=timedelta(seconds=float(arrays["period_seconds"])),
                model=manifest["model"],
                features=manifest["feature_hash"],
                data_range=(first, last),
                in_sample=tuple(arrays[f"in_sample_{i}"] for i in windows),
                out_of_sample=tuple(arrays[f"out_of_sample_{i}"] for i in windows),
            )

    def periods(self) -> list[datetime]:
        """Return when each out-of-sample period began."""
        with np.load(self.folder / "evidence.npz", allow_pickle=False) as arrays:
            return [from_micros(int(start)) for start in arrays["periods_us"]]

    def judge(self, policy: GatePolicy, *, who: str, now: datetime) -> Report:
        """Judge the version, and keep every gate's value, threshold and verdict."""
        report = judge(self.evidence(), policy)
        told, at = report.as_dict(), now.isoformat()
        judged = {"report": told, "judged_by": who, "judged_at": at}
        # The newest stands in front; who judged before, and to what end, is never lost.
        former = self.manifest.get("judgements", [])
        this = {
            "by": who,
            "at": at,
            "outcome": told["outcome"],
            "policy": report.policy.version,
            "verdicts": told["verdicts"],
        }
        self._write({**self.manifest, **judged, "judgements": [*former, this]})
        return report

    def serving_manifest(self) -> Manifest:
        """Return what the worker needs to serve the version."""
        fields = self.manifest
        return Manifest(
            model=fields["model"],
            version=fields["version"],
            stage=Stage.REGISTERED,
            generation=0,
            engine=fields["engine"],
            blob=fields["blob"],
            plan=ReadPlan.of(fields["plan"]),
            feature_hash=fields["feature_hash"],
            interval=fields["interval"],
            threshold=fields["threshold"],
            task=fields.get("task", "direction"),
            window=fields.get("window", 1),
            decision_bars=fields["target"]["decision_bars"],
            golden_rows=tuple(tuple(row) for row in fields["golden_rows"]),
            golden_scores=tuple(fields["golden_scores"]),
            symbols=tuple(fields["symbols"]),
        )

    def _write(self, fields: Mapping[str, Any]) -> None:
        # Renamed into place: a reader sees the old file or the new one.
        fresh = self.folder / "manifest.json.new"
        fresh.write_text(json.dumps(fields, indent=1, allow_nan=False))
        os.replace(fresh, self.folder / "manifest.json")


def file_version(
    trained: Trained,
    tracked: Tracked,
    *,
    home: Path,
    blobs: BlobStore,
    code_version: str,
    now: datetime,
    who: str = "",
) -> Dossier:
    """Keep a trained version's bytes in the blob store, and open its file.

    Parameters
    ----------
    who : str
        Who trained it.
    """
    candidate, evidence = trained.candidate, trained.evidence
    dossier = Dossier(_folder(home, tracked.model, tracked.version))
    dossier.folder.mkdir(parents=True, exist_ok=True)
    arrays = {**_arrays(evidence), "periods_us": trained.periods_us}
    np.savez_compressed(dossier.folder / "evidence.npz", **arrays)
    first, last = evidence.data_range or (now, now)
    dossier._write(
        {
            "model": tracked.model,
            "version": tracked.version,
            "run_id": tracked.run_id,
            "engine": trained.engine.name,
            "profile": candidate.profile,
            "task": candidate.task,
            "window": trained.engine.window,
            "blob": blobs.put(trained.engine.dump()),
            "interval": str(candidate.features.interval),
            "plan": trained.candidate.features.plan.as_dict(),
            "feature_hash": trained.feature_hash,
            "parameters": dict(trained.best.parameters),
            "threshold": trained.best.threshold,
            "trials": len(trained.trials),
            "search": _plain_plan(candidate),
            "best_in_sample": _best_in_sample(trained),
            "target": {
                "decision_bars": candidate.target.decision_bars,
                "horizon_bars": candidate.target.horizon_bars,
                "width": candidate.target.width,
            },
            "costs_bps": {
                "fee": candidate.costs.fee_bps,
                "half_spread": candidate.costs.half_spread_bps,
                "slippage": candidate.costs.slippage_bps,
            },
            "symbols": trained.frame.rows["symbol"].unique().sort().to_list(),
            "rows": trained.frame.rows.height,
            "data_range": [first.isoformat(), last.isoformat()],
            "data_hash": trained.frame.digest,
            "evidence_hash": evidence.digest,
            "audit": None
            if evidence.audited is None
            else {"rows": evidence.audited, "leaked": list(evidence.leaked)},
            "code_version": code_version,
            "trained_at": now.isoformat(),
            "trained_by": who,
            "cost_s": {"cpu": trained.cost.cpu_s, "gpu": trained.cost.gpu_s},
            "golden_rows": trained.golden_rows,
            "golden_scores": trained.golden_scores,
        }
    )
    return dossier


def _plain_plan(candidate: Candidate) -> dict[str, Any]:
    """Return how it was searched, in JSON's types."""
    plan = asdict(candidate.search)
    budget = candidate.search.time_budget
    return {**plan, "time_budget": None if budget is None else budget.total_seconds()}


def _best_in_sample(trained: Trained) -> dict[str, float]:
    """Return the Sharpe ratios a period of the trial that looked best on what it was fitted to."""
    inside = [float(sharpe_ratio(np.concatenate(t.in_sample))) for t in trained.trials]
    best = int(np.argmax(inside))
    return {"in_sample": inside[best], "out_of_sample": trained.trials[best].sharpe}


def _optional(arrays: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that not every kind of model has."""
    fields = {name: arrays[name] for name in ("forecasts", "targets") if name in arrays}
    audit = manifest.get("audit")
    if audit is not None:
        fields |= {"audited": audit["rows"], "leaked": tuple(audit["leaked"])}
    return fields


def _folder(home: Path, model: str, version: int) -> Path:
    return home / "models" / model / str(version)


def _arrays(evidence: Evidence) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "trial_returns": evidence.trial_returns,
        "selected": evidence.selected,
        "trade_returns": evidence.trade_returns,
        "hits": evidence.hits,
        "period_seconds": evidence.period.total_seconds(),
        "n_windows": len(evidence.in_sample),
    }
    if evidence.forecasts is not None:
        arrays |= {"forecasts": evidence.forecasts, "targets": evidence.targets}
    for name in ("in_sample", "out_of_sample"):
        for i, window in enumerate(getattr(evidence, name)):
            arrays[f"{name}_{i}"] = window
    return arrays
