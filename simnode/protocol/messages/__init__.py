"""Every message of the wire as a frozen dataclass. Next: `requests.py`, then `../events.py`.

A byte string of free length is a `Blob`, one of fixed length is `bytes`; where the reference
wraps a single variant (`ContractContainer::Wasm(V1)`) the classes do not. The unions
(`ClientRequest`, `HostResult`, `UpdateData` …) list their members in the reference's order.
"""
