"""The HTTP side of the scoring service: the protocol's paths, the status for whoever deploys, and metrics.

Liveness and readiness are open to anybody who can connect, as probes need them; everything else is for callers that the door knows. There are no
documentation pages, because those load scripts from the internet. Bodies are bounded while they are read, before anything parses them.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from coordinator.deploy.scoring.access import TOO_MANY, UNAUTHENTICATED, Door
from coordinator.deploy.scoring.arms import NOT_FOUND, UNAVAILABLE
from coordinator.deploy.scoring.columns import ProtocolError
from coordinator.deploy.scoring.metrics import exposition
from coordinator.deploy.scoring.protocol import MAX_BODY_BYTES, SERVER, answer_of, asked_of, model_metadata
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.serving import STATUS_PATH
from coordinator.deploy.scoring.windows.telling import windows_after
from protos.release import package_version
from protos.windows import WINDOWS_PATH

CERTIFICATE: Final = "covenant.certificate"
"""Where the server puts the name in a client's certificate, in the scope of a request."""
_BODY_S: Final = 30.0
_MOST_DIGITS: Final = 9
_INLINE_BYTES: Final = 64 << 10
"""Larger bodies are parsed off the event loop, which would delay health checks."""


def create_app(scorer: Scorer, door: Door) -> FastAPI:
    """The application of one service."""
    service = _Service(scorer, door)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_api_route("/v2", service.server)
    app.add_api_route("/v2/health/live", service.live)
    app.add_api_route("/v2/health/ready", service.ready)
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.add_api_route(model, service.metadata)
        app.add_api_route(f"{model}/ready", service.model_ready)
        app.add_api_route(f"{model}/infer", service.infer, methods=["POST"])
    app.add_api_route(STATUS_PATH, service.status)
    app.add_api_route(WINDOWS_PATH, service.windows)
    app.add_api_route("/metrics", service.metrics)
    app.add_exception_handler(ProtocolError, service.refuse)
    app.add_exception_handler(HTTPException, _no_route)
    return app


class _Service:
    """The protocol's operations."""

    def __init__(self, scorer: Scorer, door: Door) -> None:
        self._scorer, self._door = scorer, door

    async def server(self, request: Request) -> dict[str, Any]:
        self._admit(request)
        return {"name": SERVER, "version": package_version(), "extensions": []}

    async def live(self) -> dict[str, bool]:
        return {"live": True}

    async def ready(self) -> JSONResponse:
        why_not = self._scorer.why_not_ready()
        if why_not is None:
            return JSONResponse({"ready": True})
        # Why stands in the status, which callers may see: it names the model.
        return JSONResponse({"ready": False}, status_code=UNAVAILABLE)

    async def metadata(self, request: Request, name: str, version: str | None = None) -> dict[str, Any]:
        self._admit(request)
        force = self._scorer.in_force
        arm = force.named(name, version, self._scorer.clock())
        versions = (
            [each.loaded.version for each in force.answering] if version is None else [arm.loaded.version]
        )
        return model_metadata(name, versions, arm.loaded.rules.inputs)

    async def model_ready(self, request: Request, name: str, version: str | None = None) -> dict[str, Any]:
        self._admit(request)
        self._scorer.in_force.named(name, version, self._scorer.clock())
        return {"name": name, "ready": True}

    async def infer(self, request: Request, name: str, version: str | None = None) -> JSONResponse:
        caller = self._admit(request)
        self._scorer.in_force.named(name, version, self._scorer.clock())
        body = await _bounded_body(request)
        if len(body) > _INLINE_BYTES:
            asked = await asyncio.to_thread(asked_of, body)
        else:
            asked = asked_of(body)
        self._door.take(caller, asked.rows)
        return JSONResponse(answer_of(await self._scorer.infer(name, version, asked, caller)))

    async def status(self, request: Request) -> JSONResponse:
        self._admit(request)
        return JSONResponse(self._scorer.status().model_dump(mode="json"))

    async def windows(self, request: Request, after: str = "0") -> Response:
        self._admit(request)
        watch = self._scorer.watch
        if watch is None:
            raise ProtocolError("this service counts no windows; it was started without --monitor", NOT_FOUND)
        if not (after.isdecimal() and after.isascii() and len(after) <= _MOST_DIGITS):
            raise ProtocolError("after= is no sequence; use a whole number from 0 on")
        page = await asyncio.to_thread(windows_after, watch.place.store, watch.place.name, int(after))
        return Response(page.canonical, media_type="application/json")

    async def metrics(self, request: Request) -> Response:
        self._admit(request)
        return Response(exposition(self._scorer), media_type=CONTENT_TYPE_LATEST)

    async def refuse(self, _: Request, error: Exception) -> JSONResponse:
        """The protocol's form of an error."""
        self._scorer.count_refused()
        status = error.status if isinstance(error, ProtocolError) else 500
        extra = {UNAUTHENTICATED: {"WWW-Authenticate": "Bearer"}, TOO_MANY: {"Retry-After": "1"}}
        return JSONResponse({"error": str(error)}, status_code=status, headers=extra.get(status))

    def _admit(self, request: Request) -> str:
        return self._door.admit(request.headers.get("authorization"), request.scope.get(CERTIFICATE))


async def _bounded_body(request: Request) -> bytes:
    """The body, given up on as soon as it is too long: its length header may be absent or wrong."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise ProtocolError(
                        f"the request has more than {MAX_BODY_BYTES} bytes; send fewer rows", status=413
                    )
    except TimeoutError as error:
        raise ProtocolError(
            f"the request was not here after {_BODY_S:g} s; send it faster", status=408
        ) from error
    return bytes(body)


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    """A path or method that the protocol does not have, in the protocol's form of an error."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    sentence = f"{request.method} {request.url.path[:200]} is not part of the Open Inference Protocol v2"
    return JSONResponse({"error": sentence}, status_code=status, headers=headers)
