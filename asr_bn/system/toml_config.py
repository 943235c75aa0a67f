"""Configurations from TOML files: a pydantic dataclass whose sections are pydantic dataclasses.

Numbers have upper bounds, far above what anybody trains: a larger one is a typing error, which would end much
later in an overflow or in a request for all memory.  They are of TOML's own types: ``true`` is no 1, nor is
``"24"`` a number.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)

Size = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]  # of a layer, a mini-batch, a window
Count = Annotated[int, Field(strict=True, ge=1, le=1_000_000_000)]  # of frames, steps, epochs
Number = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]  # a count that may be none
Positive = Annotated[float, Field(strict=True, gt=0.0, le=1e38)]  # float32 has it
Share = Annotated[float, Field(strict=True, ge=0.0, lt=1.0)]
Weight = Annotated[float, Field(strict=True, gt=0.0, le=1.0)]  # of what is new in a running average
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]  # TOML's integers


class TomlConfig:
    """Base of a pydantic dataclass whose fields are the sections of a TOML file."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a TOML file.

        Raises:
            ValueError: not TOML, an unknown key, or a value out of its range (file, key and value named).
        """
        try:
            text = path.read_text(encoding="utf-8")
            if text.startswith("\ufeff"):
                raise ValueError("begins with a byte order mark (save it as UTF-8 without BOM)")
            return cls.from_dict(tomllib.loads(text))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        except RecursionError as error:
            raise ValueError(f"{path}: brackets in brackets too deep to read") from error

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Check ``values`` and fill in defaults; ``ValueError`` names the first key that does not fit."""
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{key} = {first['input']!r}: {first['msg']}") from None

    def to_dict(self) -> dict[str, dict[str, object]]:
        """Return plain values, as checkpoints and models hold them."""
        values: dict[str, dict[str, object]] = dataclasses.asdict(self)  # type: ignore[call-overload]
        return values

    def replace(self, section: str, **values: object) -> Self:
        """Copy with some values of a section replaced, and check the copy."""
        merged = dataclasses.asdict(getattr(self, section)) | values
        return self.from_dict(self.to_dict() | {section: merged})
