"""What every resource needs of HTTP: methods, bodies, JSON, and a Status object for whatever goes wrong."""

from __future__ import annotations

import asyncio
import json as stdlib_json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import nullcontext
from typing import Any, BinaryIO, Final, TypeVar

import msgspec
import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ovnreserve.api import limits, selectors
from ovnreserve.model.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    Refused,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    in_json,
    shown,
)

_log = structlog.get_logger(__name__)

MAX_DOCUMENT: Final = 3 * 1024 * 1024
"""Bytes of a request about one object, as of kube-apiserver."""
MAX_BODY: Final = 64 * 1024 * 1024
"""Bytes of a bulk request."""
MAX_VALUES: Final = 4_000_000
"""Of a body. A value in Python takes up to 85 bytes for each comma or bracket: 64 MiB of `[],[],` were 1.5 GB."""
MAX_TIMEOUT: Final = 600.0
DEFAULT_TIMEOUT: Final = 30.0
_INTERNAL: Final = Refused("internal error; the log of ovnreserved says more", kind="")

T = TypeVar("T")
Handler = Callable[[HttpRequest], Awaitable[Response]]

_SHARE: Final = "ovnreserve.share"
_bodies: Final = limits.Bodies()

_AT_ONCE: Final = 200
"""How many items of a list are made before others have a turn: all of 100,000 at once is a second for nobody else."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Resource:
    """One path: a handler for each method, and a Status object for whatever goes wrong. An ASGI application.

    `turns`, if given, is what a GET takes until its answer has been handed over, as it may be long.
    """

    def __init__(self, *, turns: asyncio.Semaphore | None = None, **methods: Handler) -> None:
        self._methods = methods
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        turn = self._turns if self._turns is not None and scope["method"] == "GET" else nullcontext()
        with _bodies.share() as share:
            scope[_SHARE] = share
            async with turn:
                await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HttpRequest(scope, receive)
        try:
            response = await self._handler(request.method)(request)
        except Refused as refused:
            response = json(refused.status(), refused.code)
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001 - a client sees a Status object, the log a traceback
            _log.exception("request_failed", method=request.method, path=scope["path"])
            response = json(_INTERNAL.status(), _INTERNAL.code)
        await _hand_over(response, send)

    def _handler(self, method: str) -> Handler:
        handler = self._methods.get(method)
        if handler is not None:
            return handler
        if self._methods:
            raise MethodNotAllowed("the server does not allow this method on the requested resource", kind="")
        raise NotFound("the server could not find the requested resource", kind="")


class Download(Response):
    """A file's content from where it stands. The file is closed when it has been handed over, or cannot be."""

    def __init__(self, file: BinaryIO, media_type: str) -> None:
        super().__init__(media_type=media_type)
        self._file = file
        self.headers["content-length"] = str(os.fstat(file.fileno()).st_size - file.tell())

    async def hand_over(self, send: Send) -> None:
        with self._file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while piece := await run_in_threadpool(self._file.read, limits.PIECE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _hand_over(response: Response, send: Send) -> None:
    """In pieces, each when the connection has room for it, so that it holds no more than that when this returns."""
    if isinstance(response, Download):
        await response.hand_over(send)
        return
    await send({"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers})
    if len(response.body) <= limits.PIECE:
        await send({"type": "http.response.body", "body": response.body})
        return
    content = memoryview(response.body)
    for start in range(0, len(content), limits.PIECE):
        end = start + limits.PIECE
        piece = bytes(content[start:end])
        await send({"type": "http.response.body", "body": piece, "more_body": end < len(content)})


def actor(request: HttpRequest) -> str:
    """Who asks, as the journal has it."""
    return str(request.scope["state"][limits.ACTOR])


def fields(request: HttpRequest, *supported: str) -> list[selectors.Field]:
    """The field selector of a list, which cannot be watched yet."""
    if request.query_params.get("watch", "false").lower() not in ("", "0", "f", "false"):
        raise BadRequest("watch is not supported yet")
    return selectors.parse_fields(request.query_params.get("fieldSelector", ""), supported)


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


async def body(request: HttpRequest, media: str = "application/json", most: int = MAX_DOCUMENT) -> Any:
    """The decoded body. Raises BadRequest for what is no JSON, RequestEntityTooLarge for more than `most` bytes."""
    return _decoded(await _read(request, media, most))


async def merge_patch(request: HttpRequest) -> Any:
    """The decoded body of a PATCH (RFC 7386). Raises UnsupportedMediaType for other kinds of patches."""
    media = request.headers.get("content-type", "").partition(";")[0]
    if media != "application/merge-patch+json":
        raise UnsupportedMediaType(
            f"the body of the request was in an unknown format - accepted media types include: "
            f"application/merge-patch+json, not {shown(media)}"
        )
    return await body(request, media)


async def check_delete_options(request: HttpRequest) -> None:
    """The body of a DELETE (meta/v1 DeleteOptions): empty, or without what would have to be heeded and is not."""
    text = await _read(request, "application/json")
    options = _decoded(text) if text.strip() else {}
    if not isinstance(options, dict):
        raise BadRequest(f"the body is not DeleteOptions but {in_json(options)}")
    for key in ("dryRun", "preconditions"):
        if options.get(key):
            raise BadRequest(f"{key} is not supported yet; nothing was changed")


async def _read(request: HttpRequest, media: str, most: int = MAX_DOCUMENT) -> bytes:
    declared = request.headers.get("content-type", media).partition(";")[0].strip()
    if declared != media:
        raise UnsupportedMediaType(f"the body must be {media}, not {shown(declared)}")
    too_large = RequestEntityTooLarge(f"the body is larger than {most >> 20} MiB")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most:
        raise too_large
    share: limits.Share = request.scope[_SHARE]
    chunks: list[bytes] = []
    try:
        async with asyncio.timeout(None) as patience:
            async for chunk in request.stream():
                share.grow(len(chunk))
                if share.size > most:
                    raise too_large
                chunks.append(chunk)
                if share.size > limits.PIECE:
                    patience.reschedule(asyncio.get_running_loop().time() + limits.STALLED)
    except TimeoutError:
        raise BadRequest(f"the body did not go on within {limits.STALLED:g} s; nothing was changed") from None
    return b"".join(chunks)


def _decoded(text: bytes) -> Any:
    if len(text) > MAX_VALUES and sum(map(text.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise RequestEntityTooLarge(f"the body has more than {MAX_VALUES} values")
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not valid JSON: {shown(str(error))}") from None


def json(value: Any, code: int = 200) -> Response:
    return Response(_encode(value), code, media_type="application/json")


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items. Who waits for the event loop has a turn after some of them, however many there are."""
    for index, item in enumerate(items, 1):
        yield item
        if index % _AT_ONCE == 0:
            await asyncio.sleep(0)


async def json_list(head: dict[str, Any], items: Iterable[Any]) -> Response:
    """A list's object: `head` and the items, which may be made one by one. The others have their turns meanwhile, and
    no more than the text of all of them is held.
    """
    texts = [_encode(item) async for item in in_turns(items)]
    content = b"".join((_encode(head)[:-1], b',"items":[', b",".join(texts), b"]}"))
    return Response(content, 200, media_type="application/json")


def big_json(value: Any) -> Response:
    """For integers of any size, such as how many addresses an IPv6 subnet has."""
    return json(big(value))


def big(value: Any) -> msgspec.Raw:
    """The same within another value."""
    return msgspec.Raw(stdlib_json.dumps(value, separators=(",", ":")).encode())


def quoted(text: str) -> str:
    return shown(text).replace("\\", "\\\\").replace('"', '\\"').encode("ascii", "replace").decode()
