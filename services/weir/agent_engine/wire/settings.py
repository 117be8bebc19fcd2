"""Settings on the wire: a key and any JSON."""

from typing import Any

from msgspec import Struct


class NewSetting(Struct, frozen=True, kw_only=True):
    value: Any


class SettingDetail(Struct, frozen=True, kw_only=True):
    key: str
    value: Any
    updated_at: str
