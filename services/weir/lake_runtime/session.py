"""How an engine session is set up; every session of a runtime, for opening or for answering, is set so."""

from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext, SQLOptions

from weir.lake_runtime.settings import MEBIBYTE, RuntimeSettings

CATALOG, SCHEMA = "lake", "public"
BATCH_ROWS = 16_384
DENSE_KEYS = 4 * 1024 * 1024

QUERIES_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)


def answering_session(settings: RuntimeSettings, *, names_files: bool = False) -> SessionContext:
    """A session without tables of its own: the caller registers the catalog that resolves names.

    One that `names_files` is for statements that ask which file a row is in: the engine knows that only while it
    reads, and must not deal rows out to its threads before. It has a smaller share of the memory.
    """
    dealt = str(not names_files).lower()
    config = (
        _config(settings)
        .set("datafusion.optimizer.enable_round_robin_repartition", dealt)
        .with_create_default_catalog_and_schema(False)
    )
    runtime = (
        RuntimeEnvBuilder()
        .with_fair_spill_pool(settings.pool_bytes // 4 if names_files else settings.pool_bytes)
        .with_disk_manager_specified(settings.spill_dir)
    )
    session = SessionContext(config.with_default_catalog_and_schema(CATALOG, SCHEMA), runtime)
    _set(session, "datafusion.runtime.max_temp_directory_size", f"{settings.spill_bytes // MEBIBYTE}M")
    # The listing cache has no age by default: a session would never see a new file.
    _set(session, "datafusion.runtime.list_files_cache_limit", "0K")
    return session


def loading_session(settings: RuntimeSettings) -> SessionContext:
    """A session that reads a source whole, within a quarter of the memory; its caller may register a catalog.

    It may ask which file a row is in: see `answering_session`.
    """
    config = (
        _config(settings)
        .set("datafusion.optimizer.enable_round_robin_repartition", "false")
        .with_create_default_catalog_and_schema(False)
    )
    runtime = (
        RuntimeEnvBuilder()
        .with_fair_spill_pool(max(settings.pool_bytes // 4, 16 * MEBIBYTE))
        .with_disk_manager_specified(settings.spill_dir)
    )
    return SessionContext(config.with_default_catalog_and_schema(CATALOG, SCHEMA), runtime)


def planning_session() -> SessionContext:
    """A session that plans and runs nothing; its names are resolved as an answering one's are."""
    config = _base_config().with_create_default_catalog_and_schema(False)
    return SessionContext(config.with_default_catalog_and_schema(CATALOG, SCHEMA))


def opening_session(settings: RuntimeSettings, *, is_selective: bool = False) -> SessionContext:
    """A session in which one dataset is registered; a table keeps the reader options of this session.

    A selective reader of Parquet decodes what its filters read first and the rest only of rows that pass. That
    is five times as fast for a few rows of many columns, and slower for what joins and adds up many rows.
    """
    pushed = str(is_selective).lower()
    return SessionContext(_config(settings).set("datafusion.execution.parquet.pushdown_filters", pushed))


def _base_config() -> SessionConfig:
    # The runtime has an information_schema of its own: the engine's shows its settings.
    return SessionConfig().with_information_schema(False)


def _config(settings: RuntimeSettings) -> SessionConfig:
    return (
        _base_config()
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(settings.partitions)
        .set("datafusion.execution.collect_statistics", "true")
        # Joins on dense integer keys look rows up by position, not by hash.
        .set("datafusion.execution.perfect_hash_join_small_build_threshold", str(DENSE_KEYS))
        .set("datafusion.execution.perfect_hash_join_min_key_density", "0.05")
    )


def _set(session: SessionContext, key: str, value: str) -> None:
    session.sql(f"SET {key} = '{value}'").collect()
