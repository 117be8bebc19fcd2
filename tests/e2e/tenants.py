"""Tenants of a started platform beside its default one, and one of each kind of thing that a tenant can have."""

import re
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
from tests.starting import StartedPlatform

from weir_shared.auth.keys import JWT_KEY, load_or_create_key_pair

METHODS = ("get", "post", "put", "patch", "delete")
LAKE = "/v1/context-lake"
NOWHERE = "http://127.0.0.1:9/v1"


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every method, path and description of an OpenAPI document."""
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def session_of(platform: StartedPlatform, tenant_id: str, scope: str = "admin") -> dict[str, str]:
    """Headers of a session of any tenant, as its issuer would sign it."""
    private = load_or_create_key_pair(platform.data_dir / "keys", JWT_KEY).private
    claims = {"sub": "ann", "tenant_id": tenant_id, "scope": scope, "exp": int(time.time()) + 900}
    return {"Authorization": f"Bearer {jwt.encode(claims, private, 'EdDSA')}"}


class Belongings:
    """What one tenant has: `mark` is in every name, `content` in what it holds, `canary` where a secret goes."""

    def __init__(self, admin: httpx.Client, canary: str = "no-secret") -> None:
        self.admin = admin
        self.mark = f"mark{uuid.uuid4().hex[:12]}"
        self.content = f"content{uuid.uuid4().hex[:12]}"
        self.name = f"of-{self.mark}"
        self.canary = canary
        self.secrets = set[str]()
        self.places: dict[str, list[str]] = {}
        self._engine()
        self._lake()

    def secret(self, where: str) -> str:
        self.secrets.add(where)
        return f"{self.canary}-{where}"

    def made(self, path: str, body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        answer = self.admin.post(path, json=body, **more)
        assert answer.status_code == 201, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    def _engine(self) -> None:
        name, content = self.name, self.content
        api = "/api/v1"
        model = {
            "name": name,
            "type": "openai_compatible",
            "model_name": content,
            "base_url": NOWHERE,
            "api_key": self.secret("model"),
        }
        models = [self.made(f"{api}/models", model)]
        embedder = model | {"name": f"{name}-e", "kind": "embedding", "embedding_dim": 8}
        models.append(self.made(f"{api}/models", embedder))
        agent = self.made(f"{api}/agents", {"name": name, "model": name, "system": content})
        self.made(f"{api}/agents", {"name": f"{name}-2", "model": name, "system": content})
        schema = self.made(f"{api}/schemas", {"name": name, "entry_agent_id": name, "chat_enabled": True})
        ends = {"source": name, "target": f"{name}-2"}
        relation = self.made(f"{api}/schemas/{name}/agent-relations", ends)
        capability = self.made(f"{api}/agents/{name}/capabilities", {"type": "memory"})
        session = self.made(f"{api}/sessions", {"title": content, "schema_id": schema["id"]})
        task = self.made(f"{api}/tasks", {"title": content, "agent": name, "require_approval": True})
        hook = {"type": "webhook", "title": content, "agent": name, "secret": self.secret("webhook")}
        trigger = self.made(f"{api}/triggers", hook)
        base = self.made(f"{api}/knowledge-bases", {"name": name, "embedding_model_id": f"{name}-e"})
        text = {"file": (f"{self.mark}.md", content.encode())}
        file = self.made(f"{api}/knowledge-bases/{name}/files", files=text)
        linked = self.admin.post(f"{api}/knowledge-bases/{name}/agents/{name}")
        assert linked.status_code == 200, linked.text
        server = {
            "name": name,
            "type": "streamable-http",
            "url": NOWHERE,
            "auth_type": "api_key",
            "auth_key_env": "KEY",
            "env_vars": {"KEY": self.secret("mcp")},
        }
        server = self.made(f"{api}/mcp-servers", server)
        setting = self.admin.put(f"{api}/settings/{name}", json={"value": content})
        assert setting.status_code == 200, setting.text
        token = self.made(f"{api}/auth/tokens", {"name": name, "scopes": ["chat"]})
        self.token = token["token"]
        self.places |= {
            "/api/v1/auth/tokens/{token_id}": [token["id"]],
            "/api/v1/models/{name}": [name, str(models[0]["id"])],
            "/api/v1/agents/{name}": [name, agent["id"]],
            "/api/v1/schemas/{name}": [name, schema["id"]],
            "/api/v1/sessions/{session_id}": [session["id"]],
            "/api/v1/tasks/{task_id}": [task["id"]],
            "/api/v1/dispatch/tasks/{task_id}": [task["id"]],
            "/api/v1/triggers/{trigger_id}": [trigger["id"]],
            "/api/v1/settings/{key}": [name],
            "/api/v1/knowledge-bases/{name}": [name, base["id"]],
            "/api/v1/mcp-servers/{name}": [name, server["id"]],
            "/api/v1/resilience/circuit-breakers/{name}": [name],
            "/v1/models/{name}": [name],
            "embedder": [f"{name}-e", str(models[1]["id"])],
            "capability_id": [capability["id"]],
            "relation_id": [relation["id"]],
            "file_id": [file["id"]],
            "agent": [name],
            "entry_id": [str(uuid.uuid4())],
        }

    def _lake(self) -> None:
        name = self.mark
        form = {"file": (f"{name}.csv", f"a\n{self.content}\n".encode())}
        self.made(f"{LAKE}/imports", files=form, data={"name": name})
        bucket = {
            "name": f"{name}_s3",
            "from": "s3://bucket/a.parquet",
            "params": {
                "s3_auth": "key",
                "s3_key": self.secret("s3-key"),
                "s3_secret": self.secret("s3-secret"),
            },
        }
        self.made(f"{LAKE}/datasets", bucket)
        self.made(f"{LAKE}/views", {"name": f"{name}_v", "sql": f"select * from {name}"})
        hook = self.admin.get(f"{LAKE}/webhook").json()
        self.lake_hook = hook["token"]
        self.places |= {
            "/v1/context-lake/datasets/{name}": [name, f"{name}_s3"],
            "/v1/context-lake/views/{name}": [f"{name}_v"],
        }

    def paths(self, path: str) -> list[str]:
        """The path with these things' ids and names in its places; empty where nobody has such a thing."""
        if "{" not in path:
            return [path]
        head, slash, tail = _split(path)
        return [
            _filled(where.replace("\0", chosen) + slash + tail, self.places)
            for where, chosen in ((head, chosen) for chosen in self.places.get(_key(path), []))
        ]


def _key(path: str) -> str:
    return path[: path.index("}") + 1]


def _split(path: str) -> tuple[str, str, str]:
    """Before and after its first place, which is marked."""
    head = re.sub(r"\{\w+\}$", "\0", _key(path))
    rest = path[len(_key(path)) :]
    return head, rest[:1], rest[1:]


def _filled(path: str, places: dict[str, list[str]]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: places[found[1]][0], path)
