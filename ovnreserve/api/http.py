"""What every resource needs of HTTP: methods, bodies, JSON, and a Status object for whatever goes wrong."""

from __future__ import annotations

import json as stdlib_json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ovnreserve.model.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    Refused,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    in_json,
)

_log = structlog.get_logger(__name__)

MAX_BODY: Final = 64 * 1024 * 1024
MAX_TIMEOUT: Final = 600.0
DEFAULT_TIMEOUT: Final = 30.0
_INTERNAL: Final = Refused("internal error; the log of ovnreserved says more", kind="")

Handler = Callable[[HttpRequest], Awaitable[Response]]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Resource:
    """One path: a handler for each method, and a Status object for whatever goes wrong. An ASGI application."""

    def __init__(self, **methods: Handler) -> None:
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        request = HttpRequest(scope, receive)
        try:
            response = await self._handler(request.method)(request)
        except Refused as refused:
            response = json(refused.status(), refused.code)
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001 - a client sees a Status object, the log a traceback
            _log.exception("request_failed", method=request.method, path=request.url.path)
            response = json(_INTERNAL.status(), _INTERNAL.code)
        await response(scope, receive, send)

    def _handler(self, method: str) -> Handler:
        handler = self._methods.get(method)
        if handler is not None:
            return handler
        if self._methods:
            raise MethodNotAllowed("the server does not allow this method on the requested resource", kind="")
        raise NotFound("the server could not find the requested resource", kind="")


def waiting(request: HttpRequest) -> tuple[float, bool]:
    """How a change is to be carried out: within how many seconds, and whether ovn-northd is to be awaited."""
    if request.query_params.get("dryRun"):
        raise BadRequest("dryRun is not supported yet; nothing was changed")
    wait = request.query_params.get("wait", "none")
    if wait not in ("none", "sb"):
        raise BadRequest(f"wait={shown(wait)}: must be none or sb")
    text = request.query_params.get("timeout", "")
    try:
        timeout = float(text.removesuffix("s")) if text else DEFAULT_TIMEOUT
    except ValueError:
        timeout = -1.0
    if not 0 < timeout <= MAX_TIMEOUT:
        raise BadRequest(f"timeout={shown(text)}: must be a number of seconds, above 0 and at most {MAX_TIMEOUT:g}")
    return timeout, wait == "sb"


async def body(request: HttpRequest, media: str = "application/json") -> Any:
    """The decoded body. Raises BadRequest for what is no JSON, RequestEntityTooLarge for too much of it."""
    return _decoded(await _read(request, media))


async def check_delete_options(request: HttpRequest) -> None:
    """The body of a DELETE (meta/v1 DeleteOptions): empty, or without what would have to be heeded and is not."""
    text = await _read(request, "application/json")
    options = _decoded(text) if text.strip() else {}
    if not isinstance(options, dict):
        raise BadRequest(f"the body is not DeleteOptions but {in_json(options)}")
    for key in ("dryRun", "preconditions"):
        if options.get(key):
            raise BadRequest(f"{key} is not supported yet; nothing was changed")


async def _read(request: HttpRequest, media: str) -> bytes:
    declared = request.headers.get("content-type", media).partition(";")[0].strip()
    if declared != media:
        raise UnsupportedMediaType(f"the body must be {media}, not {shown(declared)}")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_BODY:
            raise RequestEntityTooLarge(f"the body is larger than {MAX_BODY >> 20} MiB")
        chunks.append(chunk)
    return b"".join(chunks)


def _decoded(text: bytes) -> Any:
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {shown(str(error))}") from None


def json(value: Any, code: int = 200) -> Response:
    return Response(_encode(value), code, media_type="application/json")


def big_json(value: Any) -> Response:
    """For integers of any size, such as how many addresses an IPv6 subnet has."""
    return Response(stdlib_json.dumps(value, separators=(",", ":")), 200, media_type="application/json")


def shown(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:253])


def quoted(text: str) -> str:
    return shown(text).replace("\\", "\\\\").replace('"', '\\"').encode("ascii", "replace").decode()
