"""The HTTP side of the scoring service.

It answers whoever can reach it and keeps no log of what it is asked, so it listens on loopback unless told otherwise; a
gateway in front of it authenticates callers. It has no documentation pages, because those load scripts from the internet.
"""

from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from coordinator.deploy.scoring.model import ScoringModel
from coordinator.deploy.scoring.protocol import (
    MAX_BODY_BYTES,
    ProtocolError,
    answer,
    columns_from,
    model_metadata,
    parse_request,
)
from protos.release import package_version
from strategies.ids import Digest

# Each waiting request may hold a body of the largest size.
_MAX_REQUESTS = 64


def create_app(model_path: Path, name: str, version: int | str, *, expected_digest: Digest) -> FastAPI:
    """The service for one model file, called `name` in its URLs.

    Raises UsageError when the file cannot be read, Refused when it is not the file with `expected_digest`.
    """
    service = _Service(ScoringModel.load(model_path, expected_digest=expected_digest), name, str(version))
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_api_route("/v2", service.server)
    app.add_api_route("/v2/health/live", service.live)
    app.add_api_route("/v2/health/ready", service.ready)
    for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        app.add_api_route(model, service.metadata)
        app.add_api_route(f"{model}/ready", service.model_ready)
        app.add_api_route(f"{model}/infer", service.infer, methods=["POST"])
    app.add_exception_handler(ProtocolError, _refuse)
    app.add_exception_handler(HTTPException, _no_route)
    return app


def serve(
    model_path: Path,
    name: str,
    version: int | str,
    *,
    expected_digest: Digest,
    host: str = "127.0.0.1",
    port: int = 8080,
) -> None:
    """Serve the model until interrupted. Raises as `create_app` does."""
    app = create_app(model_path, name, version, expected_digest=expected_digest)
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MAX_REQUESTS,
    )


class _Service:
    """The protocol's operations on one loaded model."""

    def __init__(self, model: ScoringModel, name: str, version: str) -> None:
        self._model = model
        self._name = name
        self._version = version

    async def server(self) -> dict[str, Any]:
        return {"name": "covenant", "version": package_version(), "extensions": []}

    async def live(self) -> dict[str, bool]:
        return {"live": True}

    async def ready(self) -> dict[str, bool]:
        return {"ready": True}

    async def metadata(self, name: str, version: str | None = None) -> dict[str, Any]:
        self._require(name, version)
        return model_metadata(self._name, self._version, self._model.inputs)

    async def model_ready(self, name: str, version: str | None = None) -> dict[str, Any]:
        self._require(name, version)
        return {"name": self._name, "ready": True}

    async def infer(self, request: Request, name: str, version: str | None = None) -> JSONResponse:
        self._require(name, version)
        body = await _bounded_body(request)
        return JSONResponse(await run_in_threadpool(self._infer, body))

    def _infer(self, body: bytes) -> dict[str, Any]:
        """Off the event loop: a full batch takes long enough to delay a health check."""
        request = parse_request(body)
        scores = self._model.score(columns_from(request, self._model.inputs))
        return answer(request, self._name, self._version, scores)

    def _require(self, name: str, version: str | None) -> None:
        if name != self._name or version not in {None, self._version}:
            raise ProtocolError(
                f"this server has one model, {self._name}, in version {self._version}", status=404
            )


async def _bounded_body(request: Request) -> bytes:
    """The body, given up on as soon as it is too long: its length header may be absent or wrong."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise ProtocolError(
                f"the request has more than {MAX_BODY_BYTES} bytes; send fewer rows", status=413
            )
    return bytes(body)


async def _refuse(_: Request, error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, ProtocolError) else 500
    return JSONResponse({"error": str(error)}, status_code=status)


async def _no_route(request: Request, error: Exception) -> JSONResponse:
    """A path or method that the protocol does not have, in the protocol's form of an error."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    sentence = f"{request.method} {request.url.path[:200]} is not part of the Open Inference Protocol v2"
    return JSONResponse({"error": sentence}, status_code=status, headers=headers)
