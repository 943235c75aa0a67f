"""The server as a process: uvicorn with the settings' limits, one line when it is ready."""

import json
import os
import socket
from typing import Any

import uvicorn

from serve.app import create_app
from serve.service import Service
from serve.settings import ENV_PREFIX, Settings


class AnnouncingServer(uvicorn.Server):
    """Prints where it listens as soon as it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            at = f"[{host}]" if ":" in host else host
            print(f"asr-bn: ready at http://{at}:{port}", flush=True)


def serve(settings: Settings) -> int:
    """Serve until a signal comes; the exit code.

    Raises:
        ValueError, OSError: a model cannot be loaded, or the port is taken.
    """
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
    return {
        "host": settings.host,
        "port": settings.port,
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "timeout_keep_alive": 15,
        "timeout_graceful_shutdown": int(settings.grace_s),
        "backlog": 2048,
    }


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{host}:{port}") from error


def _serve_with_processes(settings: Settings) -> int:
    """uvicorn's supervisor: starts the processes, replaces those that die, passes signals on."""
    os.environ |= environment(settings)
    uvicorn.run("serve.app:app", workers=settings.processes, **_options(settings))
    return 0


def environment(settings: Settings) -> dict[str, str]:
    """The variables from which `serve.settings.load_settings` makes the same settings again."""
    values = settings.model_dump(mode="json", exclude_none=True)
    return {
        ENV_PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
        for name, value in values.items()
    }
