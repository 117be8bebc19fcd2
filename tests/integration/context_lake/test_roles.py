"""`s3_auth: iam_role`: the tenant's own role, assumed by the platform; S3 and STS are moto's."""

import asyncio
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from tests.integration.context_lake.conftest import Caller, Lake
from tests.serving import served

from weir.context_lake import jobs, roles
from weir.context_lake.app import create_app
from weir.context_lake.roles import RoleRefused, Roles
from weir.context_lake.surroundings import Surroundings
from weir.worker.app import open_context
from weir_shared.settings import SettingError, read_settings

# The status tells times to the second.
SECOND = 1.1
AS_ROLE = {"s3_auth": "iam_role"}
SECRET = "platform-secret-never-seen"


@pytest.fixture
def source(moto_url: str) -> str:
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x"}
    client = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1", **keys)
    client.create_bucket(Bucket="roles")
    client.put_object(Bucket="roles", Key="a.csv", Body=b"a\n1\n2\n")
    return "s3://roles/a.csv"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, list[str]]]:
    """What STS is asked, on its way there."""
    forms: list[dict[str, list[str]]] = []
    ask = Roles._ask

    async def asking(self: Roles, body: bytes) -> tuple[int, str]:
        forms.append(parse_qs(body.decode()))
        return await ask(self, body)

    monkeypatch.setattr(Roles, "_ask", asking)
    return forms


async def test_a_dataset_is_read_as_the_tenants_role(
    caller: Caller, source: str, asked: list[dict[str, list[str]]]
) -> None:
    probed = await caller.http.post(
        "/datasets?probe=true", json={"name": "t", "from": source, "params": AS_ROLE}
    )
    assert probed.status_code == 201, probed.text
    assert await caller.rows("select sum(a) as s from t") == [{"s": 3}]
    assert asked[0]["RoleArn"] == [f"arn:aws:iam::123456789012:role/weir/{caller.tenant_id}"]
    assert asked[0]["ExternalId"] == [caller.tenant_id]
    # Once in the desk and at most once in the worker, however many configurations and probes there are.
    await caller.add("u", source, params=AS_ROLE)
    assert await caller.rows("select count(*) as n from u") == [{"n": 2}]
    assert len(asked) <= 2
    shown = (await caller.http.get("/datasets/t")).text + (await caller.http.get("/config")).text
    assert "ASIA" not in shown
    assert "session" not in shown.lower()


async def test_keys_are_renewed_before_they_end_and_left_alone_while_they_last(
    lake: Lake,
    caller: Caller,
    source: str,
    asked: list[dict[str, list[str]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await caller.add("t", source, params=AS_ROLE)
    assert await caller.rows("select sum(a) as s from t") == [{"s": 3}]
    async with open_context(lake.settings) as context:
        await jobs.renew_roles_any(context)  # this worker's own first keys
        before = await _loaded_at(caller)
        await asyncio.sleep(SECOND)
        await jobs.renew_roles_any(context)
        assert await _loaded_at(caller) == before
        count = len(asked)
        monkeypatch.setattr(roles, "EARLY_SECONDS", roles.ROLE_SECONDS + 1)
        await jobs.renew_roles_any(context)
        assert len(asked) > count
    assert await caller.rows("select sum(a) as s from t where a > 1") == [{"s": 2}]
    assert await _loaded_at(caller) != before


async def _loaded_at(caller: Caller) -> Any:
    await caller.rows("select count(*) as n from t")
    return (await caller.status())["datasets"]["t"]["lastLoadedAt"]


async def test_a_role_that_the_operator_has_not_enabled_is_refused(
    lake: Lake, settings_of: Any, tenant_id: str, source: str
) -> None:
    async with (
        served(create_app(settings_of(s3_role_arn=None))) as url,
        lake.caller(tenant_id, url=url) as caller,
    ):
        body = {"name": "t", "from": source, "params": AS_ROLE}
        answer = await caller.http.post("/datasets", json=body)
    assert answer.status_code == 400
    message = "auth mode iam_role is not enabled on this platform"
    assert answer.json()["errors"] == [{"path": "s3_auth", "message": message, "code": "not_available"}]


async def test_a_role_and_an_endpoint_of_the_tenants_exclude_each_other(caller: Caller, source: str) -> None:
    params = {**AS_ROLE, "s3_endpoint": "https://store.example.com"}
    answer = await caller.http.post("/datasets", json={"name": "t", "from": source, "params": params})
    assert [error["path"] for error in answer.json()["errors"]] == ["s3_endpoint"]


async def test_a_role_that_is_refused_is_the_datasets_own_fault(
    caller: Caller, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refusing(_: Roles, __: bytes) -> tuple[int, str]:
        return 403, f"<Error><Code>AccessDenied</Code><Message>{SECRET}</Message></Error>"

    monkeypatch.setattr(Roles, "_ask", refusing)
    await caller.add("plain", caller.parquet("plain", [{"id": 1}]))
    await caller.add("t", source, params=AS_ROLE)
    answer = await caller.sql("select * from t")
    assert (answer.status_code, answer.json()["code"]) == (502, "source_error")
    assert "the role could not be assumed: AccessDenied" in answer.json()["error"]
    assert SECRET not in answer.text
    assert await caller.rows("select id from plain") == [{"id": 1}]
    probed = await caller.http.post(
        "/datasets?probe=true", json={"name": "u", "from": source, "params": AS_ROLE}
    )
    assert (probed.status_code, probed.json()["code"]) == (400, "source_unreachable")


async def test_without_credentials_of_the_platform_there_is_no_role(tmp_path: Any) -> None:
    around = Surroundings(import_root=tmp_path, s3_role_arn="arn:aws:iam::123456789012:role/{tenant}")
    with pytest.raises(RoleRefused, match="no AWS credentials"):
        await Roles(around, {}).lend("t")
    dead = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1",
    }
    with pytest.raises(RoleRefused, match="did not answer"):
        await Roles(around, dead).lend("t")


@pytest.mark.parametrize(
    "role", ["weir", "arn:aws:iam::123456789012:role/weir", "arn:aws:iam::1:role/{tenant}"]
)
def test_a_role_names_its_tenant(role: str) -> None:
    with pytest.raises(SettingError, match="WEIR_S3_ROLE_ARN"):
        read_settings({"WEIR_S3_ROLE_ARN": role})
