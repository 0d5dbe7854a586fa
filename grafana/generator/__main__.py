"""Writes `grafana/dashboards/*.json`: `python -m grafana.generator`, from the top of the checkout.

A dashboard's JSON is nine parts repetition; `node.py` is the tenth. A test checks that what is committed is current.
"""

import sys

from grafana.generator.render import rendered

for path, text in rendered().items():
    path.write_text(text)
    sys.stdout.write(f"wrote {path.name}\n")
