"""One client's WebSocket, down to the system calls: bytes in and out, frames, the handshake. Begin: `websocket.py`."""
