"""The process that owns the contracts: links, batches of writes, where payloads stay. Begin: `store.py`."""
