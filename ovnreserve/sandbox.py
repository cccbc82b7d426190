"""A private OVN in one directory: two ovsdb-servers, ovn-northd and ovnreserved, for trying and for tests.

Every child has its own log in the directory and its own process group, so that Ctrl-C reaches only us and the
children are stopped in order. Ready means that the child has answered or has said so; no time is guessed.

Children must not outlive us, even when we are killed: each is started through setpriv(1), which asks the
kernel to kill the child when the thread that started it ends (PR_SET_PDEATHSIG), and then becomes the child.
The same call in Popen's preexec_fn would run Python between fork and exec, which can deadlock in a process
with threads. So start children from a thread that lives as long as they shall.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

READY_WITHIN = 30.0  # seconds; tenths of one are usual, but a machine may be busy
STOP_WITHIN = 5.0
LONGEST_SOCKET_PATH = 107  # unix(7): sun_path holds 108 bytes with the closing NUL
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# These would lead a command to the user's real cloud, or a daemon to the user's service manager.
_LEADS_ASTRAY = (
    *("OVN_NB_DAEMON", "OVN_SB_DAEMON", "OVN_NBCTL_OPTIONS", "OVN_SBCTL_OPTIONS"),
    *("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"),
)


class SandboxError(Exception):
    """The sandbox cannot be started or one of its programs failed; the message says which and why."""


def find_program(name: str, package: str = "ovn-central") -> str:
    """The program's path, also where only root has it in PATH; SandboxError names the package to install."""
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if path is None:
        raise SandboxError(f"{name}: not found (install {package})")
    return path


def find_schema(name: str) -> Path:
    """The path of one of OVN's schema files."""
    for place in (os.environ.get("OVN_PKGDATADIR"), "/usr/share/ovn", "/usr/local/share/ovn"):
        if place and (path := Path(place, name)).is_file():
            return path
    raise SandboxError(f"{name}: not found (install ovn-central)")


