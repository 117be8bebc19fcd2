"""Which services make the platform, and what each is told."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from weir.onebox.child import Command
from weir.onebox.probes import answers_ok
from weir.onebox.supervisor import Service

GATEWAY_HEALTH = "/api/v1/health"
_GATEWAY_PATIENCE_SECONDS = 120.0
# While the gateway lets its open requests end, the rooms still answer them; what is not named here comes after.
STOP_ORDER = ("gateway", "agent-engine", "context-lake")
# Above the services' own drain (20 s) and what they close afterwards.
_GRACE_SECONDS = 30.0


class OneboxSettings(Struct, frozen=True, kw_only=True):
    """What `weir up` is told by its caller."""

    port: int
    # Where the gateway listens.
    host: str = "127.0.0.1"
    data_dir: Path
    # Unset: the embedded server.
    database_url: str | None = None
    redis_url: str | None = None
    demo: bool = True
    import_root: Path
    # The caller's own environment; every service gets it.
    environment: dict[str, str]


class Addresses(Struct, frozen=True, kw_only=True):
    """Where the servers of this start are."""

    ports: Mapping[str, int]  # by service name
    database_url: str
    redis_url: str
    run_dir: Path


class ServiceSpec(Struct, frozen=True, kw_only=True):
    """One service: `command` follows `python -m weir`."""

    name: str
    command: tuple[str, ...]
    env: dict[str, str]
    # Answers 200 when it is ready; None: it has no way to tell.
    health_url: str | None = None


def service_names(settings: OneboxSettings) -> tuple[str, ...]:
    always = ("context-lake", "agent-engine", "worker", "lake-host", "gateway")
    return (*always, "demo-model") if settings.demo else always


def plan_services(settings: OneboxSettings, addresses: Addresses) -> list[ServiceSpec]:
    shared = _shared_environment(settings, addresses)
    own = reachable(settings.host, "127.0.0.1")
    health_urls = {"gateway": f"http://{own}:{addresses.ports['gateway']}{GATEWAY_HEALTH}"}
    return [
        ServiceSpec(
            name=name,
            command=(name,),
            env={**shared, "WEIR_PORT": str(addresses.ports[name])},
            health_url=health_urls.get(name),
        )
        for name in service_names(settings)
    ]


def supervised(spec: ServiceSpec, program: tuple[str, ...], log_dir: Path) -> Service:
    health_url = spec.health_url
    return Service(
        name=spec.name,
        command=Command(
            argv=(*program, *spec.command),
            environment=spec.env,
            log=log_dir / f"{spec.name}.log",
            # A Ctrl-C reaches our whole group at once: only we end them, in our order.
            own_group=True,
        ),
        ready=(lambda: answers_ok(health_url)) if health_url else None,
        ready_seconds=_GATEWAY_PATIENCE_SECONDS,
        grace_seconds=_GRACE_SECONDS,
        stop_order=STOP_ORDER.index(spec.name) if spec.name in STOP_ORDER else len(STOP_ORDER),
    )


def reachable(host: str, here: str) -> str:
    """How this machine reaches a server that listens at `host`, as it stands in a URL; `here` is its name for itself."""
    if host in ("", "0.0.0.0", "::", "127.0.0.1", "localhost"):  # noqa: S104
        return here
    return f"[{host}]" if ":" in host else host


def weir_program() -> tuple[str, ...]:
    return (sys.executable, "-m", "weir")


def _shared_environment(settings: OneboxSettings, addresses: Addresses) -> dict[str, str]:
    environment = {
        "WEIR_ALLOW_PRIVATE_ADDRESSES": "1",  # one machine: models, sources and test servers are its neighbours
        **settings.environment,
        "WEIR_DATA_DIR": str(settings.data_dir),
        "WEIR_IMPORT_ROOT": str(settings.import_root),
        "WEIR_DEMO": "1" if settings.demo else "0",
        "WEIR_DATABASE_URL": addresses.database_url,
        "WEIR_REDIS_URL": addresses.redis_url,
        "WEIR_LAKE_URL": _loopback(addresses, "context-lake"),
        "WEIR_ENGINE_URL": _loopback(addresses, "agent-engine"),
        "WEIR_WORKER_URL": _loopback(addresses, "worker"),
        "WEIR_LAKE_HOST_SOCKET": os.fspath(addresses.run_dir / "lake-host.sock"),
    }
    if settings.demo:
        environment["WEIR_DEMO_MODEL_URL"] = _loopback(addresses, "demo-model")
    return environment


def _loopback(addresses: Addresses, name: str) -> str:
    return f"http://127.0.0.1:{addresses.ports[name]}"
