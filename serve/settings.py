"""Every setting of the server, typed, in one place; each is read from the environment (``ASR_BN_...``)."""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from asr_bn.system.cores import available_cores

ENV_PREFIX = "ASR_BN_"


class Settings(BaseSettings):
    """The server's settings; ``ASR_BN_MAX_BODY_BYTES=1000000`` sets ``max_body_bytes``, and so on."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, protected_namespaces=())

    model: Path = Field(description="a model.onnx, or a folder laid out as NAME/VERSION/model.onnx")
    model_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="its name under /v2; default: the file's name, no suffix",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    processes: int = Field(1, ge=1, le=256, description="server processes, each with its own model")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where ONNX Runtime computes")
    num_threads: int = Field(
        0,
        ge=0,
        le=256,
        description="threads that compute, of all calls at a time; 0: one for each core, two with cuda",
    )
    audio_processes: int = Field(
        0, ge=0, le=256, description="processes that decode audio and compute features; 0: one for each core"
    )
    max_batch_size: int = Field(
        0, ge=0, le=1024, description="utterances in one call at most; 0: 4 on a CPU, 16 with cuda"
    )
    max_batch_frames: int = Field(8000, ge=1, description="frames in one call at most, padding included")
    long_frames: int = Field(
        3000, ge=1, description="utterances longer than that leave threads to the others"
    )
    max_queue: int = Field(
        64, ge=1, description="utterances accepted at the same time, of one client three quarters of them"
    )
    max_held_frames: int = Field(
        60_000, ge=1, description="frames of all accepted requests, of one client three quarters of them"
    )
    client_requests: int = Field(
        0, ge=0, description="utterances that one client (a key, else an address) may have accepted; 0: any"
    )
    client_requests_per_s: float = Field(
        0.0, ge=0, description="requests a second that one client may send to each process; 0: any"
    )
    client_audio_s_per_min: float = Field(
        0.0, ge=0, description="seconds of audio a minute that one client may send to each process; 0: any"
    )
    deadline_s: float = Field(
        30.0, gt=0, le=3600, description="time a request may wait, unless it asks for less"
    )
    body_timeout_s: float = Field(20.0, gt=0, description="time that receiving a body may take")
    send_timeout_s: float = Field(60.0, gt=0, description="time that a client may take to read its answer")
    min_send_rate: float = Field(
        50_000.0,
        ge=0,
        description="bytes a second; who reads its answer more slowly is dropped after 10 s, or when others "
        "need its place",
    )
    head_timeout_s: float = Field(10.0, gt=0, description="time that a request's head may take to arrive")
    max_connections: int = Field(512, ge=1, description="open connections of a process at most")
    max_uploads: int = Field(128, ge=1, description="bodies being received at a time")
    max_held_bytes: int = Field(
        512 << 20, ge=1, description="bytes of all bodies in memory, of one client three quarters of them"
    )
    max_body_bytes: int = Field(32 << 20, ge=1, description="bytes of a body at most, inflated or not")
    max_audio_seconds: float = Field(120.0, gt=0, description="seconds of decoded audio at most")
    decode_timeout_s: float = Field(10.0, gt=0, description="time that decoding one audio file may take")
    decode_memory_bytes: int = Field(1 << 30, ge=1 << 29, description="memory of an audio decoding process")
    lang: Path | None = Field(
        None,
        description="lang folder, dictionary folder or lexicon file, whose words /v1/alignments knows",
    )
    graph: Path | None = Field(
        None, description="folder that make-graph left, whose words /v1/transcripts finds"
    )
    acoustic_scale: float = Field(0.1, gt=0, description="factor of scores in the search through the graph")
    word_penalty: float = Field(0.0, description="cost of each word of a transcript")
    posterior_scale: float = Field(1.0, gt=0, description="of confidences; decode chooses one: decode.json")
    search_processes: int = Field(
        0, ge=0, le=256, description="processes that align and transcribe; 0: one for each core"
    )
    search_timeout_s: float = Field(30.0, gt=0, description="time that one search may take")
    search_memory_bytes: int = Field(
        1 << 30, ge=1 << 26, description="memory of a search process, beside lexicon and graph"
    )
    max_text_bytes: int = Field(1 << 14, ge=1, le=1 << 17, description="bytes of a text to align at most")
    max_text_words: int = Field(1000, ge=1, description="words of a text to align at most")
    max_alignment_cells: int = Field(
        100_000_000, ge=1, description="frames times HMM states of an alignment at most"
    )
    api_keys_file: Path | None = Field(None, description="file of API keys, one a line; none: open to all")
    admin_token_file: Path | None = Field(
        None, description="file with the token that loads and unloads models"
    )
    cors_origins: list[str] = Field(
        [], description='origins that browsers may call from, as JSON: ["https://x"]'
    )
    shutdown_delay_s: float = Field(
        0.5, ge=0, le=600, description="after SIGTERM, time between failing /readyz and closing the port"
    )
    grace_s: float = Field(30.0, gt=0, le=3600, description="time to answer what was accepted, after SIGTERM")
    access_log: bool = Field(True, description="one JSON line on stderr for each request")

    @property
    def compute_threads(self) -> int:
        """Return the threads that compute; with CUDA they wait for the GPU."""
        return self.num_threads or (2 if self.device == "cuda" else available_cores())

    @property
    def num_audio_processes(self) -> int:
        """Return how many processes decode audio and compute features."""
        return self.audio_processes or available_cores()

    @property
    def num_search_processes(self) -> int:
        """Return how many processes align and transcribe."""
        return self.search_processes or available_cores()


def load_settings(**given: object) -> Settings:
    """Read the settings of the environment; ``given`` ones take precedence.

    Raises:
        ValueError: a setting is missing or has a bad value; the sentence names the variable.
    """
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = ENV_PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        value = "" if first["type"] == "missing" else f" (got {first['input']!r})"
        raise ValueError(f"{name}: {first['msg']}{value}") from error


def environment_help() -> str:
    """Write a line for each setting: the variable, its default, what it means."""
    lines = []
    for name, field in Settings.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default!r}"
        lines.append(f"{ENV_PREFIX}{name.upper()}: {field.description} ({default})")
    return "\n\n".join(lines)