def clean_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what would lead a child to servers outside the sandbox, and with `more`."""
    return {name: value for name, value in os.environ.items() if name not in _LEADS_ASTRAY} | dict(more)


class Process:
    """One child: started and awaited, stopped within a bound, killed with us. It can be started again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        ready: Callable[[], bool],
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self.environment = dict(environment)
        self._ready = ready
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        return self._started().pid

    @property
    def alive(self) -> bool:
        """Whether it has been started and has not ended; a paused one is alive."""
        return self._popen is not None and self._popen.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it, appending to its log, and wait until it is ready unless told not to."""
        if self.alive:
            raise SandboxError(f"{self.name}: runs already, pid {self.pid}")
        tied = [find_program("setpriv", "util-linux"), "--pdeathsig", "KILL", "--"]
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*tied, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                process_group=0,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout: float = READY_WITHIN) -> None:
        """Return once it is ready; SandboxError, with the end of its log, when it ends or is late."""
        deadline = time.monotonic() + timeout
        while not self._ready():
            if self._ended(within=0.005):
                raise self.failure(f"ended with status {self._started().returncode} before it was ready")
            if time.monotonic() > deadline:
                raise self.failure(f"not ready within {timeout:g} s")

    def stop(self, timeout: float = STOP_WITHIN) -> int:
        """SIGTERM, also when paused, then SIGKILL if it takes too long. Returns the status as Popen does."""
        popen = self._started()
        popen.terminate()
        popen.send_signal(signal.SIGCONT)
        if not self._ended(within=timeout):
            popen.kill()
        return popen.wait()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        popen = self._started()
        popen.kill()
        popen.wait()

    def pause(self) -> None:
        """SIGSTOP: it keeps its sockets and locks and does nothing from now on: each of its threads has stopped."""
        popen = self._started()
        popen.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, popen.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        self._started().send_signal(signal.SIGCONT)

    def failure(self, what: str) -> SandboxError:
        """An error that says what happened and shows the end of the log."""
        with contextlib.suppress(FileNotFoundError):
            lines = self.log.read_text(errors="replace").splitlines()[-20:]
            return SandboxError("\n  ".join([f"{self.name}: {what}; the end of {self.log}:", *lines]))
        return SandboxError(f"{self.name}: {what}")

    def _started(self) -> subprocess.Popen[bytes]:
        if self._popen is None:
            raise SandboxError(f"{self.name}: not started")
        return self._popen

    def _ended(self, within: float) -> bool:
        try:
            self._started().wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True


class Servers:
    """The servers of an OVN: both databases and ovn-northd in one directory, a temporary one unless given.

    A given directory keeps its databases for the next start; a temporary one is removed by stop().
    `extra_remotes` are further remotes of the northbound server such as `ptcp:0:127.0.0.1`: port 0 becomes a
    free port, which stays the same through restarts, and `nb_remotes` names them all as a client does.
    `nb_options` go to the northbound server as they are.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        extra_remotes: Sequence[str] = (),
        nb_options: Sequence[str] = (),
    ) -> None:
        for name in ("ovsdb-server", "ovsdb-tool", "ovn-northd", "ovn-nbctl"):
            find_program(name)
        self._temporary = directory is None
        if directory is None:
            _check_length(Path(tempfile.gettempdir(), "ovnreserve-12345678"))
            directory = Path(tempfile.mkdtemp(prefix="ovnreserve-"))
        self.run_dir = directory.absolute()
        _check_length(self.run_dir)
        self.nb = f"unix:{self.run_dir}/ovnnb_db.sock"
        self.sb = f"unix:{self.run_dir}/ovnsb_db.sock"
        self.environment = {
            "OVN_NB_DB": self.nb,
            "OVN_SB_DB": self.sb,
            "OVN_RUNDIR": str(self.run_dir),
            "OVNRESERVE_SERVER": f"{self.run_dir}/ovnreserved.sock",
        }
        self.nb_remotes = [self.nb]
        self._held: list[socket.socket] = []
        remotes = [f"--remote={self._settle(remote)}" for remote in extra_remotes]
        self.nb_server = self._server("ovnnb", [*remotes, *nb_options])
        self.sb_server = self._server("ovnsb", [])
        # With this pidfile and no --unixctl of its own, `ovn-appctl -t ovn-northd` finds it.
        pidfile = f"--pidfile={self.run_dir}/ovn-northd.pid"
        options = [pidfile, f"--ovnnb-db={self.nb}", f"--ovnsb-db={self.sb}"]
        self.northd = self._process("ovn-northd", "ovn-northd", options, self._northd_answers)

    @property
    def children(self) -> tuple[Process, ...]:
        return (self.nb_server, self.sb_server, self.northd)

    def start(self) -> None:
        """Start all and return once ovn-northd has been through both databases."""
        self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._create("ovnnb", "ovn-nb.ovsschema")
            self._create("ovnsb", "ovn-sb.ovsschema")
            self.nb_server.start(wait=False)
            self.sb_server.start()
            self.nb_server.wait_ready()
            self.northd.start()
            self.nbctl("--wait=sb", "sync")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what runs, the last started first, and remove the directory if it is a temporary one."""
        for child in reversed(self.children):
            if child.alive:
                child.stop()
        if self._temporary:
            shutil.rmtree(self.run_dir, ignore_errors=True)

    def nbctl(self, *arguments: str, stdin: str | None = None, timeout: float = 30) -> str:
        """What ovn-nbctl prints; SandboxError with its standard error when it fails."""
        options = (f"--db={self.nb}", f"--timeout={max(1, round(timeout))}")
        return self._run("ovn-nbctl", *options, *arguments, stdin=stdin or "", timeout=timeout + 5)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _server(self, name: str, options: Sequence[str]) -> Process:
        path = self.run_dir / f"{name}_db.sock"
        arguments = [f"--unixctl={self.run_dir}/{name}_db.ctl", f"--pidfile={self.run_dir}/{name}_db.pid"]
        arguments += [f"--remote=punix:{path}", *options, f"{self.run_dir}/{name}_db.db"]
        return self._process("ovsdb-server", name, arguments, lambda: _answers(path, "list_dbs"))

    def _process(self, program: str, name: str, options: Sequence[str], ready: Callable[[], bool]) -> Process:
        command = [find_program(program), "-vconsole:info", "-vfile:off", "-vsyslog:off", *options]
        title = program if name == program else f"{program} ({name})"
        log = self.run_dir / f"{name}.log"
        return Process(title, command, log, clean_environment(self.environment), ready)

    def _northd_answers(self) -> bool:
        return _answers(self.run_dir / f"ovn-northd.{self.northd.pid}.ctl", "status")

    def _create(self, name: str, schema: str) -> None:
        """Create the database unless it is there from an earlier run."""
        if not (database := self.run_dir / f"{name}_db.db").exists():
            self._run("ovsdb-tool", "create", str(database), str(find_schema(schema)))

    def _run(self, program: str, *arguments: str, stdin: str = "", timeout: float = READY_WITHIN) -> str:
        done = subprocess.run(
            [find_program(program), *arguments],
            input=stdin,
            env=clean_environment(self.environment),
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SandboxError(done.stderr.strip() or f"{program}: ended with status {done.returncode}")
        return done.stdout

    def _settle(self, remote: str) -> str:
        """The remote with a port if it says port 0. Notes how clients call it."""
        kind, _, rest = remote.partition(":")
        if kind in {"ptcp", "pssl"}:
            port, _, host = rest.partition(":")
            if port == "0":
                # Held, bound but not listening: the kernel gives this port to nobody else, yet lets
                # ovsdb-server listen on it, again and again, since both set SO_REUSEADDR.
                held = socket.socket()
                held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                held.bind((host, 0))
                self._held.append(held)
                port = str(held.getsockname()[1])
            remote, rest = f"{kind}:{port}:{host}", f"{host}:{port}"
        self.nb_remotes.append(f"{kind.removeprefix('p')}:{rest}")
        return remote


class Daemon(Process):
    """The daemon ovnreserved on these servers, ready when it has said READY=1.

    It runs in the servers' run directory unless another is given. `messages` holds what it has told its
    service manager since it was started, one sd_notify(3) assignment each; `client_environment` leads
    commands to this daemon. `program` is what Python is to run in place of the daemon's module.
    """

    def __init__(
        self,
        servers: Servers,
        state_dir: Path,
        *arguments: str,
        run_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-m", "ovnreserve.daemon"),
    ) -> None:
        self.run_dir = run_dir.absolute() if run_dir else servers.run_dir
        _check_length(self.run_dir)
        self.state_dir = state_dir
        self.messages: list[str] = []
        self.client_environment = servers.environment | {
            "OVN_RUNDIR": str(self.run_dir),
            "OVNRESERVE_SERVER": f"{self.run_dir}/ovnreserved.sock",
        }
        self._notify = self.run_dir / "notify"
        self._listener: threading.Thread | None = None
        command = [
            *(sys.executable, *program, "--db", servers.nb),
            *("--run-dir", str(self.run_dir), "--state-dir", str(state_dir), *arguments),
        ]
        ours = {**self.client_environment, "NOTIFY_SOCKET": str(self._notify), **(environment or {})}
        log = self.run_dir / "ovnreserved.log"
        super().__init__("ovnreserved", command, log, clean_environment(ours), self._said_ready)

    def start(self, *, wait: bool = True) -> None:
        if not self.alive:
            self._stop_listening()
            for directory in (self.run_dir, self.state_dir):
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._notify.unlink(missing_ok=True)
            notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            notify.bind(str(self._notify))
            self.messages = []
            self._listener = threading.Thread(target=_collect, args=(notify, self.messages), daemon=True)
            self._listener.start()
        super().start(wait=wait)

    def stop(self, timeout: float = STOP_WITHIN) -> int:
        status = super().stop(timeout)
        self._stop_listening()
        return status

    def kill(self) -> None:
        super().kill()
        self._stop_listening()

    def __enter__(self) -> Self:
        try:
            if not self.alive:
                self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self.stop()
        self._stop_listening()

    def _said_ready(self) -> bool:
        return "READY=1" in self.messages

    def _stop_listening(self) -> None:
        """Let the listener read what has arrived, and end."""
        if self._listener is not None:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
                ours.sendto(b"", str(self._notify))
            self._listener.join()
            self._listener = None


def _collect(notify: socket.socket, messages: list[str]) -> None:
    """Read notifications up to an empty one. Somebody has to: a full queue would block the daemon."""
    with notify:
        while text := notify.recv(65536):
            messages += text.decode(errors="replace").splitlines()


def _answers(path: Path, method: str) -> bool:
    """Whether somebody at this Unix socket answers JSON-RPC."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(json.dumps({"method": method, "params": [], "id": 0}).encode())
            return client.recv(1) != b""
        except OSError:
            return False


