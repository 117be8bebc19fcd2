"""What each service is told."""

from pathlib import Path

from weir.onebox.plan import Addresses, OneboxSettings, plan_services, service_names, supervised
from weir.onebox.supervisor import SERVERS_STOP

PORTS = {name: 21_000 + number for number, name in enumerate(
    ("gateway", "context-lake", "agent-engine", "worker", "lake-host", "demo-model")
)}  # fmt: skip


def _plan(demo: bool = True, environment: dict[str, str] | None = None):
    settings = OneboxSettings(
        port=PORTS["gateway"],
        data_dir=Path("/data"),
        import_root=Path("/data/imports"),
        demo=demo,
        environment=environment or {},
    )
    addresses = Addresses(
        ports=PORTS, database_url="postgresql://db", redis_url="redis://r", run_dir=Path("/run/w")
    )
    return settings, {spec.name: spec for spec in plan_services(settings, addresses)}


def test_demo_model_runs_with_demo_only():
    assert "demo-model" in _plan(demo=True)[1]
    settings, plan = _plan(demo=False)
    assert "demo-model" not in plan
    assert tuple(plan) == service_names(settings)
    assert "WEIR_DEMO_MODEL_URL" not in plan["gateway"].env


def test_every_service_has_its_own_port_and_the_same_addresses():
    _, plan = _plan()
    assert {name: int(spec.env["WEIR_PORT"]) for name, spec in plan.items()} == PORTS
    shared = [{k: v for k, v in spec.env.items() if k != "WEIR_PORT"} for spec in plan.values()]
    assert all(environment == shared[0] for environment in shared)
    assert shared[0] == {
        "WEIR_ALLOW_PRIVATE_ADDRESSES": "1",
        "WEIR_DATA_DIR": "/data",
        "WEIR_IMPORT_ROOT": "/data/imports",
        "WEIR_DEMO": "1",
        "WEIR_DATABASE_URL": "postgresql://db",
        "WEIR_REDIS_URL": "redis://r",
        "WEIR_LAKE_URL": "http://127.0.0.1:21001",
        "WEIR_ENGINE_URL": "http://127.0.0.1:21002",
        "WEIR_WORKER_URL": "http://127.0.0.1:21003",
        "WEIR_LAKE_HOST_SOCKET": "/run/w/lake-host.sock",
        "WEIR_DEMO_MODEL_URL": "http://127.0.0.1:21005",
    }


def test_the_callers_choice_about_private_addresses_wins():
    _, plan = _plan(environment={"WEIR_ALLOW_PRIVATE_ADDRESSES": "0", "OTHER": "kept"})
    assert plan["worker"].env["WEIR_ALLOW_PRIVATE_ADDRESSES"] == "0"
    assert plan["worker"].env["OTHER"] == "kept"


def test_only_the_gateway_is_asked_for_its_health():
    _, plan = _plan()
    assert plan["gateway"].health_url == "http://127.0.0.1:21000/api/v1/health"
    assert [name for name, spec in plan.items() if spec.health_url] == ["gateway"]


def test_whoever_is_leaned_on_stops_later_and_not_by_a_signal_to_the_group():
    _, plan = _plan()
    services = {name: supervised(spec, ("weir",), Path("/logs")) for name, spec in plan.items()}
    order = {name: service.stop_order for name, service in services.items()}
    assert order["gateway"] < order["agent-engine"] < order["context-lake"] < order["lake-host"]
    assert order["worker"] == order["demo-model"] == order["lake-host"] < SERVERS_STOP
    assert all(service.command.own_group for service in services.values())
