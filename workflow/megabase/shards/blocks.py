"""Files of compressed blocks with their index: written so that a kill loses little, read without a map.

`{stem}.{suffix}` holds the blocks one after another, `{stem}.index.npy` offsets and sizes uint64 [N, 2].
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from megabase.files import FileError, atomic_path

_RECORD = np.dtype("<u8")


class Blocks:
    """Blocks of a finished file. Read by position, so that the process holds no more than what it asked for.

    May be read from several threads. FileError if the file is shorter or longer than its index says.
    """

    def __init__(self, stem: Path, suffix: str) -> None:
        self.path = stem.with_suffix(f".{suffix}")
        self._index = np.load(stem.with_suffix(".index.npy"))
        size = self.path.stat().st_size
        wanted = int(self._index[-1].sum()) if len(self._index) else 0
        if size != wanted:
            raise FileError(
                f"{self.path}: {size} bytes, wanted {wanted}; it is cut short, write the store again"
            )
        self._handle = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    def __len__(self) -> int:
        return len(self._index)

    @property
    def sizes(self) -> np.ndarray:
        """Bytes uint64 [N] of every block."""
        return self._index[:, 1]

    def read(self, number: int) -> bytes:
        """Bytes of one block."""
        offset, size = (int(n) for n in self._index[number])
        return os.pread(self._handle, size, offset)


class BlockWriter:
    """Writes the blocks of `{stem}.{suffix}`; goes on where a killed process with the same `key` stopped.

    Until `finish`, blocks stand in a hidden file named by the key, beside a journal of those that are whole:
    a block is listed there once it is on disk. What other keys left behind is removed.
    """

    def __init__(self, stem: Path, suffix: str, key: str) -> None:
        self.stem, self.suffix = stem, suffix
        self._data_path = stem.with_name(f".partial-{stem.name}-{key}.{suffix}")
        self._journal_path = self._data_path.with_suffix(".journal")
        for left in stem.parent.glob(f".partial-{stem.name}-*"):
            if left not in (self._data_path, self._journal_path):
                left.unlink()
        self._data = open(self._data_path, "ab")
        self._journal = open(self._journal_path, "ab")
        self._resume()

    def _resume(self) -> None:
        """Cut both files to the blocks that are whole."""
        records = np.fromfile(self._journal_path, _RECORD)
        index = records[: len(records) // 2 * 2].reshape(-1, 2)
        there = index.sum(1) <= self._data_path.stat().st_size
        self.done = int(there.sum()) if there.all() else int(there.argmin())
        self._end = int(index[self.done - 1].sum()) if self.done else 0
        self._data.truncate(self._end)
        self._journal.truncate(self.done * 2 * _RECORD.itemsize)

    def add(self, blocks: Iterable[bytes]) -> None:
        """Append blocks and list them in the journal."""
        records = []
        for block in blocks:
            self._data.write(block)
            records.append((self._end, len(block)))
            self._end += len(block)
        self._data.flush()
        os.fdatasync(self._data.fileno())
        self._journal.write(np.array(records, _RECORD).tobytes())
        self._journal.flush()
        self.done += len(records)

    def close(self) -> None:
        """Leave the blocks for the next process."""
        self._data.close()
        self._journal.close()

    def finish(self) -> None:
        """Give the files their names."""
        self.close()
        index = np.fromfile(self._journal_path, _RECORD).reshape(-1, 2)
        os.replace(self._data_path, self.stem.with_suffix(f".{self.suffix}"))
        with atomic_path(self.stem.with_suffix(".index.npy")) as temporary:
            np.save(temporary, index)
        self._journal_path.unlink()
