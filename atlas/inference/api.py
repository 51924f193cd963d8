"""The worker's face over HTTP: questions, liveness, readiness and metrics."""

from __future__ import annotations

from typing import Annotated, Literal

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from atlas.clock import from_micros
from atlas.errors import StoreUnavailable
from atlas.inference.enquiry import Answer, Enquiries, EnquiryRefused
from atlas.inference.metrics import Metrics
from atlas.inference.readiness import Readiness
from atlas.market import check_symbol
from atlas.serving import Stage

__all__ = ["MAX_SYMBOLS", "build_app"]

MAX_SYMBOLS = 1_000
"""Symbols that one question may name."""
_MAX_BODY = 64 * 1024  # a thousand symbols of the longest kind, and some air


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    model: Annotated[str, Field(min_length=1, max_length=128)]
    symbols: Annotated[list[Annotated[str, AfterValidator(check_symbol)]], Field(min_length=1)]
    stage: Literal["live", "canary", "shadow", "rejected"] | None = None


def build_app(enquiries: Enquiries, readiness: Readiness, metrics: Metrics) -> Starlette:
    """Return the application.

    `POST /predict` answers `{"model": …, "symbols": […]}`, and takes a `stage` (`live`, `canary`,
    `shadow`, `rejected`) where not the version nearest to live is meant. `GET /health` says that
    the event loop turns; `GET /ready` whether rows become signals, and if not, why; `GET /metrics`
    is Prometheus's. Every refusal is `{"error": one sentence}`.
    """

    async def predict(request: Request) -> Response:
        try:
            question = await _question(request)
            stage = Stage(question.stage) if question.stage else None
            answer = await enquiries.ask(question.model, question.symbols, stage)
        except EnquiryRefused as refused:
            return _json(refused.status, {"error": str(refused)})
        except StoreUnavailable as error:
            return _json(503, {"error": str(error)})
        return _json(200, _told(answer))

    async def health(_: Request) -> Response:
        return _json(200, {"status": "alive"})

    async def ready(_: Request) -> Response:
        state = await readiness.state()
        return _json(200 if state["ready"] else 503, state)

    async def prometheus(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/predict", predict, methods=["POST"]),
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", prometheus),
        ]
    )


async def _question(request: Request) -> _Question:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY:
                raise EnquiryRefused(
                    413, f"Expected a question of at most {_MAX_BODY} bytes; found more."
                )
    except ClientDisconnect as gone:
        raise EnquiryRefused(400, "Expected a whole question; the client went away.") from gone
    try:
        question = _Question.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise EnquiryRefused(
            422,
            'Expected a question such as {"model": "direction_ohlcv_1m", "symbols": ["BTC_USDT"]}; '
            f"found in {where}: {first['msg']}.",
        ) from error
    if len(question.symbols) > MAX_SYMBOLS:
        raise EnquiryRefused(
            413, f"Expected at most {MAX_SYMBOLS} symbols; found {len(question.symbols)}."
        )
    return question


def _told(answer: Answer) -> dict[str, object]:
    manifest = answer.manifest
    return {
        "model": manifest.model,
        "version": manifest.version,
        "stage": manifest.stage,
        "generation": manifest.generation,
        "feature_hash": manifest.feature_hash,
        "latency_us": answer.latency_us,
        "predictions": [
            {
                "symbol": opinion.symbol,
                "event_time": from_micros(opinion.event_us).isoformat(timespec="microseconds"),
                "score": opinion.score,
                "side": opinion.side,
                "decides": opinion.decides,
            }
            for opinion in answer.opinions
        ],
    }


def _json(status: int, content: object) -> Response:
    return Response(orjson.dumps(content), status, media_type="application/json")
