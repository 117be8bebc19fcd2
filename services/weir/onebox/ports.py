"""Loopback ports that are free now and that nothing is likely to take before their server does."""

import errno
import random
import socket
from contextlib import ExitStack

from weir.onebox.errors import OneboxError

# Below the range from which the kernel takes ports for outgoing connections (32768 and up on Linux) and below the
# node ports of Kubernetes (30000): between our look and the server's bind, nobody gets one of these by accident.
_CANDIDATES = range(20_000, 30_000)


def free_ports(count: int) -> list[int]:
    """`count` different ports on 127.0.0.1; all are held until the last one is found."""
    ports: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(_CANDIDATES, len(_CANDIDATES)):
            if len(ports) == count:
                return ports
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    raise OneboxError("No free port was found on 127.0.0.1 between 20000 and 29999.")


def require_free_port(port: int, host: str = "127.0.0.1") -> None:
    """The gateway's own port, on every address of the machine, and the address on which it is to listen."""
    _require_bindable("", port)
    if host not in ("127.0.0.1", "localhost", "0.0.0.0"):  # noqa: S104
        _require_bindable(host, port)


def _require_bindable(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do: connections of a previous run in TIME_WAIT are no obstacle, a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OneboxError(
                    f"Port {port} is in use; stop the other process or set WEIR_PORT."
                ) from None
            if host:
                raise OneboxError(
                    f"The gateway cannot listen on {host}, port {port} ({error.strerror}); set WEIR_HOST to "
                    "an address of this machine."
                ) from None
            raise OneboxError(
                f"Port {port} cannot be used ({error.strerror}); set WEIR_PORT to another one."
            ) from None
