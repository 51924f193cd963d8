"""The settings: one frozen object, built once at the edge from environment variables.

Names start with `ATLAS_`, save those that other tools share (`MLFLOW_…`) and the thresholds that
desks already set by their plain names (`MIN_MODEL_ACCURACY`). A misspelt `ATLAS_` name is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from atlas.errors import InvalidSettings

__all__ = ["Settings", "load_settings"]


class Settings(BaseSettings):
    """Where things are and how they behave; every field can be set by its variable."""

    model_config = SettingsConfigDict(env_prefix="ATLAS_", frozen=True, extra="forbid")

    home: Path = Path(".atlas")
    """State folder: data, models, logs and reports of one stack."""
    host: str = "127.0.0.1"
    database_url: str | None = Field(None, repr=False)
    """SQL database of the deployment log: SQLite in the state folder, or `postgresql://…`."""
    blobs_url: str | None = None
    """Bucket of the models' bytes, `s3://bucket/prefix`; None is a folder of the state folder."""
    s3_endpoint_url: str | None = None
    """`https://host:port` of an S3 server that is not Amazon's; else AWS's variables say."""
    aws_endpoint_url_s3: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL_S3")
    aws_endpoint_url: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL")
    aws_region: str | None = Field(None, validation_alias="AWS_REGION")
    aws_default_region: str | None = Field(None, validation_alias="AWS_DEFAULT_REGION")
    aws_access_key_id: str | None = Field(None, validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: str | None = Field(
        None, repr=False, validation_alias="AWS_SECRET_ACCESS_KEY"
    )
    aws_session_token: str | None = Field(None, repr=False, validation_alias="AWS_SESSION_TOKEN")
    artifact_key: str | None = Field(None, repr=False)
    """Key that models' bytes are encrypted with: 32 bytes in base64; None keeps them plain."""
    former_artifact_keys: str | None = Field(None, repr=False)
    """Earlier keys, with commas between, that still open what was kept under them."""
    clickhouse_port: int = Field(8123, ge=1, le=65535)
    clickhouse_database: str = "atlas"
    redis_port: int = Field(6379, ge=1, le=65535)
    prefect_port: int = Field(4200, ge=1, le=65535)
    mlflow_port: int = Field(5000, ge=1, le=65535)
    worker_port: int = Field(8000, ge=1, le=65535)

    trusted_engines: str = ""
    """Dotted paths, `package.module:Class` with commas between, of the desk's own engines that a
    worker may load: it imports and runs them."""

    source_delay: timedelta = timedelta(0)
    """How long after its close a bar is known."""
    replay_speed: float = Field(60.0, gt=0)
    """Market seconds a wall second, when history is played as if live."""
    max_bad_share: float = Field(0.05, ge=0, le=1)
    """Share of bad rows above which a run stops; they are in quarantine either way."""
    min_judged_rows: int = Field(100, ge=1)
    """Rows that a run must have met before that share is judged."""
    fee_bps: float = Field(5.0, ge=0)
    """What the account pays on each side of a paper fill, in basis points of its notional."""
    half_spread_bps: float = Field(1.0, ge=0)
    slippage_bps: float = Field(1.0, ge=0)
    paper_patience: timedelta = timedelta(minutes=5)
    """How long a paper order waits for the bar of its decision; afterwards it is unpriced."""
    worker_interval: timedelta | None = Field(None, gt=timedelta(0))
    """How often the worker looks for rows that nobody told it of; None: rows are always told of."""
    regime_period: timedelta = Field(timedelta(seconds=5), gt=timedelta(0))
    """How often the regime service looks for new rows."""
    regime_min_confidence: float = Field(0.70, gt=0, le=1)
    """Probability that a regime must reach before it is told."""
    regime_margin: float = Field(0.10, ge=0, lt=1)
    """By how much likelier than the present regime another one must be."""
    regime_min_dwell: timedelta = Field(timedelta(hours=2), ge=timedelta(0))
    """How long a regime is told at least, in market time."""
    regime_max_changes: int = Field(10, ge=1)
    """Changes of a symbol's regime in any hour."""
    regime_max_empty: float = Field(0.5, ge=0, le=1)
    """Share of a row's inputs that may be null or zero before it changes nothing that is told."""
    start_timeout: timedelta = timedelta(seconds=30)
    start_attempts: int = Field(3, ge=1)

    strategy: Literal["shadow", "blue-green", "canary", "rolling"] = Field(
        "blue-green", validation_alias="DEFAULT_DEPLOYMENT_STRATEGY"
    )
    """How a version that passed its gates is deployed where nobody says otherwise."""
    canary_percent: float = Field(10.0, gt=0, lt=100, validation_alias="CANARY_TRAFFIC_PERCENTAGE")
    """First share of the traffic that a canary trades."""
    health_check_timeout_s: float = Field(30.0, gt=0, validation_alias="HEALTH_CHECK_TIMEOUT")
    """Seconds that the workers may take to serve what a deployment switches to."""
    max_candidate_drawdown: float = Field(0.10, gt=0, le=1)
    """Paper loss from its peak, as a share of the notional, at which a candidate is taken back."""

    ab_min_hours: int = Field(168, ge=24, validation_alias="AB_TEST_MIN_DURATION_HOURS")
    """Hours of an experiment before which no winner is named."""
    ab_level: float = Field(0.95, gt=0.5, lt=1, validation_alias="AB_TEST_CONFIDENCE_LEVEL")
    """Confidence in an experiment's winner."""
    ab_significance: float = Field(
        0.05, gt=0, lt=0.5, validation_alias="AB_TEST_SIGNIFICANCE_THRESHOLD"
    )
    """Chance of a winner where there is none; the stricter of the two counts."""

    mlflow_tracking_uri: str | None = Field(None, validation_alias="MLFLOW_TRACKING_URI")
    mlflow_experiment: str = Field("atlas", validation_alias="MLFLOW_EXPERIMENT_NAME")
    min_training_rows: int = Field(1_000, ge=1, validation_alias="MIN_TRAINING_DATA_POINTS")
    max_training_jobs: int = Field(1, ge=1, validation_alias="MAX_CONCURRENT_TRAINING_JOBS")
    """Trainings at once on this machine; further ones wait."""
    training_timeout_hours: float = Field(4.0, gt=0, validation_alias="TRAINING_JOB_TIMEOUT_HOURS")
    training_processes: int = Field(2, ge=1)
    """Processes that walk the trials of one training."""
    dask_address: str | None = None
    """Scheduler that walks trials when a training asks for Dask; none starts one on loopback."""
    cpu_hour_price: float = Field(0.0, ge=0)
    """Of one processor core, in the desk's currency."""
    gpu_hour_price: float = Field(0.0, ge=0)
    training_budget: float | None = Field(None, ge=0)
    """Price of one training above which the run is marked and told of."""
    min_accuracy: float = Field(0.54, ge=0, le=1, validation_alias="MIN_MODEL_ACCURACY")
    max_model_mse: float | None = Field(
        None, gt=0, allow_inf_nan=False, validation_alias="MAX_MODEL_MSE"
    )
    """Mean squared error that a regressor must stay below; None asks for none."""
    min_r2: float | None = Field(None, lt=1, allow_inf_nan=False, validation_alias="MIN_R2_SCORE")
    """Out-of-sample R squared that a regressor must exceed; None asks for none."""

    @property
    def secrets(self) -> frozenset[str]:
        """Names of the fields that no file, page or log may show."""
        return frozenset(n for n, field in type(self).model_fields.items() if not field.repr)

    @property
    def tracking_uri(self) -> str:
        """Where MLflow keeps its records: the setting, else SQLite in the state folder."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home.resolve() / 'mlflow.db'}"

    @property
    def own_engines(self) -> tuple[str, ...]:
        """The dotted paths of `trusted_engines`."""
        return tuple(path.strip() for path in self.trusted_engines.split(",") if path.strip())

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow's server: the tracking address, else this machine's own over it."""
        uri = self.tracking_uri
        own = f"http://{self.host}:{self.mlflow_port}"
        return uri if uri.startswith(("http://", "https://")) else own

    @property
    def deployments_url(self) -> str:
        """SQLAlchemy address of the deployment log: the setting, else a file under `home`."""
        return self.database_url or f"sqlite:///{self.home.resolve() / 'deployments.db'}"

    @property
    def blobs(self) -> Path:
        """Folder of the content-addressed model artifacts, where they are in no bucket."""
        return self.home / "blobs"

    @property
    def s3_endpoint(self) -> str | None:
        """Address of the S3 server; None is Amazon's of the region."""
        return self.s3_endpoint_url or self.aws_endpoint_url_s3 or self.aws_endpoint_url

    @property
    def s3_region(self) -> str:
        """Region of the bucket."""
        return self.aws_region or self.aws_default_region or "us-east-1"


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Build the settings from the environment; keyword arguments win over it.

    Raises
    ------
    InvalidSettings
        If a variable that starts with `ATLAS_` is unknown, or a value does not fit.
    """
    names = os.environ if environ is None else environ
    known = {f"ATLAS_{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(name for name in names if name.startswith("ATLAS_") and name not in known)
    if unknown:
        raise InvalidSettings(
            f"Unknown setting {', '.join(unknown)}. Known are {', '.join(sorted(known))}."
        )
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidSettings(
            f"Setting {where} does not fit: {first['msg']} (found {first['input']!r})."
        ) from error
