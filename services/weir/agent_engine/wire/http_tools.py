"""Tools that are HTTP requests, as documents describe them. Secrets go in; what comes out in their place is `${NAME}`."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

ParameterName = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
HeaderName = Annotated[str, Meta(pattern="^[A-Za-z0-9-]{1,100}$")]
HeaderValue = Annotated[str, Meta(max_length=4096)]
Text = Annotated[str, Meta(max_length=2000)]
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class HttpParameter(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model says when it calls the tool."""

    name: ParameterName
    type: Literal["string", "number", "integer", "boolean", "array", "object"] = "string"
    description: Text = ""
    required: bool = False


class HttpAuth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`token` is the secret of any type: a bearer's token, a password, the value of `header`."""

    type: Literal["none", "bearer", "basic", "header"] = "none"
    username: Annotated[str, Meta(max_length=500)] | None = None
    header: HeaderName | None = None
    token: HeaderValue | None = None


class HttpToolFields(Struct, frozen=True, kw_only=True):
    """`{{name}}` stands for a parameter: in the path or the query of `url`, in `query`, and anywhere in `body`."""

    description: Text | UnsetType | None = UNSET
    method: Method | UnsetType | None = UNSET
    params: Annotated[list[HttpParameter], Meta(max_length=64)] | UnsetType | None = UNSET
    query: Annotated[dict[Text, Text], Meta(max_length=64)] | UnsetType | None = UNSET
    body: dict[str, Any] | list[Any] | UnsetType | None = UNSET
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=32)] | UnsetType | None = UNSET
    auth: HttpAuth | UnsetType | None = UNSET
    confirmation_required: bool | UnsetType | None = UNSET


class NewHttpTool(HttpToolFields, frozen=True, kw_only=True):
    name: str
    url: Text


class HttpToolChange(HttpToolFields, frozen=True, kw_only=True):
    url: Text | UnsetType = UNSET


class HttpToolDetail(Struct, frozen=True, kw_only=True):
    name: str
    description: str
    method: Method
    url: str
    params: list[HttpParameter]
    query: dict[str, str]
    body: dict[str, Any] | list[Any] | None
    headers: dict[str, str]
    auth: HttpAuth
    confirmation_required: bool
