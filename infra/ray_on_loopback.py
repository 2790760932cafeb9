"""`ray start` of a further node on this machine alone: `ray_on_loopback.py start --address=127.0.0.1:PORT ...`.

Ray gives up the address 127.0.0.1 for one that other machines reach, and a node with such an address listens on every
interface. `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0` keeps it, for a head and for clients; a further node Ray then
refuses to start, on any system. So it is started here, with the address that it was given.
"""

from __future__ import annotations

from ray._private import ray_constants, services
from ray.scripts.scripts import main


def _as_given(host: str) -> str:
    return host


if __name__ == "__main__":
    ray_constants.ENABLE_RAY_CLUSTER = True
    services.resolve_ip_for_localhost = _as_given
    main()
