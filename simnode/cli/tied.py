"""`python -m simnode.cli.tied ARGUMENTS`: simnode for as long as its standard input is open. Next: `__init__.py`.

For programs that start a node: however they end, a SIGKILL included, the kernel closes the pipe, and
the command drains and ends as if it had got a SIGTERM.
"""

from __future__ import annotations

import os
import signal
import threading

from simnode.cli import main


def _end_with_standard_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_standard_input, name="standard input", daemon=True).start()
    main()
