"""The tables that a caller's statements may use."""

from weir.context_lake.document import Dataset, Document, View
from weir.context_lake.permissions import visible_tables
from weir_shared.auth.principal import DEFAULT_TENANT_ID, Principal


def dataset(name: str, visibility: str) -> Dataset:
    return Dataset(
        from_="file:a.csv",
        name=name,
        visibility=visibility,
        created_at="",
        updated_at="",
        created_by="user:a",
    )


def person(subject: str, *scopes: str) -> Principal:
    return Principal(tenant_id=DEFAULT_TENANT_ID, subject=subject, actor="user", scopes=frozenset(scopes))


DOCUMENT = Document(
    datasets=[dataset("Own", "private"), dataset("all", "public"), dataset("team", "shared")],
    views=[View(name="over", sql="", reads=["own"]), View(name="v", sql="", visibility="private")],
)


def test_without_private_items_every_table_may_be_used() -> None:
    assert visible_tables(Document(datasets=[dataset("a", "shared")]), person("b")) is None


def test_others_use_what_is_not_private_and_views_over_what_is() -> None:
    assert visible_tables(DOCUMENT, person("b", "lake:query")) == {"all", "team", "over"}


def test_the_creator_uses_his_own_and_an_admin_everything() -> None:
    assert visible_tables(DOCUMENT, person("a", "lake:query")) == {"Own", "all", "team", "over"}
    assert visible_tables(DOCUMENT, person("b", "admin")) is None
