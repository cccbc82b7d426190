"""Fixtures of real servers. `ovn` is shared by all tests; a test that stops or kills takes `servers`."""

from __future__ import annotations

import itertools
import json
import subprocess
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sites import Site
from support import Result, ovnreserve

from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def ovn() -> Iterator[Servers]:
    """Servers shared by the whole session: leave them running and clean."""
    with Servers() as servers:
        yield servers


@pytest.fixture
def switch(ovn: Servers) -> Iterator[Callable[..., str]]:
    """`switch(subnet='10.16.0.0/24', **other_config) -> name`: a switch on `ovn`, gone after the test."""
    names: list[str] = []

    def create(subnet: str | None = "10.16.0.0/24", **other_config: str) -> str:
        name = f"switch-{next(_numbers)}"
        names.append(name)
        settings = ({} if subnet is None else {"subnet": subnet}) | other_config
        columns = [f"other_config:{key}={json.dumps(value)}" for key, value in settings.items()]
        ovn.nbctl("ls-add", name, *(["--", "set", "logical_switch", name, *columns] if columns else []))
        return name

    yield create
    for name in names:
        ovn.nbctl("--if-exists", "ls-del", name)


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Servers of this test's own, started; their parts may be stopped, killed and paused."""
    with Servers() as servers:
        yield servers


@pytest.fixture
def daemon(servers: Servers, tmp_path: Path) -> Iterator[Daemon]:
    """The daemon on `servers`, ready. Its log is shown when the test fails."""
    with Daemon(servers, tmp_path / "state") as daemon:
        try:
            yield daemon
        finally:
            print(daemon.log.read_text())


@pytest.fixture
def cli(daemon: Daemon) -> Callable[..., Result]:
    """`cli(*arguments, stdin='', timeout=60) -> Result(code, stdout, stderr)`: ovnreserve, on `daemon`."""
    return partial(ovnreserve, environment=daemon.client_environment)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, and a key and certificate signed by it."""
    directory = tmp_path_factory.mktemp("pki")
    openssl = partial(subprocess.run, cwd=directory, check=True, capture_output=True)
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(["openssl", "req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2"])
    openssl(["openssl", "req", *ec, "-keyout", "key.pem", "-out", "request.pem", "-subj", "/CN=127.0.0.1"])
    sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"]
    openssl(["openssl", "x509", "-req", "-in", "request.pem", *sign, "-out", "cert.pem"])
    return directory


@pytest.fixture(scope="session")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Servers of their own with a daemon, for the whole session. Tests take `site`, which cleans it up."""
    with Servers() as servers, Daemon(servers, tmp_path_factory.mktemp("site") / "state") as daemon:
        yield Site(servers, daemon, follow=True)


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """Servers and a daemon, without switches and reservations. The daemon's log is shown when the test fails."""
    logged = shared_site.daemon.log.stat().st_size
    yield shared_site
    print(shared_site.daemon.log.read_bytes()[logged:].decode())
    shared_site.clean()
