"""The node's processes as Ray actors: the only place that imports Ray. Next: `options.py`, then `node.py`."""

import actors.options  # noqa: F401  (sets the environment that `import ray` reads)
