"""Experiments on a running node: scenario, workload, figures, report. Next: `scenario.py`, then `experiment.py`."""
