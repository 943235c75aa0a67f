"""What a worker process and the server say to each other, and how such a process lives.

It runs apart from the server, with a limit on its memory and out of reach of files and sockets (`lockdown`),
so that a hostile body can only end it.  Questions come on standard input and answers go to standard output,
each a frame: a number, which the answer repeats, and the sizes of a JSON head and of a payload
(little-endian, 8, 4 and 8 bytes), then both.
"""

import json
import os
import struct
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import BinaryIO, Required, TypedDict, TypeVar

from asr_bn.system.memory import give_back_freed_memory, keep_some_freed_memory
from serve.formats.tensors import PackedRequest
from serve.workers.lockdown import lock_in

# What it says when it has started: whether the system keeps it from files and sockets.
GREETINGS = {b"locked\n": True, b"limits\n": False}
HEADER = struct.Struct("<QIQ")
MAX_HEAD_BYTES = 1 << 18
_AT_ONCE = 1 << 20
GIVE_BACK_S = 15.0
_MOST_CHARACTERS = 1000


class Answer(TypedDict, total=False):
    """A status (of HTTP) with a sentence for the client, figures of features, or an ``infer`` request."""

    status: Required[int]
    detail: str
    traceback: str
    num_frames: int
    num_features: int
    audio_s: float
    decode_s: float
    features_s: float
    request: PackedRequest


Head = TypeVar("Head")
"""What a process is asked, as JSON."""
Payload = bytes | memoryview
Work = Callable[[Head, bytes], tuple[Answer, bytes]]
"""Answers a question's head and payload with a head and a payload."""


def frame(number: int, head: Mapping[str, object], payload: Payload) -> list[Payload]:
    """Return a frame as pieces to write: one, unless the payload is so large that it is not to be copied."""
    text = json.dumps(head).encode()
    start = HEADER.pack(number, len(text), len(payload)) + text
    return [start + payload] if len(payload) <= _AT_ONCE else [start, payload]


def refusal(status: int, detail: str) -> Answer:
    """Return the head of an answer without a payload."""
    return {"status": status, "detail": detail[:_MOST_CHARACTERS]}


def limit_memory(max_bytes: int) -> None:
    """Bound the address space, where the system can."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, max_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def serve_frames(source: BinaryIO, sink: BinaryIO, work: Work[Head]) -> None:
    """Answer frames until the server closes its end; give back what they needed now and then."""
    given_back = time.monotonic()
    while header := source.read(HEADER.size):
        number, head_size, payload_size = HEADER.unpack(header)
        head = json.loads(source.read(head_size))
        sink.writelines(framed_answer(number, head, source, payload_size, work))
        sink.flush()
        if time.monotonic() - given_back > GIVE_BACK_S:
            give_back_freed_memory()
            given_back = time.monotonic()


def framed_answer(
    number: int, head: Head, source: BinaryIO, payload_size: int, work: Work[Head]
) -> list[Payload]:
    """Answer question ``number`` with a frame; an error of ours has status 500."""
    try:
        data = read_payload(source, payload_size)
        return frame(number, *work(head, data))
    except MemoryError:
        return frame(number, refusal(413, "the request needs more memory than this server allows"), b"")
    except Exception:
        told = refusal(500, "internal error")
        told["traceback"] = traceback.format_exc()[-4000:]
        return frame(number, told, b"")


def read_payload(source: BinaryIO, size: int) -> bytes:
    """Read a frame's payload to its end, even where it does not fit in memory.

    Raises:
        MemoryError: it cannot.
    """
    try:
        return source.read(size)
    except MemoryError:
        while size and (part := source.read(min(size, _AT_ONCE))):
            size -= len(part)
        raise


def run(prepare: Callable[[], tuple[Work[Head], int]]) -> None:
    """Read frames from standard input and answer them.

    Args:
        prepare: imports and loads what is needed later; returns the work and a limit on memory, in bytes.
    """
    # Answers go where standard output went; what a library prints goes to standard error.
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    work, max_bytes = prepare()
    limit_memory(max_bytes)
    keep_some_freed_memory()  # the arrays of one utterance are those of the next
    # From here on nobody reads what a decoder prints about a client's body: a full pipe would stop it.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    is_locked_in = lock_in()
    sink.write(next(greeting for greeting, locked in GREETINGS.items() if locked == is_locked_in))
    sink.flush()
    serve_frames(sys.stdin.buffer, sink, work)
