"""What the JSON answers look like, for the OpenAPI document."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Output = Literal["log_posterior", "posterior", "log_likelihood"]


class Posteriors(BaseModel):
    """Framewise scores of one utterance."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "utt_id": "utterance",
                "model": "model",
                "version": "1",
                "output": "posterior",
                "num_frames": 2,
                "num_pdfs": 96,
                "frame_shift_ms": 10.0,
                "pdf_ids": [[3, 17], [3, 4]],
                "values": [[0.91, 0.05], [0.87, 0.11]],
            }
        }
    )

    utt_id: str
    model: str
    version: str
    output: Output
    num_frames: int
    num_pdfs: int
    frame_shift_ms: float
    pdf_ids: Annotated[
        list[list[int]] | None, Field(description="with top_k: of each frame, the pdf-ids, best first")
    ] = None
    values: Annotated[
        list[list[float]], Field(description="[num_frames, num_pdfs]; with top_k [num_frames, top_k]")
    ]


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Health(BaseModel):
    """A yes."""

    status: str
