"""How the daemon logs: structlog, one line a record on stderr, an event's name and key-value fields.

Three sources end in one stream, under one lock:

- our own events, `structlog.get_logger().info("switch_compared", switch=name)`;
- stdlib logging of libraries (uvicorn, ovsdbapp, asyncio, warnings) from WARNING up, as event `library_log`;
- python-ovs' own `ovs.vlog`, likewise, from ERR up: its reconnect module would report each attempt.

Levels are those of `ovs.vlog`, where we are the module `ovnreserve`, so that `ovn-appctl vlog/set` and
`vlog/list` mean our own events too. Of its destinations only `console` is used: it stands for stderr.

No text can end its line: JSON escapes by nature, and on the console values are written as `repr` writes them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, cast

import ovs.vlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping
    from types import ModuleType

    from structlog.typing import Processor


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Make the import of a module fail, as if it were not installed."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = cast("ModuleType", None)
    try:
        yield
    finally:
        del sys.modules[name]


with _hidden("rich"):
    # structlog.dev imports it where it happens to be installed, for tracebacks that we never print that way.
    import structlog

_VLOG: Final = ovs.vlog.Vlog("ovnreserve")

_VLOG_NAMES: Final = {"debug": "dbg", "info": "info", "warning": "warn", "error": "err", "critical": "emer"}
LEVELS: Final = tuple(_VLOG_NAMES)

_ENABLED: Final[dict[str, Callable[[], bool]]] = {
    name: getattr(_VLOG, f"{vlog_name}_is_enabled") for name, vlog_name in _VLOG_NAMES.items()
}

_SILENT: Final = (
    "uvicorn.access",  # the API logs what it decides
    "ovsdbapp.backend.ovs_idl.idlutils",  # says at each attempt what it also raises
)

_COLOURS: Final = {"debug": "\033[2m", "warning": "\033[33m", "error": "\033[31m", "critical": "\033[1;31m"}


def configure(log_format: Literal["console", "json"], level: str = "info", stream: TextIO | None = None) -> None:
    """Set up structlog, stdlib logging and `ovs.vlog` for the daemon. May be called again.

    `level` is one of LEVELS, or python-ovs' name for it (`dbg`, `warn`, `err`, `emer`); `stream` is stderr if
    not given. A logger on which `bind` was called before keeps structlog's defaults. Raises ValueError for an
    unknown level.
    """
    vlog_level = _VLOG_NAMES.get(level, level)
    if vlog_level not in _VLOG_NAMES.values():
        raise ValueError(f'log level "{level}" is not known: choose one of {", ".join(LEVELS)}')
    sink = _Sink(stream or sys.stderr)
    render: Processor = (
        structlog.processors.JSONRenderer(default=str)
        if log_format == "json"
        else _Console(colours=sink.stream.isatty() and not os.environ.get("NO_COLOR"))
    )
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    line: list[Processor] = [stamp, structlog.processors.format_exc_info, _in_order, render]
    structlog.configure(
        processors=[_drop_below_level, structlog.processors.add_log_level, *line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_: sink,
    )

    def write(event: dict[str, Any]) -> None:
        record: Any = event
        for processor in line:
            record = processor(None, "", record)
        sink.msg(record)

    _route_stdlib(_Bridge(write))
    _route_vlog(vlog_level)


class _Sink:
    """Where lines go; in structlog's words, the wrapped logger. A log that cannot be written stops nobody."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        # ValueError: the stream has been closed.
        with self._lock, contextlib.suppress(OSError, ValueError):
            self.stream.write(line + "\n")
            self.stream.flush()

    debug = info = warning = error = critical = msg


def _drop_below_level(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if not _ENABLED[method]():
        raise structlog.DropEvent
    return event


def _in_order(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    first = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    return {**first, **event}


_PLAIN: Final = (str, int, float, bytes, list, tuple, dict, set, frozenset)


class _Console:
    """`TIMESTAMP LEVEL EVENT KEY=VALUE ...`, values as `repr` writes them."""

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        fields = dict(event)
        level = fields.pop("level")
        padded = f"{level:<8}"
        if self._colours and level in _COLOURS:
            padded = f"{_COLOURS[level]}{padded}\033[0m"
        words = [fields.pop("timestamp"), padded, _printable(str(fields.pop("event")))]
        words += [f"{_printable(key)}={_quoted(value)}" for key, value in fields.items()]
        return " ".join(words)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _quoted(value: object) -> str:
    # What JSON has no type for is text there, so here too: '10.0.0.1' instead of IPv4Address('10.0.0.1').
    text = repr(value if value is None or isinstance(value, _PLAIN) else str(value))
    # Of a container's members any class may have written a repr with newlines in it.
    return text if text.isprintable() else text.encode("unicode_escape").decode()


class _Bridge(logging.Handler):
    """Passes records of stdlib logging on as events."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: dict[str, Any] = {
                "event": "library_log",
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
            if record.exc_info:
                event["exc_info"] = record.exc_info
            self._write(event)
        except Exception:  # noqa: BLE001  as every handler of stdlib logging does
            self.handleError(record)


def _route_stdlib(bridge: _Bridge) -> None:
    root = logging.getLogger()
    root.handlers = [bridge]
    root.setLevel(logging.WARNING)
    for name in _SILENT:
        logging.getLogger(name).disabled = True
    logging.getLogger("ovs").setLevel(logging.DEBUG)  # ovs.vlog has decided already
    logging.captureWarnings(capture=True)


def _route_vlog(our_level: str) -> None:
    """Let `ovs.vlog` write through stdlib logging, as ovsdbapp's `use_python_logger` does.

    Not by `Vlog.init`: that opens /dev/log and handlers of its own, and after it no module of python-ovs that
    creates a Vlog can be imported any more.
    """
    vlog = ovs.vlog.Vlog
    for name, vlog_name in _VLOG_NAMES.items():
        level = logging.getLevelNamesMapping()[name.upper()]
        setattr(vlog, vlog_name, _vlog_method(level, getattr(vlog, f"{vlog_name}_is_enabled")))
    # Of modules that are there already, and of those that are imported later.
    ovs.vlog.DESTINATIONS.update(console="err", syslog="off", file="off")
    for destination, level_name in ovs.vlog.DESTINATIONS.items():
        vlog.set_level("any", destination, level_name)
    vlog.set_level("ovnreserve", "console", our_level)


def _vlog_method(level: int, is_enabled: Callable[[Any], bool]) -> Callable[..., None]:
    def method(self: Any, message: str, **kwargs: Any) -> None:
        if is_enabled(self):
            logging.getLogger(f"ovs.{self.name}").log(level, message, **kwargs)

    return method
