"""The same application under Ray Serve, for more than one machine; needs ``pip install 'asr-bn[ray]'``.

    serve run serve.ray_app:build model=/models/model.onnx

Every setting of the server may be given like ``model``, or in the environment; Ray listens, so that ``host``,
``port`` and ``processes`` mean nothing.  Each replica has models, queue and metrics of its own.
"""

from typing import Any

from fastapi import FastAPI
from ray import serve as ray_serve
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.app import create_app
from serve.settings import Settings, load_settings


def build(arguments: dict[str, object]) -> ray_serve.Application:
    """Build a Ray Serve application.

    Args:
        arguments: settings by name, as ``serve run`` and a Serve config file (``args``) give them.

    Raises:
        ValueError: a setting is missing or has a bad value.
    """
    return deployment(load_settings(**arguments)).bind()


def deployment(settings: Settings) -> ray_serve.Deployment:
    """Make the deployment of a server with ``settings``; Ray's options set the number of replicas."""

    def app() -> FastAPI:
        made = create_app(settings)
        made.add_middleware(BytesBodies)
        return made

    options: dict[str, Any] = {
        "name": "asr-bn",
        # More than a replica accepts: it is the server itself that refuses, with 429 and Retry-After.
        "max_ongoing_requests": settings.max_queue + settings.max_uploads,
        "max_queued_requests": settings.max_queue,
        "graceful_shutdown_timeout_s": settings.grace_s,
        "ray_actor_options": {
            "num_cpus": settings.compute_threads,
            "num_gpus": int(settings.device == "cuda"),
        },
    }
    return ray_serve.deployment(**options)(ray_serve.ingress(app)())


class BytesBodies:
    """Makes bytes of answers' bodies: Ray sends them from process to process, which no memoryview survives.

    Args:
        app: the application inside.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_bytes(message: Message) -> None:
            if "body" in message:
                message["body"] = bytes(message["body"])
            await send(message)

        await self.app(scope, receive, send_bytes)
