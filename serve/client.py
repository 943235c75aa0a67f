"""A client for programs: ``Client("http://127.0.0.1:8000").posteriors("speech.wav")``."""

import io
import re
from pathlib import Path

import httpx
import numpy as np

from asr_bn.system.arrays import Floats
from serve.formats.schemas import Alignment, Names, Transcript

_JSON = {"accept": "application/json"}


class ServerError(ValueError):
    """The server refused; ``status`` is HTTP's, ``retry_after_s`` what it asks for when it is full."""

    def __init__(self, status: int, detail: str, retry_after_s: float | None) -> None:
        super().__init__(f"HTTP {status}: {detail}")
        self.status, self.retry_after_s = status, retry_after_s


class Client:
    """Keeps a connection to a server.

    Args:
        url: of the server.
        api_key: where the server needs one.
        timeout_s: after which a request is given up; the server is told, and drops it from its queue.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout_s: float = 30.0) -> None:
        headers = {"accept": "application/x-npy", "x-timeout-ms": str(max(1, round(1000 * timeout_s)))}
        if api_key is not None:
            headers["x-api-key"] = api_key
        # The server's answer that the time is over arrives after the time is over.
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s + 5)

    def posteriors(
        self, source: Path | str | bytes | Floats, output: str = "log_posterior", **parameters: str | int
    ) -> Floats:
        """Ask for the scores of an utterance, float32 ``[num_frames, num_pdfs]``.

        Args:
            source: an audio file's name or bytes, or features ``[num_frames, 41]`` or ``[num_frames, 123]``.
            output: ``log_posterior``, ``posterior`` or ``log_likelihood``.
            parameters: of the query: ``channel``, ``model``; ``level="phone"`` or ``"phone-class"`` asks for
                phones, see :meth:`names`; with ``top_k`` the result is an array of records
                ``(pdf_id, value)``, or ``(phone, value)``, ``[num_frames, top_k]``.

        Raises:
            ServerError: the server refused.
            OSError: the file cannot be read.
            httpx.TransportError: the server cannot be reached.
        """
        return self._matrix("/v1/posteriors", source, parameters | {"output": output})

    def names(self, level: str = "phone", **parameters: str | int) -> list[str]:
        """Ask for the names of the scores' columns at a level; raises as `posteriors`."""
        answer = self._http.get("/v1/names", params=parameters | {"level": level}, headers=_JSON)
        return Names.model_validate_json(_checked(answer)).names

    def features(self, source: Path | str | bytes, **parameters: str | int) -> Floats:
        """Ask for a file's static features, ``[num_frames, 41]``; raises as `posteriors`."""
        return self._matrix("/v1/features", source, parameters)

    def alignment(self, source: Path | str | bytes | Floats, text: str, **parameters: str | int) -> Alignment:
        """Ask when the words of ``text`` and their phones are spoken; raises as `posteriors`.

        Args:
            source: as for `posteriors`.
            text: what is said.
            parameters: of the query: ``channel``, ``model``, ``utt_id``.
        """
        content, content_type = _encode(source)
        file = {"file": ("utterance", content, content_type)}
        answer = self._http.post(
            "/v1/alignments", params=parameters, data={"text": text}, files=file, headers=_JSON
        )
        return Alignment.model_validate_json(_checked(answer))

    def transcript(self, source: Path | str | bytes | Floats, **parameters: str | int) -> Transcript:
        """Ask for the words that are spoken; ``parameters`` and errors as of `alignment`."""
        return Transcript.model_validate_json(self._post("/v1/transcripts", source, parameters, _JSON))

    def _matrix(
        self, path: str, source: Path | str | bytes | Floats, parameters: dict[str, str | int]
    ) -> Floats:
        data = io.BytesIO(self._post(path, source, parameters, {}))
        result: Floats = np.load(data, allow_pickle=False)
        return result

    def _post(
        self,
        path: str,
        source: Path | str | bytes | Floats,
        parameters: dict[str, str | int],
        headers: dict[str, str],
    ) -> bytes:
        content, content_type = _encode(source)
        headers = headers | {"content-type": content_type}
        return _checked(self._http.post(path, params=parameters, content=content, headers=headers))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _encode(source: Path | str | bytes | Floats) -> tuple[bytes, str]:
    if isinstance(source, np.ndarray):
        stream = io.BytesIO()
        np.save(stream, source, allow_pickle=False)
        return stream.getvalue(), "application/x-npy"
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    return data, "application/octet-stream"


def _checked(answer: httpx.Response) -> bytes:
    if answer.status_code != 200:
        raise _error(answer)
    return answer.content


def _error(answer: httpx.Response) -> ServerError:
    retry_after = answer.headers.get("retry-after", "")
    is_problem = answer.headers.get("content-type", "").startswith("application/problem+json")
    detail = answer.json()["detail"] if is_problem else answer.text[:200]
    seconds = float(retry_after) if re.fullmatch("[0-9]{1,9}", retry_after) else None
    return ServerError(answer.status_code, detail, seconds)
