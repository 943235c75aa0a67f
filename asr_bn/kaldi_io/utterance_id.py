"""Utterance ids: which ones readers and writers of tables accept."""

from collections.abc import Iterator
from contextlib import contextmanager

from asr_bn.kaldi_io.plain_text import split_words

MAX_ID_BYTES = 1 << 16
"""A limit that Kaldi lacks: the first word of a file that is no archive could fill the memory."""
BYTE_ORDER_MARK = "\ufeff".encode()


def decode_id(key: bytes, where: str) -> str:
    """Decode ``key`` as UTF-8.

    Raises:
        ValueError: it is not UTF-8, too long, has a NUL byte, or begins with a byte order mark.
    """
    if key.startswith(BYTE_ORDER_MARK):
        raise ValueError(f"{where}: begins with a byte order mark (save it as UTF-8 without BOM)")
    if b"\0" in key:
        raise ValueError(f"{where}: not a Kaldi archive: {key[:40]!r} where an utterance id should be")
    try:
        utt_id = key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: the utterance id {key[:40]!r} is not UTF-8") from error
    if len(key) > MAX_ID_BYTES:
        raise ValueError(f"{too_long(utt_id)} (in {where})")
    return utt_id


def too_long(utt_id: str) -> str:
    """Return the error message for an id that is too long."""
    return f"{utt_id[:40]}...: an id of more than {MAX_ID_BYTES} bytes"


@contextmanager
def prefix_errors(utt_id: str, name: str | None = None) -> Iterator[None]:
    """Turn errors inside into a ``ValueError`` that begins with the utterance id.

    Args:
        name: the file, for an ``OSError`` that does not name one.
    """
    try:
        yield
    except OSError as error:
        raise ValueError(f"{utt_id}: {error.filename or name}: {error.strerror or error}") from error
    except ValueError as error:
        if str(error).startswith(f"{utt_id}: "):
            raise
        raise ValueError(f"{utt_id}: {error}") from error


def check_id(utt_id: str, written: set[str], name: str) -> None:
    """Refuse an id that is empty, too long, not text, has spaces or is already in ``written``; add it."""
    if not _is_text(utt_id) or split_words(utt_id) != [utt_id] or "\0" in utt_id:
        raise ValueError(f"{utt_id!r}: not a Kaldi utterance id (empty, with spaces, or not UTF-8)")
    if len(utt_id.encode()) > MAX_ID_BYTES:
        raise ValueError(too_long(utt_id))
    if utt_id in written:
        raise ValueError(f"{utt_id}: written twice to {name}")
    written.add(utt_id)


def _is_text(name: str) -> bool:
    """Return False for a file name whose bytes are not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
