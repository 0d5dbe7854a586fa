"""One owner for a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from simnode.storage.directory_lock import DirectoryLock
from simnode.storage.errors import DirectoryInUse


def test_a_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    """Two stores in one index would each be its only writer."""
    directory = tmp_path / "index"
    owner = DirectoryLock(directory)
    with pytest.raises(DirectoryInUse, match="still alive"):
        DirectoryLock(directory)
    owner.close()
    DirectoryLock(directory).close()
