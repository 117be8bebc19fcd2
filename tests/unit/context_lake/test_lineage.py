"""Which view reads what: order, dependents, circles and depth."""

from hypothesis import given
from hypothesis import strategies as some

from weir.context_lake import lineage
from weir.context_lake.document import View


def views(**reads: str) -> list[View]:
    return [View(name=name, sql="", reads=list(read)) for name, read in reads.items()]


def test_a_view_follows_what_it_reads() -> None:
    ordered = lineage.in_order(views(a="bc", b="c", c="x", d=""))
    assert [view.name for view in ordered] == ["c", "b", "a", "d"]


@given(some.permutations([f"v{n}" for n in range(8)]), some.data())
def test_the_order_holds_for_every_lineage_without_circles(rank: list[str], data: some.DataObject) -> None:
    made = [
        View(name=name, sql="", reads=data.draw(some.lists(some.sampled_from(rank[:n] or ["x"]), max_size=3)))
        for n, name in enumerate(rank)
    ]
    seen: set[str] = {"x"}
    for view in lineage.in_order(data.draw(some.permutations(made))):
        assert set(view.reads) <= seen
        seen.add(view.name)
    assert len(seen) == 9


def test_dependents_are_found_through_other_views() -> None:
    reads = lineage.lineage_of(views(a="b", b="c", c="x", d="y"))
    assert lineage.dependents_of("x", reads) == {"a", "b", "c"}
    assert lineage.dependents_of("b", reads) == {"a"}
    assert lineage.dependents_of("a", reads) == set()


def test_a_circle_is_told_as_its_shortest_way() -> None:
    assert lineage.circle_through("a", {"a": ("a",)}) == ["a", "a"]
    assert lineage.circle_through("a", {"a": ("b", "c"), "b": ("c",), "c": ("a",)}) == ["a", "c", "a"]
    assert lineage.circle_through("a", {"a": ("b",), "b": ("c",), "c": ("b",)}) is None


def test_the_deepest_pile_of_views_is_found() -> None:
    assert lineage.deepest_chain({"a": ("b", "d"), "b": ("c",), "c": ("x",), "d": ("x",)}) == ["a", "b", "c"]
    assert lineage.deepest_chain({}) == []
