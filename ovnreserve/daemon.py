"""ovnreserved: options, wiring, signals, systemd.

Threads: this one (signals, appctl), the API's, and the engine's. Signal handlers only set a flag; the engine finishes
what is under way. A second process, the watchdog, kills this one should the engine hang.
"""

from __future__ import annotations

import ovnreserve.log  # isort: skip  (before whatever else imports structlog)

import argparse
import gc
import os
import re
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, NoReturn

import structlog

from ovnreserve import __version__
from ovnreserve.api import limits, server
from ovnreserve.api.app import Api
from ovnreserve.api.appctl import Appctl
from ovnreserve.engine import Engine, Entry
from ovnreserve.engine.writer import IDLE, QUARANTINE
from ovnreserve.ledger.journal import DEFAULT_KEEP, Keep, parse_keep
from ovnreserve.ledger.ledger import Ledger, LedgerError, LedgerLost
from ovnreserve.model.errors import Unavailable
from ovnreserve.northbound.connection import Northbound, use_tls
from ovnreserve.service import AlreadyRunning, Notifier, Pidfile
from ovnreserve.watchdog import Watchdog

_log = structlog.get_logger(__name__)

PROGRAM: Final = "ovnreserved"
DEFAULT_RUN_DIR: Final = "/run/ovn"
DEFAULT_STATE_DIR: Final = "/var/lib/ovnreserve"
WATCHDOG: Final = 30.0
SHORTEST_WATCHDOG: Final = 1.0
SQUATTERS: Final = ("report", "block")
BEAT: Final = 1.0
"""Seconds from one sign of life of the engine to the next."""
BEATS: Final = 5
"""At least so many of them in the time that somebody waits for one."""


class Options(NamedTuple):
    """What the daemon was told, by command line over configuration file over environment."""

    db: str
    private_key: str | None
    certificate: str | None
    ca_cert: str | None
    leader_only: bool
    run_dir: Path
    state_dir: Path
    log_format: str
    log_level: str
    quarantine: float
    journal_keep: Keep
    squatters: str
    adopt_database: bool
    keep_vm_ip: bool
    watchdog: float


