"""Every setting of the platform, read once from `WEIR_…` variables and passed down.

The text under a field is its documentation: `docs/reference/settings.md` is generated from it
(`weir settings`), and a test keeps the two equal.
"""

import ast
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from msgspec import NODEFAULT, Struct
from msgspec.structs import fields

PREFIX = "WEIR_"
# However many events come, a dataset is read again after this.
MOST_DEBOUNCE_SECONDS = 30
# A hundred years.
MOST_AUDIT_DAYS = 36_500


class SettingError(Exception):
    """A variable that does not hold what its setting needs; the message names it."""


class Settings(Struct, frozen=True, kw_only=True):
    """The settings of one process."""

    port: int = 8443
    """The gateway's port; under `weir up` the other services take free loopback ports."""

    host: str = "127.0.0.1"
    """The address on which the gateway listens. In local authentication mode whoever reaches it is an admin."""

    requests_at_once: int = 128
    """Requests to one service that a gateway works on at once, a tenant at most half of them; eight times as many that wait for a query or a model. More are refused with `Retry-After`."""

    data_dir: Path = Path(".weir")
    """Everything that is kept: database, keys, imports, caches, logs."""

    database_url: str | None = None
    """An existing Postgres (15 or newer). Unset: `weir up` starts an embedded one."""

    redis_url: str | None = None
    """An existing Redis or Valkey. Unset: `weir up` starts an embedded one."""

    demo: bool = True
    """1: the first start adds the sample datasets, the scripted demo model, an agent and a schema; 0: nothing."""

    auth_mode: Literal["local", "external"] = "local"
    """local: the platform mints sessions with its own key pair. external: it only verifies tokens of your issuer."""

    jwt_keys_dir: Path | None = None
    """Where the key pair of local mode lies, made on first start. Unset: `keys` in the data directory."""

    jwt_public_key_path: Path | None = None
    """The Ed25519 public key of external mode: one line of hex, or a PEM file. Required in external mode."""

    local_session_ttl: str = "1h"
    """How long a local session lives, as a duration such as `90s`, `30m` or `1h30m`."""

    bootstrap_admin_token: str | None = None
    """A `bb_` token (`bb_` and 64 hex digits) that is admin of the default tenant from the first start on."""

    allow_private_addresses: bool = False
    """1: models, MCP servers, http sources and S3 endpoints may be on private or loopback addresses. 1 under `weir up`."""

    mcp_stdio: bool = False
    """1: tenants may configure MCP servers of the type stdio: programs that run on the platform's own machine, as its user."""

    config_variables_prefix: str | None = None
    """Variables of the engine's environment that begin so are filled in for `${NAME}` in the configuration documents of every tenant, who thereby may read them. It ends with `_` and is not Weir's own. Unset: none are."""

    import_root: Path | None = None
    """The only directory that `file:` datasets may read. Unset: `imports` in the data directory."""

    import_max_mib: int = 1024
    """How large a file may be that a tenant uploads with `POST /imports`, in MiB."""

    imports_quota_mib: int = 10240
    """How much one tenant's uploads may take in all, in MiB. They lie in `uploads` in the data directory."""

    aws_endpoint_url: str | None = None
    """The S3 and SQS endpoint for tests (moto); with the usual `AWS_*` credentials."""

    s3_role_arn: str | None = None
    """The AWS role that a tenant's `s3_auth: iam_role` datasets are read as, with `{tenant}` for the tenant's id, which is the external id too. Context lake and worker assume it with the `AWS_*` credentials of their environment. Unset: `iam_role` is refused."""

    sql_timeout_seconds: int = 180
    """The whole budget of one `POST /sql`: start of the runtime, queue, planning and execution."""

    stalled_reader_seconds: int = 60
    """A caller who takes less than 64 KiB in so many seconds, while more of an answer waits for them, is cut off."""

    vm_idle_seconds: int = 600
    """Idle time after which a runtime hibernates."""

    vm_provider: Literal["process", "kubernetes"] = "process"
    """Where runtimes live: a process on this machine. `kubernetes` (a pod) is refused until this version has it."""

    vm_memory_mib: int = 2048
    """Memory of one runtime in MiB; above it the runtime is killed and the next query brings it back."""

    vm_kept_tables_mib: int = 256
    """Memory of a runtime, in MiB and at most an eighth of all, for tables of small local files that are asked often; 0: none."""

    vm_recycle_mib: int | None = None
    """Memory in MiB above which an idle runtime is replaced by a fresh one. Unset: half of `WEIR_VM_MEMORY_MIB`."""

    vm_sandbox: Literal["none", "bwrap"] = "none"
    """none: a runtime is forked, with limits and an empty environment. bwrap: it starts fresh inside bubblewrap."""

    lake_max_datasets: int = 200
    """How many datasets one lake may hold."""

    lake_max_views: int = 200
    """How many views one lake may hold."""

    lake_max_params: int = 64
    """How many parameters one dataset may have."""

    lake_max_value_bytes: int = 8192
    """How long the value of one parameter may be, in bytes."""

    lake_max_config_bytes: int = 1048576
    """How large a lake's configuration may be, in bytes."""

    lake_kept_mib: int = 10240
    """How much disk the rows that one lake keeps (accelerated datasets and views) may take, in MiB."""

    refresh_timeout_seconds: int = 3600
    """How long one refresh may take before it is given up; what was loaded before stays."""

    refresh_wakes: bool = False
    """1: a refresh that is due by its schedule wakes a sleeping runtime; 0: it waits for the next start."""

    confirm_timeout_seconds: int = 300
    """How long a confirmation waits for its answer before it counts as a refusal."""

    refresh_debounce_seconds: float = 2.0
    """Quiet time in seconds after an S3 event before the dataset is refreshed; after 30 s of events it is in any case."""

    reconcile_seconds: float = 3600.0
    """How often the objects of a dataset with notifications are listed, for changes that no message told of."""

    audit_days: int = 0
    """Days for which the audit trail and the log of tool calls are kept; the worker removes what is older. 0: for ever."""

    lake_url: str = "http://127.0.0.1:8444"
    """Where the context-lake service listens and is found."""

    engine_url: str = "http://127.0.0.1:8445"
    """Where the agent-engine service listens and is found."""

    worker_url: str = "http://127.0.0.1:8447"
    """Where the worker tells its metrics."""

    demo_model_url: str = "http://127.0.0.1:8446"
    """Where the scripted demo model listens and is found."""

    lake_host_socket: Path | None = None
    """The control socket of the process that forks runtimes. Unset: `run/lake-host.sock` in the data directory."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged."""

    @property
    def keys_dir(self) -> Path:
        return self.jwt_keys_dir or self.data_dir / "keys"

    @property
    def imports(self) -> Path:
        return self.import_root or self.data_dir / "imports"

    @property
    def uploads(self) -> Path:
        return self.data_dir / "uploads"

    @property
    def host_socket(self) -> Path:
        return self.lake_host_socket or self.data_dir / "run" / "lake-host.sock"

    @property
    def vm_recycle_bytes(self) -> int:
        return (self.vm_recycle_mib or self.vm_memory_mib // 2) * 1024 * 1024

    @property
    def session_seconds(self) -> int:
        return duration_seconds(self.local_session_ttl)


class SettingDoc(Struct, frozen=True, kw_only=True):
    """One row of the settings page."""

    variable: str
    default: str
    meaning: str


def read_settings(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """The settings that the environment gives; an empty variable counts as unset.

    Raises SettingError, which names the variable and what it should hold.
    """
    source = os.environ if environment is None else environment
    hints = get_type_hints(Settings)
    values: dict[str, Any] = {}
    for field in fields(Settings):
        text = source.get(PREFIX + field.name.upper(), "").strip()
        if text:
            values[field.name] = _parse(PREFIX + field.name.upper(), text, hints[field.name])
    settings = Settings(**(values | overrides))
    _check(settings)
    return settings


def document_settings() -> list[SettingDoc]:
    """Variable, default and meaning of every setting, in the order of their declaration."""
    meanings = _meanings()
    return [
        SettingDoc(
            variable=PREFIX + field.name.upper(),
            default=_shown_default(None if field.default is NODEFAULT else field.default),
            meaning=meanings[field.name],
        )
        for field in fields(Settings)
    ]


def duration_seconds(text: str) -> int:
    """Seconds of a duration such as `90s`, `30m` or `1h30m`. Raises ValueError."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not found or not any(found.groups()):
        raise ValueError(f"'{text}' is not a duration")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds


def _check(settings: Settings) -> None:
    if not 1 <= settings.port <= 65535:
        raise SettingError("WEIR_PORT must be between 1 and 65535")
    for name in (
        "requests_at_once",
        "sql_timeout_seconds",
        "stalled_reader_seconds",
        "vm_idle_seconds",
        "confirm_timeout_seconds",
        "vm_memory_mib",
        "lake_kept_mib",
        "refresh_timeout_seconds",
        "import_max_mib",
        "imports_quota_mib",
    ):
        if getattr(settings, name) <= 0:
            raise SettingError(f"{PREFIX}{name.upper()} must be greater than 0")
    _check_memory(settings)
    _check_ranges(settings)
    if not 1 <= settings.reconcile_seconds < math.inf:
        raise SettingError("WEIR_RECONCILE_SECONDS must be 1 or more")
    try:
        positive = settings.session_seconds > 0
    except ValueError:
        positive = False
    if not positive:
        raise SettingError("WEIR_LOCAL_SESSION_TTL must be a duration such as 30m or 1h30m")
    token = settings.bootstrap_admin_token
    if token is not None and not re.fullmatch(r"bb_[0-9a-f]{64}", token):
        raise SettingError("WEIR_BOOTSTRAP_ADMIN_TOKEN must be bb_ followed by 64 lower-case hex digits")
    prefix = settings.config_variables_prefix
    if prefix is not None and (not re.fullmatch(r"[A-Z][A-Z0-9_]*_", prefix) or prefix.startswith(PREFIX)):
        raise SettingError(
            "WEIR_CONFIG_VARIABLES_PREFIX must be capital letters, digits and _, end with _ and not begin with WEIR_"
        )
    role = settings.s3_role_arn
    if role is not None and not re.fullmatch(
        r"arn:[\w-]+:iam::\d{12}:role/[\w+=,.@/-]*\{tenant\}[\w+=,.@/-]*", role
    ):
        raise SettingError("WEIR_S3_ROLE_ARN must read arn:aws:iam::<account>:role/<name with {tenant}>")
    if settings.vm_provider == "kubernetes":
        raise SettingError(
            "WEIR_VM_PROVIDER=kubernetes is not available in this version; leave it at process"
        )
    if settings.auth_mode == "external" and settings.jwt_public_key_path is None:
        raise SettingError("WEIR_AUTH_MODE=external needs WEIR_JWT_PUBLIC_KEY_PATH")


def _check_ranges(settings: Settings) -> None:
    if not 0 <= settings.refresh_debounce_seconds <= MOST_DEBOUNCE_SECONDS:
        raise SettingError(f"WEIR_REFRESH_DEBOUNCE_SECONDS must be between 0 and {MOST_DEBOUNCE_SECONDS}")
    if not 0 <= settings.audit_days <= MOST_AUDIT_DAYS:
        raise SettingError(f"WEIR_AUDIT_DAYS must be between 0 and {MOST_AUDIT_DAYS}")


def _check_memory(settings: Settings) -> None:
    if settings.vm_kept_tables_mib < 0:
        raise SettingError(f"{PREFIX}VM_KEPT_TABLES_MIB must not be negative")
    if settings.vm_recycle_mib is not None and not 0 < settings.vm_recycle_mib <= settings.vm_memory_mib:
        raise SettingError("WEIR_VM_RECYCLE_MIB must be greater than 0 and at most WEIR_VM_MEMORY_MIB")


def _parse(variable: str, text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise SettingError(f"{variable} must be one of {', '.join(get_args(kind))}; it is '{text}'")
        return text
    wanted = next((part for part in get_args(kind) if part is not type(None)), kind)
    wish, parse = _PARSERS[wanted]
    try:
        return parse(text)
    except (ValueError, KeyError):
        raise SettingError(f"{variable} must be {wish}; it is '{text}'") from None


_SWITCH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}
_PARSERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    str: ("a text", str),
    int: ("a whole number", int),
    float: ("a number", float),
    bool: ("1 or 0", lambda text: _SWITCH[text.lower()]),
    Path: ("a path", lambda text: Path(text).expanduser()),
}


def _meanings() -> dict[str, str]:
    """The literal that stands under each field, found by the field's name."""
    [body] = [
        node.body for node in ast.parse(inspect.getsource(Settings)).body if isinstance(node, ast.ClassDef)
    ]
    found: dict[str, str] = {}
    for field, text in pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = str(text.value.value)
    return found


def _shown_default(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(int(value))
    return str(value)
