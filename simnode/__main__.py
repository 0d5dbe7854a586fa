"""`python -m simnode`: the same as the command `simnode`. Next: `cli/__init__.py`."""

from __future__ import annotations

from simnode.cli import main

if __name__ == "__main__":
    main()
