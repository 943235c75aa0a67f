"""Where the files of the WSJ disks lie: on the disks as LDC numbered them, or merged into one folder."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_DISK = re.compile(r"(\d\d)[-_](\d{1,2})[._](\d)")
# LDC93S6B and LDC94S13B put their disks below folders such as csr_1_senn_d1.
_MAX_DEPTH = 3
_FIRST_DISK_NUMBER = {"wsj0": "11", "wsj1": "13"}
_INDEX = {"wsj0": "doc/indices/train/tr_s_wv1.ndx", "wsj1": "doc/indices/si_tr_s.ndx"}


@dataclass(frozen=True)
class Part:
    """One half of the corpus, ``wsj0`` or ``wsj1``.

    Attributes:
        name: ``wsj0`` or ``wsj1``: the folder that the names in index files start with.
        root: the folder that the user named.
        disks: disk id as in index files, such as ``11_13_1``, to the disk's folder; empty if merged.
        merged: the folder that holds ``doc``, ``si_tr_s`` ... itself; None where there are disks.
    """

    name: str
    root: Path
    disks: dict[str, Path]
    merged: Path | None
    _listings: dict[Path, dict[str, str]] = field(default_factory=dict, repr=False)

    @classmethod
    def find(cls, name: str, root: Path) -> "Part":
        """Find the disks, or the merged folder, at or below ``root``.

        Raises:
            ValueError: neither is there.
            OSError: a folder cannot be listed.
        """
        root = root.absolute()
        if not root.is_dir():
            raise ValueError(f"{root}: no such folder, expected the disks of {name}")
        number = _FIRST_DISK_NUMBER[name]
        disks: dict[str, Path] = {}
        for folder in _candidates(name, root, _MAX_DEPTH):
            disk = _DISK.fullmatch(folder.name)
            if disk is None:
                return cls(name, root, {}, folder)
            if disk[1] == number:
                disks.setdefault("_".join(disk.groups()), folder)
        if not disks:
            raise ValueError(
                f"{root}: neither disks of {name} (folders such as {number}-1.1)"
                f" nor a folder with {name}'s {_INDEX[name]}"
            )
        return cls(name, root, disks, None)

    def file(self, disk_id: str, filename: str) -> Path:
        """Return the file that an index names ``disk_id:filename``, whatever the case of its name.

        Raises:
            ValueError: the disk or the file is not there.
        """
        if self.merged is None and disk_id not in self.disks:
            disk = "{}-{}.{}".format(*disk_id.split("_")) if disk_id.count("_") == 2 else disk_id
            raise ValueError(f"{self.root}: no disk {disk} there, expected for {filename}")
        path = self.file_if_there(disk_id, filename)
        if path is None:
            folder = self.disks[disk_id] if self.merged is None else self.merged
            raise ValueError(f"{folder}: no file {filename} there")
        return path

    def file_if_there(self, disk_id: str, filename: str) -> Path | None:
        """Return the same as ``file``, but None if the disk or the file is not there."""
        names = [name for name in filename.split("/") if name]
        path = self.disks.get(disk_id)
        if self.merged is not None:
            path = self.merged
            names = names[1:] if names and names[0].lower() == self.name else names
        for name in names:
            if path is None:
                return None
            listing = self._listing(path)
            found = listing.get(name) or listing.get(name.lower())
            path = path / found if found else None
        return path

    def folders(self) -> list[Path]:
        """Return the folders that hold the whole part."""
        return list(self.disks.values()) if self.merged is None else [self.merged]

    def _listing(self, folder: Path) -> dict[str, str]:
        """The names in a folder by themselves and in lower case: some disks were copied in upper case."""
        if folder not in self._listings:
            names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
            self._listings[folder] = {name.lower(): name for name in names} | {name: name for name in names}
        return self._listings[folder]


def _candidates(name: str, folder: Path, depth: int) -> Iterator[Path]:
    """Disks, of either part, and merged folders at or below ``folder``, in sorted order."""
    if _DISK.fullmatch(folder.name) or _is_merged(name, folder):
        yield folder
    elif depth > 0:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                yield from _candidates(name, path, depth - 1)


def _is_merged(name: str, folder: Path) -> bool:
    return (folder / _INDEX[name]).is_file() or (folder / _INDEX[name].upper()).is_file()