def _check_length(directory: Path) -> None:
    longest = directory / "ovnreserved.4194304.ctl"
    if (length := len(os.fsencode(longest))) > LONGEST_SOCKET_PATH:
        raise SandboxError(
            f"{directory}: path too long: a Unix socket in it would have {length} characters, "
            f"{LONGEST_SOCKET_PATH} are allowed"
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(1, f"{self.format_usage()}ovnreserve: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """`ovnreserve sandbox`: run all until told to stop, or while a command runs. Returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    at = arguments.index("--") if "--" in arguments else len(arguments)
    parser = _Parser(
        prog="ovnreserve sandbox",
        usage="%(prog)s [--dir DIR] [-- COMMAND...]",
        description="Run a private OVN and ovnreserved in one directory, for trying. Prints the environment "
        "to use; with COMMAND, runs it in that environment and exits with its status.",
    )
    parser.add_argument("--dir", type=Path, help="keep everything in DIR (default: a temporary directory)")
    options = parser.parse_args(arguments[:at])
    for number in _STOP_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        return _serve(options.dir, arguments[at + 1 :])
    except KeyboardInterrupt:
        return 0
    except SandboxError as error:
        problem = str(error)
    except OSError as error:
        problem = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    except subprocess.TimeoutExpired as error:
        problem = f"{Path(error.cmd[0]).name}: no answer within {error.timeout:g} s"
    print(f"ovnreserve: {problem}", file=sys.stderr)
    return 1


def _serve(directory: Path | None, command: Sequence[str]) -> int:
    servers = Servers(directory)
    with servers, Daemon(servers, servers.run_dir / "state") as daemon:
        if command:
            return _run_command(command, clean_environment(servers.environment))
        for name in _LEADS_ASTRAY:
            if name in os.environ:
                print(f"unset {name}")
        for name, value in servers.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        print(f"# Everything runs until Ctrl-C here, or: kill {os.getpid()}", flush=True)
        children = (*servers.children, daemon)
        while all(child.alive for child in children):
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        raise next(child for child in children if not child.alive).failure("ended unexpectedly")


def _run_command(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the command in the foreground; its status, or 128 and the signal's number, as shells have it."""
    # The terminal sends Ctrl-C to the command too. Like a shell we leave the answer to it and wait for it. All is
    # arranged before the command is there: it may be answered, or stopped, in its first moment.
    early: list[int] = []
    signal.signal(signal.SIGINT, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: early.append(number))
    try:
        child = subprocess.Popen(command, env=environment)
    except (FileNotFoundError, PermissionError) as error:
        print(f"ovnreserve: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: child.send_signal(number))
    for signalled in early:
        child.send_signal(signalled)
    status = child.wait()
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    return status if status >= 0 else 128 - status


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Stop, once: further signals shall not interrupt the stopping, which is bounded."""
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
