"""For every test: hypothesis tries the same examples in every run, and has no deadline on a busy machine."""

from hypothesis import settings

settings.register_profile("simnode", derandomize=True, deadline=None, database=None, max_examples=100)
settings.load_profile("simnode")
