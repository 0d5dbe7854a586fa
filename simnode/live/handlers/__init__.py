"""The process that talks to clients: sessions, requests, subscriptions, answers. Begin: `handler.py`."""
