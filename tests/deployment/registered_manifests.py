"""Manifests of versions that a test registers; no worker could load them."""

from __future__ import annotations

from atlas.serving import Manifest, ReadPlan, Stage, feature_hash

__all__ = ["MODEL", "build_manifest"]

MODEL = "direction_ohlcv_1m"


def build_manifest(version: int, model: str = MODEL) -> Manifest:
    plan = ReadPlan("atlas", "ohlcv_1m", ("symbol",), ("rsi_14", "return_24h"), 600_000_000)
    return Manifest(
        model=model,
        version=version,
        stage=Stage.REGISTERED,
        generation=0,
        engine="xgboost",
        blob=f"{version:064x}",
        plan=plan,
        feature_hash=feature_hash(plan.view, plan.features),
        interval="1m",
        threshold=0.05,
        decision_bars=5,
        golden_rows=((0.25, None),),
        golden_scores=(0.5,),
    )