class UsageError(Exception):
    """Something in the options is wrong; the message says what."""


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)?").fullmatch
_CONFIG: Final[dict[str, type]] = {
    "db": str,
    "private_key": str,
    "certificate": str,
    "ca_cert": str,
    "leader_only": bool,
    "run_dir": str,
    "state_dir": str,
    "log_format": str,
    "log_level": str,
    "quarantine": str,
    "journal_keep": str,
    "squatters": str,
    "watchdog": str,
    "keep_vm_ip": bool,
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """As every daemon of OVN: exit status 1, not argparse's 2."""
        self.print_usage(sys.stderr)
        self.exit(1, f"{PROGRAM}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Reserve IP addresses for named Pods and VMs in OVN's northbound database.",
    )
    parser.add_argument(
        "--db",
        "--ovnnb-db",
        metavar="REMOTES",
        help="northbound database; a comma list for a cluster "
        "(default: $OVN_NB_DB, else unix:$OVN_RUNDIR/ovnnb_db.sock)",
    )
    parser.add_argument("-p", "--private-key", metavar="FILE", help="private key for ssl: remotes")
    parser.add_argument("-c", "--certificate", metavar="FILE", help="certificate for ssl: remotes")
    parser.add_argument("-C", "--ca-cert", metavar="FILE", help="certificate authority for ssl: remotes")
    parser.add_argument(
        "--no-leader-only",
        dest="leader_only",
        action="store_false",
        default=None,
        help="also use cluster members that are not the leader",
    )
    parser.add_argument("--run-dir", metavar="DIR", help="sockets and pidfile (default: $OVN_RUNDIR, else /run/ovn)")
    parser.add_argument("--state-dir", metavar="DIR", help="the ledger (default: /var/lib/ovnreserve)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="options as TOML; an unknown key is an error")
    parser.add_argument("--log-format", choices=["console", "json"])
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
    parser.add_argument(
        "--quarantine",
        metavar="TIME",
        help="how long a released address is not chosen while others are free, such as 300s or 5m (default: 5m)",
    )
    parser.add_argument(
        "--journal-keep",
        metavar="AGE,COUNT",
        help="how long the journal's entries about what is gone are kept, such as 90d, 100000 (so many of the last), "
        f"90d,100000 or all (default: {DEFAULT_KEEP})",
    )
    parser.add_argument(
        "--squatters",
        choices=SQUATTERS,
        help="whether a workload's port that has what is reserved for another is only reported, or also disabled until "
        "it has it no more (default: report)",
    )
    parser.add_argument(
        "--adopt-database",
        action="store_true",
        help="publish the ledger also to a database that knows nothing of it: needed once, after such a change",
    )
    parser.add_argument(
        "--keep-vm-ip",
        action="store_true",
        default=None,
        help="keep the address of a VM when its port goes, until its VirtualMachine is deleted "
        "(default: $ENABLE_KEEP_VM_IP, else false)",
    )
    parser.add_argument(
        "--watchdog",
        metavar="TIME",
        help="kill the daemon when its engine has hung that long, so that another one takes over; at least 1s, "
        f"0 for never (default: {WATCHDOG:g}s)",
    )
    parser.add_argument("--check-config", action="store_true", help="check the options and exit")
    parser.add_argument("-V", "--version", action="version", version=f"{PROGRAM} (ovnreserve) {__version__}")
    return parser


def options_of(arguments: Sequence[str]) -> tuple[Options, bool]:
    """(options, only check them). Raises UsageError; argparse exits by itself."""
    given = _parser().parse_args(arguments)
    config = _read_config(given.config) if given.config else {}

    def pick(key: str, default: Any) -> Any:
        value = getattr(given, key)
        return value if value is not None else config.get(key, default)

    run_dir = pick("run_dir", os.environ.get("OVN_RUNDIR") or DEFAULT_RUN_DIR)
    db = pick("db", os.environ.get("OVN_NB_DB") or f"unix:{run_dir}/ovnnb_db.sock")
    for remote in db.split(","):
        if not re.match(r"(unix|tcp|ssl):.", remote):
            raise UsageError(f"--db: {remote!r} is no remote such as unix:FILE, tcp:HOST:PORT or ssl:HOST:PORT")
    options = Options(
        db, pick("private_key", None), pick("certificate", None), pick("ca_cert", None), pick("leader_only", True),
        Path(run_dir).absolute(), Path(pick("state_dir", DEFAULT_STATE_DIR)).absolute(), pick("log_format", "console"),
        pick("log_level", "info"), _seconds("--quarantine", pick("quarantine", f"{QUARANTINE:g}s")),
        _keep("--journal-keep", pick("journal_keep", DEFAULT_KEEP)), pick("squatters", "report"), given.adopt_database,
        pick("keep_vm_ip", _is_true("ENABLE_KEEP_VM_IP")),
        _seconds("--watchdog", pick("watchdog", f"{WATCHDOG:g}s")),
    )  # fmt: skip
    if 0 < options.watchdog < SHORTEST_WATCHDOG:
        raise UsageError(f"--watchdog: at least {SHORTEST_WATCHDOG:g}s, or 0 for none")
    tls = (options.private_key, options.certificate, options.ca_cert)
    if "ssl:" in db and not all(tls):
        raise UsageError("ssl: remotes need --private-key, --certificate and --ca-cert")
    for file in tls:
        if file and not os.access(file, os.R_OK):
            raise UsageError(f"{file}: cannot be read")
    if options.log_format not in ("console", "json") or options.log_level not in ("debug", "info", "warning", "error"):
        raise UsageError("log_format is console or json, log_level debug, info, warning or error")
    if options.squatters not in SQUATTERS:
        raise UsageError(f"squatters is {' or '.join(SQUATTERS)}, not {options.squatters!r}")
    return options, given.check_config


def _is_true(variable: str) -> bool:
    """What an environment variable says, as kube-ovn's installer takes it."""
    text = os.environ.get(variable, "").lower()
    if text not in ("", "true", "false", "1", "0"):
        raise UsageError(f"{variable}: true or false, not {text!r}")
    return text in ("true", "1")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    for key, value in config.items():
        if key not in _CONFIG:
            raise UsageError(f"{path}: unknown key {key!r} (known: {', '.join(sorted(_CONFIG))})")
        if type(value) is not _CONFIG[key]:
            what = "true or false" if _CONFIG[key] is bool else "a string in quotes"
            raise UsageError(f"{path}: {key}: must be {what}, not {value!r}")
    return config


def _seconds(option: str, text: str) -> float:
    match = _DURATION(text)
    if match is None:
        raise UsageError(f"{option}: {text!r} is no time such as 300s or 5m")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]


def _keep(option: str, text: str) -> Keep:
    try:
        return parse_keep(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


SWITCH_INTERVAL: Final = 0.0002
"""Seconds after which a thread that computes lets another one run. At Python's own 5 ms the API's thread waits that
long at each of its system calls while the engine computes, and the other way round."""

GC_THRESHOLDS: Final = (10_000, 10, 1_000_000)
"""Collect what is young often, and what is old when there is nothing else to do (`_tidy`): nearly nothing of what we
keep is in cycles, and a full collection with 20k reservations stops everything for 50 ms and more."""

TIDY_EVERY: Final = 30.0
TIDY_AFTER: Final = 1.0


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point. Exits 0 after SIGTERM, SIGINT or `ovn-appctl exit`, 1 if it could not run."""
    try:
        options, check_only = options_of(sys.argv[1:] if arguments is None else arguments)
        if check_only:
            return
        ovnreserve.log.configure("json" if options.log_format == "json" else "console", options.log_level)
        os.umask(0o077)
        # Before there are threads, which a fork does not copy, and locks, which it would share.
        watchdog = Watchdog(options.watchdog) if options.watchdog else None
        options.run_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        with Pidfile(options.run_dir):
            limits.raise_descriptor_limit()
            sys.setswitchinterval(SWITCH_INTERVAL)
            gc.set_threshold(*GC_THRESHOLDS)
            use_tls(options.private_key, options.certificate, options.ca_cert)
            sys.exit(_Daemon(options, watchdog).run())
    except (UsageError, AlreadyRunning, LedgerError, LedgerLost) as error:
        sys.exit(_failed(str(error)))
    except OSError as error:
        sys.exit(_failed(f"{error.filename or 'socket'}: {error.strerror or error}"))


def _failed(message: str) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return 1


def _beat_every(watchdog: float, service: float | None) -> float:
    """Seconds from one sign of life to the next, for our own watchdog (0: none) and the service manager's interval."""
    patience = [watchdog] if watchdog else []
    if service is not None:
        patience.append(2 * service)
    return min(BEAT, min(patience) / BEATS) if patience else IDLE


class _Daemon:
    """One run: the parts, started in the order in which they need each other, stopped in reverse."""

    def __init__(self, options: Options, watchdog: Watchdog | None) -> None:
        self._notifier = Notifier()
        self._watchdog = watchdog
        self._beat_every = _beat_every(options.watchdog, self._notifier.watchdog_interval)
        self._beat_at = 0.0
        self._options = options
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stop = threading.Event()
        self._code = 0
        self._announced = False
        self._tidied = 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ledger_path = options.state_dir / "ledger.db"
        socket_path = options.run_dir / f"{PROGRAM}.sock"
        writer = f"{socket.gethostname()} (pid {os.getpid()}, {socket_path})"
        self._engine = Engine(
            Ledger(ledger_path),
            Northbound(options.db, leader_only=options.leader_only, writer=writer, beat=self._beat),
            quarantine=options.quarantine,
            journal_keep=options.journal_keep,
            adopt_database=options.adopt_database,
            keep_vm_ip=options.keep_vm_ip,
            block_squatters=options.squatters == "block",
            on_state=self._on_state,
            beat=self._beat,
            beat_every=self._beat_every,
        )
        self._server = server.Server(
            server.listen(socket_path),
            socket_path,
            lambda: Api(self._engine, self._journal, self._copy_ledger, ledger_path, options.db).application(),
        )
        commands: dict[str, Callable[[list[str]], str]] = {
            "exit": self._appctl_exit,
            "status": self._appctl_status,
            "nb-connection-status": self._appctl_connection,
        }
        self._appctl = Appctl(options.run_dir / f"{PROGRAM}.{os.getpid()}.ctl", commands)
        self._thread = threading.Thread(target=self._run_engine, name="engine", daemon=True)

    def run(self) -> int:
        _log.info("starting", version=__version__, db=self._options.db, state_dir=str(self._options.state_dir))
        self._server.start()
        self._thread.start()
        self._notifier.status("waiting for the northbound database")
        while not self._stop.is_set():
            self._appctl.run()
            if self._stop.is_set():
                break
            self._appctl.block(self._wake_read, TIDY_EVERY)
            _drain(self._wake_read)
            self._tidy()
        self._notifier.stopping()
        _log.info("stopping")
        self._engine.stop()
        self._thread.join(10)
        self._server.stop()
        self._appctl.close()
        _log.info("stopped")
        return self._code

    def _journal(
        self, equal: Mapping[str, Sequence[str]], limit: int, *, tenures: bool = False
    ) -> list[tuple[int, Entry]]:
        """For the API, in any thread."""
        try:
            return self._engine.journal(equal, limit, tenures=tenures)
        except LedgerError as error:
            raise Unavailable(f"the journal cannot be read now: {error}", kind="events") from None

    def _copy_ledger(self) -> BinaryIO:
        """For the API, in any thread but one at a time."""
        try:
            return self._engine.copy_ledger()
        except LedgerError as error:
            raise Unavailable(str(error), kind="") from None

    def _tidy(self) -> None:
        """Collect old garbage while nobody waits, and keep what is left out of later collections."""
        now = time.monotonic()
        if now - self._tidied >= TIDY_EVERY and now - self._engine.published.busy_at >= TIDY_AFTER:
            self._tidied = now
            gc.collect()
            gc.freeze()

    def _run_engine(self) -> None:
        try:
            self._engine.run()
        except LedgerLost as error:
            _log.error("ledger_lost", error=str(error), hint="the daemon ends; when it starts again it puts this right")
            self._code = 1
        except BaseException:  # noqa: BLE001 - whatever it was: the daemon ends, and systemd starts it again
            _log.exception("engine_failed")
            self._code = 1
        if self._watchdog is not None:
            self._watchdog.close()  # the lock is given back: from here on nobody waits for us
        self._end()

    def _beat(self) -> None:
        """In the engine's thread: it does not hang. Told to whoever would end us otherwise, not more often than due."""
        now = time.monotonic()
        if now < self._beat_at:
            return
        self._beat_at = now + self._beat_every
        if self._watchdog is not None:
            self._watchdog.beat()
        if self._notifier.watchdog_interval is not None:
            self._notifier.watchdog()

    def _end(self) -> None:
        self._stop.set()
        os.write(self._wake_write, b"x")

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._end()

    def _on_state(self, state: str) -> None:
        """In the engine's thread: READY after the first comparison, STATUS on every change."""
        text = f"{state}: {self._options.db}"
        if state in ("active", "standby") and not self._announced:
            self._announced = True
            self._notifier.ready(text)
        else:
            self._notifier.status(text)

    def _appctl_exit(self, _arguments: list[str]) -> str:
        self._stop.set()
        return ""

    def _appctl_status(self, _arguments: list[str]) -> str:
        return f"Status: {self._engine.published.state}\n"

    def _appctl_connection(self, _arguments: list[str]) -> str:
        return "not connected\n" if self._engine.published.state == "disconnected" else "connected\n"


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        os.read(descriptor, 4096)


if __name__ == "__main__":
    main()
