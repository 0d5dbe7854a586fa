"""A node's processes on real sockets. `front_door` accepts, `handlers` talk, `store` and `reassembly_service` keep."""
