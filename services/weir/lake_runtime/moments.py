"""Days and whole seconds as ISO 8601 text, byte for byte as the encoder writes them and in half its time."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

# The years 0 to 9999: any other one carries a sign, which the encoder knows how to write.
_FIRST_DAY, _LAST_DAY = -719_528, 2_932_896
_DAY_SECONDS = 86_400
_FIRST_SECOND, _LAST_SECOND = _FIRST_DAY * _DAY_SECONDS, (_LAST_DAY + 1) * _DAY_SECONDS - 1
# The zones whose time the encoder marks with a Z; another one's offset may change from row to row.
_ZULU = frozenset({"UTC", "+00:00"})
# Below this the kernels' own start costs more than they save.
FEWEST_ROWS = 256


def has_quicker_text(kind: Any) -> bool:
    """Whether a column of this type is worth handing to `as_text`."""
    return pa.types.is_date32(kind) or (pa.types.is_timestamp(kind) and kind.tz in (None, *_ZULU))


def as_text(array: pa.Array) -> pa.Array:
    """The column as the text that the encoder would write, or as it is when that is the encoder's to do."""
    if len(array) < FEWEST_ROWS:
        return array
    return _days_as_text(array) if pa.types.is_date32(array.type) else _seconds_as_text(array)


def _days_as_text(array: pa.Array) -> pa.Array:
    """Each day written once: days repeat, and writing one costs three times what a text costs."""
    days = array.dictionary_encode()
    if not _lies_within(days.dictionary, _FIRST_DAY, _LAST_DAY):
        return array
    return pa.DictionaryArray.from_arrays(days.indices, days.dictionary.cast(pa.string()))


def _seconds_as_text(array: pa.Array) -> pa.Array:
    # Without its zone, which is UTC: the text of a zoned one takes twenty times as long.
    plain = array.cast(pa.timestamp(array.type.unit))
    try:
        seconds = plain.cast(pa.timestamp("s"))
    except pa.ArrowInvalid:
        # Parts of a second: as many digits as each needs, which is no quicker here.
        return array
    if not _lies_within(seconds, _FIRST_SECOND, _LAST_SECOND):
        return array
    text = _with_slice(seconds.cast(pa.string()), 10, 11, "T")
    return text if array.type.tz is None else _with_slice(text, 19, 19, "Z")


def _lies_within(array: pa.Array, first: int, last: int) -> bool:
    edges = pc.call_function("min_max", [array])
    return first <= (edges["min"].value or 0) <= (edges["max"].value or 0) <= last


def _with_slice(texts: pa.Array, start: int, stop: int, replacement: str) -> pa.Array:
    options = pc.ReplaceSliceOptions(start, stop, replacement)
    return pc.call_function("binary_replace_slice", [texts], options)
