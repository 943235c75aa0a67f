"""Where the text comes from: a folder, the published archive, or the synthetic source."""

import io
import sys
import tarfile
import urllib.request
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from asr_bn.language_model.data import SETS, Texts
from asr_bn.language_model.text import Unit
from asr_bn.system.files import write_bytes
from recipes.ptb.local.synthetic_text import Source, write_texts

# Mikolov's preprocessing, as in rnnlm's simple-examples.
PTB_SHA256 = {
    "train": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "valid": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "test": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
PTB_TOKENS = {"train": 929_589, "valid": 73_760, "test": 82_430}
PTB_WORDS, PTB_SYMBOLS = 10_000, 50  # 49 characters and the end of a line: the appendix's softmax
ARCHIVE = "https://www.fit.vut.cz/person/imikolov/public/rnnlm/simple-examples.tgz"
MAX_ARCHIVE_BYTES = 200_000_000
TIMEOUT_S = 20
PTB_CACHE, SYNTHETIC_CACHE = Path("exp/ptb/text"), Path("exp/ptb_synthetic/text")


@dataclass(frozen=True)
class Text:
    """A text and where it is from.

    Attributes:
        kind: ``"ptb"``, ``"ptb_synthetic"`` or ``"text"`` (another).
        paths: the files of the training, validation and test sets.
        words: file of the vocabulary, or None where it is that of the training text.
        floor: the perplexity that no model can go below on unseen text, where it is known.
    """

    kind: Literal["ptb", "ptb_synthetic", "text"]
    paths: dict[str, Path]
    words: Path | None = None
    floor: float | None = None

    @property
    def name(self) -> str:
        """What results call it."""
        names = {"ptb": "Penn Treebank (Mikolov's preprocessing)", "ptb_synthetic": "synthetic text"}
        return names.get(self.kind, str(self.paths["train"].parent))

    def read(self, unit: Unit) -> Texts:
        """Read its words or characters.

        Raises:
            ValueError: no text in a file, an unknown word, or not the tokens that the Penn Treebank has.
        """
        texts = Texts.read(self.paths, unit, self.words if unit == "word" else None)
        if self.kind == "ptb" and unit == "character" and len(texts.vocabulary) != PTB_SYMBOLS:
            raise ValueError(
                f"{self.paths['train']}: {len(texts.vocabulary)} symbols, expected {PTB_SYMBOLS} (appendix A)"
            )
        if self.kind == "ptb" and unit == "word":
            for name, expected in PTB_TOKENS.items():
                if len(texts.tokens[name]) != expected or len(texts.vocabulary) != PTB_WORDS:
                    raise ValueError(
                        f"{self.paths[name]}: {len(texts.tokens[name])} tokens of {len(texts.vocabulary)} "
                        f"types, expected {expected} of {PTB_WORDS}"
                    )
        return texts


def find_text(data: Path | None, any_text: bool, seed: int) -> Text:
    """Find the text in ``data``, else the Penn Treebank in the cache or the net, else synthetic text.

    Raises:
        ValueError: ``data`` lacks a file, or its checksum is not the Penn Treebank's (unless ``any_text``).
    """
    if data is not None:
        return _text_in(data, any_text)
    if any_text:
        raise ValueError("--any-text says that --data may hold any text, but there is no --data")
    if not all(_file(PTB_CACHE, name).is_file() for name in SETS) and not _download():
        return _synthetic(seed)
    return _text_in(PTB_CACHE, any_text=False)


def _text_in(folder: Path, any_text: bool) -> Text:
    paths = _find_all(folder)
    digests = {name: sha256(path.read_bytes()).hexdigest() for name, path in paths.items()}
    words = folder / "words.txt"
    if digests == PTB_SHA256:
        return Text("ptb", paths)
    if any_text:
        return Text("text", paths, words if words.is_file() else None)
    name = next(name for name in SETS if digests[name] != PTB_SHA256[name])
    raise ValueError(
        f"{paths[name]}: SHA-256 is {digests[name]}, expected {PTB_SHA256[name]} (Mikolov's Penn Treebank); "
        f"--any-text accepts another text"
    )


def _file(folder: Path, name: str) -> Path:
    return folder / f"ptb.{name}.txt"


def _find_all(folder: Path) -> dict[str, Path]:
    """The three files in a folder or its ``data/``, or out of an archive that lies there.

    Raises:
        ValueError: no such folder, or a file is missing.
    """
    if not folder.is_dir():
        raise ValueError(f"--data {folder}: no such folder")
    found = {name: _find(folder, name) for name in SETS}
    paths = {name: path for name, path in found.items() if path is not None}
    if len(paths) == len(SETS):
        return paths
    archives = sorted([*folder.glob("*.zip"), *folder.glob("*.tgz"), *folder.glob("*.tar.gz")])
    if not archives:
        missing = next(name for name in SETS if name not in paths)
        raise ValueError(f"--data {folder}: has no ptb.{missing}.txt, and no archive that holds one")
    _extract(archives[0].read_bytes(), str(archives[0]))
    return {name: _file(PTB_CACHE, name) for name in SETS}


def _find(folder: Path, name: str) -> Path | None:
    """``ptb.NAME.txt`` or ``NAME.txt``."""
    places = (folder, folder / "data")
    paths = (path for place in places for path in (_file(place, name), place / f"{name}.txt"))
    return next((path for path in paths if path.is_file()), None)


def _download() -> bool:
    """Fetch the published archive into the cache; False, said aloud, where that fails."""
    print(f"run.py: downloading {ARCHIVE}", file=sys.stderr)
    try:
        with urllib.request.urlopen(ARCHIVE, timeout=TIMEOUT_S) as response:
            _extract(response.read(MAX_ARCHIVE_BYTES), ARCHIVE)
    except (OSError, ValueError) as error:
        print(f"run.py: no Penn Treebank: {ARCHIVE}: {error}", file=sys.stderr)
        return False
    return True


def _extract(data: bytes, name: str) -> None:
    """Put the three files of an archive into the cache.

    Raises:
        ValueError: neither a zip nor a tar archive, or a file is missing.
    """
    files = _unzip(data) if zipfile.is_zipfile(io.BytesIO(data)) else _untar(data, name)
    for part in SETS:
        if f"ptb.{part}.txt" not in files:
            raise ValueError(f"{name}: holds no ptb.{part}.txt")
        write_bytes(_file(PTB_CACHE, part), files[f"ptb.{part}.txt"])


def _wanted(member: str) -> bool:
    return Path(member).name in {f"ptb.{part}.txt" for part in SETS}


def _unzip(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {Path(member).name: archive.read(member) for member in archive.namelist() if _wanted(member)}


def _untar(data: bytes, name: str) -> dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            members = [member for member in archive.getmembers() if _wanted(member.name)]
            streams = {Path(member.name).name: archive.extractfile(member) for member in members}
            return {file: stream.read() for file, stream in streams.items() if stream is not None}
    except tarfile.TarError as error:
        raise ValueError(f"{name}: neither a zip nor a tar archive ({error})") from error


def _synthetic(seed: int) -> Text:
    folder = SYNTHETIC_CACHE / str(seed)
    source = Source.make(seed)
    print(
        f"run.py: training on synthetic text instead: 10,000 words, entropy rate {source.entropy_rate:.3f} "
        f"nats a word, so that no model can go below a perplexity of {source.floor:.1f} on unseen text",
        file=sys.stderr,
    )
    paths = {name: folder / f"{name}.txt" for name in SETS}
    if not all(path.is_file() for path in paths.values()):
        write_texts(folder, source, seed)
    return Text("ptb_synthetic", paths, folder / "words.txt", source.floor)
