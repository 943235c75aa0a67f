"""Ray Serve with ``@serve.batch``: ``python -m bench.peers.ray_batch PORT``."""

import io
import os
import sys
import time

import numpy as np
import onnxruntime
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from asr_bn.system.arrays import Floats
from bench.peers.batch import npy, score


@serve.deployment(max_ongoing_requests=128)
class Api:
    """npy features in, npy log posteriors out."""

    def __init__(self) -> None:
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], providers=["CPUExecutionProvider"]
        )

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.005)  # type: ignore[untyped-decorator]
    async def score(self, feats: list[Floats]) -> list[Floats]:
        """Score with one call."""
        return score(self.session, feats)

    async def __call__(self, request: Request) -> Response:
        """Return log posteriors of one utterance."""
        feats = np.load(io.BytesIO(await request.body()))
        return Response(npy(await self.score(feats)), media_type="application/x-npy")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Api.bind(), route_prefix="/v1/posteriors")
    while True:
        time.sleep(60)
