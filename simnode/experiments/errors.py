"""Why an experiment ends early. Next: `experiment.py`."""


class ExperimentFailed(Exception):
    """A process of the experiment failed, so there is no result; the text says which and why."""
