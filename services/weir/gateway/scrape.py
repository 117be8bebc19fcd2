"""One scrape for the whole platform: this process's metrics and those of the services behind it.

Every sample gets a `service` label, so that one family may come from several processes. Where each pod is
scraped by itself, the samples are the same ones with Prometheus' own labels beside them.
"""

import asyncio
from collections.abc import Mapping

import aiohttp

from weir.gateway.health import Health
from weir_shared.telemetry.metrics import exposition, gauge

SCRAPE_SECONDS = 2.0
DATABASE_UP = gauge("database_up", "Whether Postgres answered this scrape")
REDIS_UP = gauge("redis_up", "Whether Redis answered this scrape")


class Scraper:
    """Reads the expositions of the services by name and URL, and joins them."""

    def __init__(self, session: aiohttp.ClientSession, health: Health, services: Mapping[str, str]) -> None:
        self._session = session
        self._health = health
        self._services = services

    async def scrape(self) -> bytes:
        """The joined exposition; a service that does not answer is missing and counted in `weir_up`."""
        readiness, texts = await asyncio.gather(
            self._health.readiness(), asyncio.gather(*(self._read(url) for url in self._services.values()))
        )
        DATABASE_UP.set(readiness.database == "ok")
        REDIS_UP.set(readiness.redis == "ok")
        found = {"gateway": exposition().decode()}
        found |= {name: text for name, text in zip(self._services, texts, strict=True) if text is not None}
        states = {name: int(text is not None) for name, text in zip(self._services, texts, strict=True)}
        return join_expositions(found, {"gateway": 1, **states}).encode()

    async def _read(self, url: str) -> str | None:
        try:
            async with asyncio.timeout(SCRAPE_SECONDS), self._session.get(url + "/metrics") as response:
                return (await response.text()) if response.ok else None
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


def join_expositions(texts: Mapping[str, str], up: Mapping[str, int]) -> str:
    """One exposition of several, family by family, each sample labelled with its service."""
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for service, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                family = line.split(" ", 3)[2]
                kept = heads.setdefault(family, [])
                if line.split(" ", 2)[1] not in {head.split(" ", 2)[1] for head in kept}:
                    kept.append(line)
            elif line and not line.startswith("#"):
                samples.setdefault(family, []).append(_labelled(line, service))
    lines = ["# HELP weir_up Whether a service answered this scrape", "# TYPE weir_up gauge"]
    lines += [f'weir_up{{service="{name}"}} {state}' for name, state in up.items()]
    for family, head in heads.items():
        lines += head + samples.get(family, [])
    return "\n".join(lines) + "\n"


def _labelled(sample: str, service: str) -> str:
    name, brace, rest = sample.partition("{")
    if not brace:
        name, _, value = sample.partition(" ")
        return f'{name}{{service="{service}"}} {value}'
    if rest.startswith('service="') or ',service="' in rest:
        return sample
    return f'{name}{{service="{service}",{rest}'
