"""The tables that a lake has, as the tool lake_tables tells them, and how words find their columns."""

import re

import msgspec
from msgspec import Struct


class Column(Struct, frozen=True):
    name: str
    type: str = ""

    @property
    def words(self) -> frozenset[str]:
        return frozenset(re.findall(r"[a-z]+|\d+", self.name.lower()))

    @property
    def is_number(self) -> bool:
        return bool(re.search(r"int|float|double|decimal|numeric|real", self.type, re.IGNORECASE))


class Table(Struct, frozen=True):
    name: str
    columns: list[Column] = []
    kind: str = "dataset"
    description: str | None = None
    error: str | None = None

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


class Catalogue(Struct, frozen=True):
    tables: list[Table]

    def named(self, word: str) -> Table | None:
        """The table that a word names, in the singular or the plural."""
        return next((table for table in self.tables if singular(table.name.lower()) == singular(word)), None)


class Phrase(Struct, frozen=True):
    """A column that some words of a question mean."""

    table: Table
    column: Column
    words: frozenset[str]


# Words of people for the words in columns' names.
SYNONYMS = {
    "departure": "dep",
    "departures": "dep",
    "departing": "dep",
    "arrival": "arr",
    "arrivals": "arr",
    "arriving": "arr",
    "delays": "delay",
    "delayed": "delay",
    "scheduled": "sched",
    "airline": "carrier",
    "airlines": "carrier",
    "destination": "dest",
    "destinations": "dest",
    "plane": "tailnum",
    "planes": "tailnum",
    "aircraft": "tailnum",
    "altitude": "alt",
    "latitude": "lat",
    "longitude": "lon",
}


def read_catalogue(text: str) -> Catalogue | None:
    """What lake_tables answered, or None when it is no catalogue."""
    try:
        return msgspec.json.decode(text, type=Catalogue)
    except (msgspec.MsgspecError, RecursionError):
        return None


def meaning(word: str) -> str:
    """A word as columns are named."""
    return SYNONYMS.get(word) or singular(word)


def singular(word: str) -> str:
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def find_column(words: list[str], tables: list[Table]) -> Phrase | None:
    """The column whose whole name the words say; the one that takes most of them, in the order of the tables."""
    meant = {meaning(word): word for word in words} | {word: word for word in words}
    found = [
        Phrase(table, column, frozenset(meant[part] for part in column.words))
        for table in tables
        for column in table.columns
        if column.words and column.words <= meant.keys()
    ]
    return max(found, key=lambda phrase: len(phrase.words), default=None)
