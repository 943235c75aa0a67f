"""The handler that one writes first: FastAPI, one session, one utterance a call."""

import io
import os

import numpy as np
import onnxruntime
from fastapi import FastAPI, Request, Response

session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], providers=["CPUExecutionProvider"])
app = FastAPI()


def score(body: bytes) -> bytes:
    """Answer npy features with npy log posteriors."""
    feats = np.load(io.BytesIO(body))
    inputs = {"features": feats[None], "lengths": np.array([len(feats)], np.int32)}
    stream = io.BytesIO()
    np.save(stream, session.run(None, inputs)[0][0])
    return stream.getvalue()


@app.post("/v1/posteriors")
async def posteriors(request: Request) -> Response:
    """Return log posteriors of one utterance."""
    from fastapi.concurrency import run_in_threadpool

    return Response(await run_in_threadpool(score, await request.body()), media_type="application/x-npy")
