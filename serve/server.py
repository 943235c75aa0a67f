"""The server as a process, or several: uvicorn with the settings' limits, one line when it is ready."""

import json
import os
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from asr_bn.system.files import naming_errors
from asr_bn.system.memory import keep_some_freed_memory
from serve.app import create_app
from serve.service.lifecycle import METRICS_PREFIX
from serve.service.metrics import MULTIPROCESS_VARIABLE
from serve.service.models import model_files
from serve.service.service import Service
from serve.settings import ENV_PREFIX, Settings
from serve.transport.connections import Connection, ConnectionLimits
from serve.transport.standard_error import keep_writers_from_waiting

HEALTH_CHECK_S = 15
# As `keep_some_freed_memory`: in a process of several, uvicorn's thread starts before any code of ours runs.
_ONE_ARENA = {"MALLOC_ARENA_MAX": "1"}


class AnnouncingServer(uvicorn.Server):
    """Prints where it listens as soon as it does; ends by a signal as by itself, with exit status 0."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then print the address."""
        await super().startup(sockets)
        if self.started:
            announce(self.servers[0].sockets[0])

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at once with a second Ctrl-C."""
        # Not as uvicorn, which raises the signal again at the end, so that the process would not exit with 0.
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


class Supervisor(Multiprocess):
    """uvicorn's: starts the processes, replaces those that die or hang, passes signals on.

    Args:
        config: of each process.
        listener: the socket that they share.
        metrics_dir: where they keep what they count.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket, metrics_dir: str) -> None:
        super().__init__(config, [listener])
        self.metrics_dir = metrics_dir
        self.failed = False

    def init_processes(self) -> None:
        """Start one process; when it listens, say so and start the others.

        So what keeps them from starting is said once.
        """
        first = Process(self.config, self.sockets)
        first.start()
        self.processes.append(first)
        while not first.is_ready(timeout=0.5):
            if self.signal_queue:
                return
            if not first.process.is_alive():
                self.failed = True
                self.should_exit.set()
                return
        announce(self.sockets[0])
        for _ in range(1, self.processes_num):
            self.processes.append(Process(self.config, self.sockets))
            self.processes[-1].start()

    def terminate_all(self) -> None:
        """End the processes, and close the port: who connects now is refused, not kept waiting for nobody."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()  # the processes have it open until they have ended their delay

    def keep_subprocess_alive(self) -> None:
        """Replace what died, and take its gauges out of the metrics; what it has counted stays."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid, self.metrics_dir)  # type: ignore[no-untyped-call]


def announce(listener: socket.socket) -> None:
    """Print where the server listens."""
    host, port = listener.getsockname()[:2]
    at = f"[{host}]" if ":" in host else host
    line = f"asr-bn: ready at http://{at}:{port}\n"
    # Not printed: standard output may be closed, or its disk full, which is no reason not to serve.
    with suppress(OSError):
        if sys.stdout is not None:
            os.write(sys.stdout.fileno(), line.encode())


def serve(settings: Settings) -> int:
    """Serve until a signal comes, and return the exit status.

    Raises:
        ValueError, OSError: a model cannot be loaded, or the port is taken.
    """
    keep_some_freed_memory()
    keep_writers_from_waiting(also_native=settings.processes == 1)
    if settings.processes > 1:
        return _serve_with_processes(settings)
    service = Service(settings)
    service.load()
    config = uvicorn.Config(create_app(settings, service), **_options(settings))
    listener = _listen(settings.host, settings.port)
    try:
        AnnouncingServer(config).run([listener])
    finally:
        listener.close()
    return 0


def _options(settings: Settings) -> dict[str, Any]:
    limits = ConnectionLimits(
        settings.max_connections, settings.head_timeout_s, settings.body_timeout_s, settings.send_timeout_s
    )
    return {
        "http": partial(Connection, limits),
        "ws": "none",
        "host": settings.host,
        "port": settings.port,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": 15,
        "timeout_graceful_shutdown": settings.grace_s,
        "timeout_worker_healthcheck": HEALTH_CHECK_S,
        "backlog": 2048,
    }


def _listen(host: str, port: int) -> socket.socket:
    with naming_errors(f"{host}:{port}"):
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)


def _serve_with_processes(settings: Settings) -> int:
    model_files(settings.model, settings.model_name)  # what is missing is said once, not by every process
    config = uvicorn.Config("serve.app:app", workers=settings.processes, **_options(settings))
    # In memory where there is such a folder: where a disk is full, writing to a mapped file ends the process.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with (
        _listen(settings.host, settings.port) as listener,
        tempfile.TemporaryDirectory(prefix=METRICS_PREFIX, dir=memory) as folder,
    ):
        os.environ |= environment(settings) | {MULTIPROCESS_VARIABLE: folder, **_ONE_ARENA}
        supervisor = Supervisor(config, listener, folder)
        supervisor.run()
    return int(supervisor.failed)


def environment(settings: Settings) -> dict[str, str]:
    """Return variables from which `serve.settings.load_settings` makes the same settings."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return {
        ENV_PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }
