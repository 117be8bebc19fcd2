"""Questions of a few kinds, as SQL over the tables that there are; every other question is refused."""
# Names come from the catalogue and are quoted; the SQL is checked and run by the lake like anybody's.
# ruff: noqa: S608

import re

from msgspec import Struct

from weir.demo_model.catalogue import Catalogue, Column, Phrase, Table, find_column, singular

AGGREGATES = {
    "avg": ("average", "avg", "mean"),
    "sum": ("total", "sum"),
    "max": ("maximum", "max", "longest", "highest", "largest", "greatest", "biggest", "latest"),
    "min": ("minimum", "min", "shortest", "lowest", "smallest", "least", "earliest"),
}
AGGREGATE_OF = {word: name for name, words in AGGREGATES.items() for word in words}
TITLES = {"avg": "average", "sum": "total", "max": "maximum", "min": "minimum"}
MOST = {"most": "desc", "fewest": "asc"}
NUMBERS = {"three": 3, "five": 5, "ten": 10, "twenty": 20}
DEFAULT_TOP = 5
MOST_ROWS = 100
# Words that say nothing about what is asked.
_FILLERS = """
a all an and are as at average be been by can could count data do does each every find for from get
give had has have how i in is it its list many me much my number of on our overall per please record
row show table tell that the their them there these they this those to top us value values was we
were what whats which who with would you
"""
FILLERS = frozenset(_FILLERS.split())


class NotUnderstood(Exception):
    """A question outside the grammar; the message says which words."""


def understand(text: str, catalogue: Catalogue) -> str:
    """Raises NotUnderstood, also when a single word of the question would be left out of its answer."""
    words = re.findall(r"[a-z]+(?:_[a-z]+)*|\d+", text.lower().replace("'s", ""))
    words = [part for word in words for part in word.split("_")]
    return _Reading(words, catalogue).sql()


class _Reading:
    """One question, read word by word; `_left` are the words that nothing has accounted for."""

    def __init__(self, words: list[str], catalogue: Catalogue) -> None:
        self._words = words
        self._catalogue = catalogue
        self._left = {word for word in words if word not in FILLERS and singular(word) not in FILLERS}

    def sql(self) -> str:
        order = self._order()
        aggregate = self._aggregate_word(ordering=order is not None)
        limit = self._limit()
        before, after = self._split_at_by()
        self._use({word for word in self._words if word in AGGREGATE_OF or word in MOST})
        if order or ("top" in self._words and after):
            return self._top(aggregate, order or "desc", limit, before, after)
        if aggregate:
            return self._aggregate(aggregate, before, after)
        return self._count(before, after)

    def _top(self, aggregate: str | None, order: str, limit: int, before: list[str], after: list[str]) -> str:
        """As in: which 5 airlines have the most flights; top 3 carriers by average distance."""
        if after:
            subject, measure = before, after
        else:
            turn = next((place for place, word in enumerate(before) if word in ("have", "has", "had")), None)
            if turn is None:
                raise NotUnderstood("which of them, and by what?")
            subject, measure = before[:turn], before[turn + 1 :]
        fact = self._counted(measure)
        if fact is not None and aggregate in (None, "max", "min"):
            value, name = "count(*)", f"number of {fact.name}"
        else:
            phrase = self._column(measure)
            fact, name = phrase.table, f"{TITLES[aggregate or 'max']} {phrase.column.name}"
            value = _call(aggregate or "max", phrase.column)
        group = self._dimension(subject, fact)
        self._done()
        return _grouped(fact, group, value, name, order=order, limit=limit)

    def _aggregate(self, aggregate: str, before: list[str], after: list[str]) -> str:
        """As in: average departure delay by carrier; the longest distance."""
        phrase = self._column(before)
        name, value = f"{TITLES[aggregate]} {phrase.column.name}", _call(aggregate, phrase.column)
        self._mentioned(before, phrase.table)
        if not after:
            self._done()
            return f"select {value} as {_quoted(name)} from {_source(phrase.table)}"
        group = self._dimension(after, phrase.table)
        self._done()
        return _grouped(phrase.table, group, value, name, order="desc", limit=MOST_ROWS)

    def _count(self, before: list[str], after: list[str]) -> str:
        """As in: how many flights; number of flights by origin; how many carriers."""
        if not {"many", "number", "count"} & set(self._words):
            raise NotUnderstood(f"none of my questions begins like this: {' '.join(self._words[:6])}")
        fact = self._counted(before)
        if fact is None:
            phrase = self._column(before)
            self._done()
            name = f"number of different {phrase.column.name}"
            value = f"count(distinct {_quoted(phrase.column.name)})"
            return f"select {value} as {_quoted(name)} from {_source(phrase.table)}"
        name = f"number of {fact.name}"
        if not after:
            self._done()
            return f"select count(*) as {_quoted(name)} from {_source(fact)}"
        group = self._dimension(after, fact)
        self._done()
        return _grouped(fact, group, "count(*)", name, order="desc", limit=MOST_ROWS)

    def _counted(self, words: list[str]) -> Table | None:
        """The table that is counted, when the words name one and no column besides."""
        named = self._named_table(words)
        if named is not None:
            word, table = named
            self._use({word})
            return table
        if not {"rows", "row", "records", "record"} & set(words):
            return None
        tables = [table for table in self._catalogue.tables if table.columns]
        return max(tables, key=lambda table: len(table.columns), default=None)

    def _mentioned(self, words: list[str], table: Table) -> None:
        """The question for the average distance of flights names the table that is asked anyway."""
        named = self._named_table(words)
        if named is not None and named[1] is table:
            self._use({named[0]})

    def _named_table(self, words: list[str]) -> tuple[str, Table] | None:
        found = ((word, self._catalogue.named(word)) for word in words)
        return next(((word, table) for word, table in found if table is not None), None)

    def _column(self, words: list[str]) -> Phrase:
        # The widest table first: it is the one that facts are in.
        named = self._named_table(words)
        tables = sorted(self._catalogue.tables, key=lambda table: -len(table.columns))
        if named is not None:
            tables.sort(key=lambda table: table is not named[1])
        phrase = find_column(words, tables)
        if phrase is None:
            said = " ".join(word for word in words if word not in FILLERS and word not in AGGREGATE_OF)
            raise NotUnderstood(f"no column is called anything like '{said or ' '.join(words)}'")
        self._use(phrase.words)
        return phrase

    def _dimension(self, words: list[str], fact: Table) -> "_Dimension":
        """What the answer is grouped by: a column of the table, with the name that another table knows for it."""
        phrase = find_column(words, [fact])
        if phrase is None:
            phrase = self._shared_column(words, fact)
        self._use(phrase.words)
        self._mentioned(words, fact)
        return _Dimension(column=phrase.column, names=_names_of(phrase.column, fact, self._catalogue))

    def _shared_column(self, words: list[str], fact: Table) -> Phrase:
        """As in: by airline, when airlines are a table that shares a column with the one that is asked."""
        named = self._named_table(words)
        if named is not None:
            for column in named[1].columns:
                if fact.column(column.name) is not None:
                    return Phrase(fact, column, frozenset({named[0]}))
        said = " ".join(word for word in words if word not in FILLERS)
        raise NotUnderstood(f"{fact.name} has no column called anything like '{said}'")

    def _order(self) -> str | None:
        """`desc` or `asc` when the first of many are asked for: "which … have the most …"."""
        asks_which = {"which", "who", "what"} & set(self._words) and {"have", "has", "had"} & set(self._words)
        for word in self._words:
            if word in MOST:
                return MOST[word]
            if asks_which and AGGREGATE_OF.get(word) in ("max", "min"):
                return "asc" if AGGREGATE_OF[word] == "min" else "desc"
        return None

    def _aggregate_word(self, *, ordering: bool) -> str | None:
        """Of "the highest average delay" the average, since "highest" is about the order."""
        found = [AGGREGATE_OF[word] for word in self._words if word in AGGREGATE_OF]
        if ordering:
            found.sort(key=lambda name: name in ("max", "min"))
        return found[0] if found else None

    def _limit(self) -> int:
        for word in self._words:
            number = int(word[:6]) if word.isdecimal() else NUMBERS.get(word)
            if number is not None:
                self._use({word})
                return min(max(number, 1), MOST_ROWS)
        return DEFAULT_TOP

    def _split_at_by(self) -> tuple[list[str], list[str]]:
        for place, word in enumerate(self._words):
            if word in ("by", "per") or (word == "each" and place and self._words[place - 1] == "for"):
                return self._words[:place], self._words[place + 1 :]
        return self._words, []

    def _use(self, words: set[str] | frozenset[str]) -> None:
        self._left -= words

    def _done(self) -> None:
        """An answer that leaves out a condition would be the answer to another question."""
        if self._left:
            unread = ", ".join(f"'{word}'" for word in self._words if word in self._left)
            raise NotUnderstood(f"I do not know what to do with {unread}")


class _Dimension(Struct, frozen=True):
    """A column to group by, and the table that has a name for its values."""

    column: Column
    names: Table | None


def _names_of(column: Column, fact: Table, catalogue: Catalogue) -> Table | None:
    return next(
        (
            table
            for table in catalogue.tables
            if table.name != fact.name and table.column(column.name) and table.column("name")
        ),
        None,
    )


def _grouped(fact: Table, by: _Dimension, value: str, name: str, *, order: str, limit: int) -> str:
    column, alias = _quoted(by.column.name), _quoted(name)
    if by.names is None:
        sql = f"select {column}, {value} as {alias} from {_source(fact)} group by {column}"
    else:
        inner = f"select {column}, {value} as {alias} from {_source(fact)} group by {column}"
        sql = (
            f'select found.{column}, names."name", found.{alias} from ({inner}) as found '
            f"left join {_source(by.names)} as names on names.{column} = found.{column}"
        )
    return f"{sql} order by {alias} {order} nulls last limit {limit}"


def _call(aggregate: str, column: Column) -> str:
    return f"{aggregate}({_quoted(column.name)})"


def _source(table: Table) -> str:
    return ".".join(_quoted(part) for part in table.name.split("."))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
