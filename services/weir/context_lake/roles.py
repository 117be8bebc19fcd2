"""Keys for `s3_auth: iam_role`: a tenant's own role, assumed here, lent to the tenant's runtime for an hour.

The platform's credentials stay in this process. The role's trust policy should ask for the tenant's id as
external id, so that no mistake here opens one tenant's role for another.
"""

import os
import re
import time
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit
from xml.sax.saxutils import unescape

import aiohttp
import structlog
from msgspec import Struct

from weir.context_lake.surroundings import Surroundings
from weir_shared.aws_signature import AwsKeys, query_of, signed_headers

ROLE_SECONDS = 3600
# Keys with less left than this are replaced: twice the time between two looks, and the longest query.
EARLY_SECONDS = 1200
_STS_SECONDS = 8
_FORM = "application/x-www-form-urlencoded; charset=utf-8"

log = structlog.get_logger(__name__)


class LentKeys(Struct, frozen=True, kw_only=True):
    keys: AwsKeys
    ends_at: float


class RoleRefused(Exception):
    """The role was not lent; the text is for the tenant."""


class Lender(Protocol):
    async def lend(self, tenant_id: str) -> LentKeys:
        """Raises RoleRefused."""
        ...


class Roles:
    """Assumes tenants' roles by STS, and keeps what it got until shortly before its end."""

    def __init__(self, around: Surroundings, environment: Mapping[str, str] = os.environ) -> None:
        self._role_arn = around.s3_role_arn
        self._region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"
        self._endpoint = (
            around.aws_endpoint_url
            or environment.get("AWS_ENDPOINT_URL_STS")
            or f"https://sts.{self._region}.amazonaws.com"
        ).rstrip("/")
        self._own = AwsKeys(
            access_key_id=environment.get("AWS_ACCESS_KEY_ID", ""),
            secret_access_key=environment.get("AWS_SECRET_ACCESS_KEY", ""),
            session_token=environment.get("AWS_SESSION_TOKEN", ""),
        )
        self._lent: dict[str, LentKeys] = {}

    async def lend(self, tenant_id: str) -> LentKeys:
        known = self._lent.get(tenant_id)
        if known is None or known.ends_at - time.time() < EARLY_SECONDS:
            known = self._lent[tenant_id] = await self._assume(tenant_id)
        return known

    async def _assume(self, tenant_id: str) -> LentKeys:
        if self._role_arn is None:
            raise RoleRefused("auth mode iam_role is not enabled on this platform")
        if not self._own.access_key_id:
            raise RoleRefused("the platform has no AWS credentials to assume the role with")
        wanted = {
            "Action": "AssumeRole",
            "Version": "2011-06-15",
            "RoleArn": self._role_arn.replace("{tenant}", tenant_id),
            "RoleSessionName": f"weir-{tenant_id}",
            "ExternalId": tenant_id,
            "DurationSeconds": str(ROLE_SECONDS),
        }
        try:
            status, text = await self._ask(query_of(wanted).encode())
        except (aiohttp.ClientError, OSError, TimeoutError) as fault:
            log.error("role not assumed", tenant_id=tenant_id, reason=type(fault).__name__)
            raise RoleRefused("the role could not be assumed: AWS STS did not answer") from None
        if status != 200:
            code = re.search(r"<Code>(\w+)</Code>", text)
            log.error("role not assumed", tenant_id=tenant_id, status=status, reason=text[:500])
            raise RoleRefused(f"the role could not be assumed: {code[1] if code else status}")
        return _read(text)

    async def _ask(self, body: bytes) -> tuple[int, str]:
        parts = urlsplit(self._endpoint)
        headers = signed_headers(
            self._own,
            method="POST",
            host=parts.netloc,
            path="/",
            query="",
            body=body,
            service="sts",
            region=self._region,
        )
        timeout = aiohttp.ClientTimeout(total=_STS_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.post(
                f"{self._endpoint}/",
                data=body,
                headers={**headers, "content-type": _FORM},
                allow_redirects=False,
            ) as response,
        ):
            return response.status, await response.text()


def _read(text: str) -> LentKeys:
    """The keys of STS's answer."""
    found: dict[str, str] = {
        name: unescape(value) for name, value in re.findall(r"<(\w+)>([^<]+)</\1>", text)
    }
    try:
        keys = AwsKeys(
            access_key_id=found["AccessKeyId"],
            secret_access_key=found["SecretAccessKey"],
            session_token=found["SessionToken"],
        )
    except KeyError:
        raise RoleRefused("the role could not be assumed: AWS STS gave no keys") from None
    # By our clock: STS grants what was asked for or refuses.
    return LentKeys(keys=keys, ends_at=time.time() + ROLE_SECONDS)


async def role_options(lender: Lender, tenant_id: str) -> dict[str, str]:
    """A dataset's options in the place of `auth: iam_role`; a role that is refused is its own failure."""
    try:
        keys = (await lender.lend(tenant_id)).keys
    except RoleRefused as refusal:
        return {"role_refusal": str(refusal)}
    return {
        "auth": "key",
        "access_key_id": keys.access_key_id,
        "secret_access_key": keys.secret_access_key,
        "session_token": keys.session_token,
    }
