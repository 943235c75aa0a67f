"""LitServe with dynamic batching: ``python -m bench.peers.lit PORT``."""

import io
import os
import sys
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Request, Response

from asr_bn.system.arrays import Floats
from bench.peers.batch import npy, score


class Api(litserve.LitAPI):  # type: ignore[misc]
    """npy features in, npy log posteriors out."""

    def setup(self, device: str) -> None:
        """Load the model."""
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], providers=["CPUExecutionProvider"]
        )

    def decode_request(self, request: Request) -> Floats:
        """Return the features; LitServe reads forms and JSON, no other bodies."""
        return np.asarray(np.load(io.BytesIO(request["file"].file.read())))

    def batch(self, inputs: list[Floats]) -> list[Floats]:
        """Return the inputs as they come."""
        return list(inputs)

    def predict(self, x: Any) -> Any:
        """Score with one call."""
        return score(self.session, x)

    def unbatch(self, output: list[Floats]) -> list[Floats]:
        """Return the outputs as they came."""
        return output

    def encode_response(self, output: Floats) -> Response:
        """Return the answer's body."""
        return Response(npy(output), media_type="application/x-npy")


if __name__ == "__main__":
    api = Api(max_batch_size=8, batch_timeout=0.005, api_path="/v1/posteriors")
    litserve.LitServer(api, accelerator="cpu").run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False
    )
