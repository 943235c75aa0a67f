"""What JSON bodies and answers look like, for the OpenAPI document."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from asr_bn.scoring.levels import Level

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
    num_pdfs: Annotated[int | None, Field(description="of level pdf: columns")] = None
    num_phones: Annotated[int | None, Field(description="of other levels: columns")] = None
    frame_shift_ms: float
    level: Annotated[Level | None, Field(description="absent: pdf")] = None
    names: Annotated[list[str] | None, Field(description="of phones: the columns")] = None
    pdf_ids: Annotated[
        list[list[int]] | None, Field(description="with top_k: of each frame, the pdf-ids, best first")
    ] = None
    phones: Annotated[
        list[list[str]] | None, Field(description="with top_k of phones: their names, best first")
    ] = None
    values: Annotated[
        list[list[float]], Field(description="[num_frames, columns]; with top_k [num_frames, top_k]")
    ]


class Names(BaseModel):
    """What the columns of a model's scores are."""

    model: str
    version: str
    level: Level
    names: Annotated[list[str], Field(description="by column; of a pdf the phone it is most often of")]


class TimedPhone(BaseModel):
    """A phone, with times in seconds."""

    phone: Annotated[str, Field(description="without its place in the word")]
    start: float
    end: float
    confidence: Annotated[float, Field(description="mean posterior over its frames")]
    word: Annotated[int | None, Field(description="which of the words it is in; null: silence between them")]
    heard: Annotated[str, Field(description="the phone that fits these frames best")]
    log_posterior: float
    goodness: Annotated[float, Field(description="of pronunciation: log posterior less that of 'heard'")]


class TimedWord(BaseModel):
    """A word, with times in seconds."""

    word: str
    start: float
    end: float
    confidence: float


class Found(BaseModel):
    """What was found in an utterance."""

    utt_id: str
    model: str
    version: str
    frame_shift_ms: float
    duration: Annotated[float, Field(description="seconds that the frames span")]
    phones: list[TimedPhone]
    doubt: Annotated[str | None, Field(description="why this may be of little use")]


class Alignment(Found):
    """When the words and phones of a text are spoken, as ``align.json`` of ``asr-bn align`` has it."""

    words: list[TimedWord]
    confidence: Annotated[float, Field(description="of the words' phones, over their frames")]
    silence_confidence: Annotated[float, Field(description="of the silence between words")]
    speech: Annotated[float, Field(description="share of frames that sound like speech")]
    log_likelihood: Annotated[float, Field(description="scaled, of a frame")]


class TranscribedWord(BaseModel):
    """A word that was found; its times in seconds are null where the graph has no pronunciations."""

    word: str
    start: float | None
    end: float | None
    confidence: Annotated[float, Field(description="of the lattice: how likely it stands here")]


class Transcript(Found):
    """The words that are spoken, as ``hyp.txt`` and ``hyp.ctm`` of ``asr-bn decode`` have them."""

    text: str
    words: list[TranscribedWord]
    graph_cost: float
    acoustic_cost: float


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Health(BaseModel):
    """Health status."""

    status: str


class InferenceError(BaseModel):
    """A refusal under ``/v2``."""

    error: str


class ServerLive(BaseModel):
    """Whether the server answers."""

    live: bool


class ServerReady(BaseModel):
    """Whether new requests are welcome."""

    ready: bool


class ServerMetadata(BaseModel):
    """The server's name, version and extensions."""

    name: str
    version: str
    extensions: list[str]


class Tensor(BaseModel):
    """Name, datatype and shape of a tensor; -1: any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """A model's tensors and versions."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class ModelReady(BaseModel):
    """Whether a model can be used."""

    name: str
    ready: bool


class ConfigTensor(BaseModel):
    """A tensor in Triton's words."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfig(BaseModel):
    """A model's configuration in Triton's words."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[ConfigTensor]
    output: list[ConfigTensor]


class ModelStatistics(BaseModel):
    """Utterances and calls that a version of a model has served."""

    name: str
    version: str
    inference_count: int
    execution_count: int


class Statistics(BaseModel):
    """What models have served."""

    model_stats: list[ModelStatistics]


class IndexEntry(BaseModel):
    """A version of a model in the folder."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]


class Done(BaseModel):
    """Nothing more to say."""


class TensorParameters(BaseModel):
    """How a tensor is sent."""

    binary_data_size: Annotated[
        int | None, Field(ge=0, description="bytes of it behind the JSON, in the place of data")
    ] = None


class InputTensor(BaseModel):
    """``features``, float32 ``[batch, num_frames, num_features]``, or ``lengths``, int32 ``[batch]``."""

    name: Literal["features", "lengths"]
    datatype: Literal["FP32", "INT32"]
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=3)]
    data: Annotated[
        list[Any] | None, Field(description="in row-major order, nested as the shape or flat")
    ] = None
    parameters: TensorParameters | None = None


class OutputParameters(BaseModel):
    """How an output is wanted."""

    binary_data: bool = False


class WantedOutput(BaseModel):
    """An output that is asked for."""

    name: Literal["log_posteriors", "phone_log_posteriors", "phone_class_log_posteriors"]
    parameters: OutputParameters | None = None


class InferParameters(BaseModel):
    """What a request asks of the server."""

    timeout: Annotated[int, Field(ge=0, description="microseconds; 0: the server's own")] = 0
    binary_data_output: Annotated[bool, Field(description="outputs are wanted as binary data")] = False


class InferRequest(BaseModel):
    """A batch of utterances."""

    id: str | None = None
    parameters: InferParameters | None = None
    inputs: Annotated[list[InputTensor], Field(min_length=2, max_length=2)]
    outputs: list[WantedOutput] | None = None


class OutputTensor(Tensor):
    """``log_posteriors``, float32 ``[batch, num_frames, num_pdfs]``, or those of phones."""

    data: Annotated[list[float] | None, Field(description="in row-major order")] = None
    parameters: TensorParameters | None = None


class InferResponse(BaseModel):
    """Scores of a batch of utterances."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]
