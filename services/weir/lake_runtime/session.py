"""How an engine session is set up; every session of a runtime, for opening or for answering, is set so."""

from datafusion import RuntimeEnvBuilder, SessionConfig, SessionContext, SQLOptions

from weir.lake_runtime.settings import MEBIBYTE, RuntimeSettings

CATALOG, SCHEMA = "lake", "public"
BATCH_ROWS = 16_384

QUERIES_ONLY = SQLOptions().with_allow_ddl(False).with_allow_dml(False).with_allow_statements(False)


def answering_session(settings: RuntimeSettings) -> SessionContext:
    """A session without tables of its own: the caller registers the catalog that resolves names."""
    config = _config(settings).with_create_default_catalog_and_schema(False)
    runtime = (
        RuntimeEnvBuilder()
        .with_fair_spill_pool(settings.pool_bytes)
        .with_disk_manager_specified(settings.spill_dir)
    )
    session = SessionContext(config.with_default_catalog_and_schema(CATALOG, SCHEMA), runtime)
    _set(session, "datafusion.runtime.max_temp_directory_size", f"{settings.spill_bytes // MEBIBYTE}M")
    # The listing cache has no age by default: a session would never see a new file.
    _set(session, "datafusion.runtime.list_files_cache_limit", "0K")
    return session


def opening_session(settings: RuntimeSettings) -> SessionContext:
    """A session in which one dataset is registered; a table keeps the reader options of this session."""
    return SessionContext(_config(settings))


def _config(settings: RuntimeSettings) -> SessionConfig:
    return (
        SessionConfig()
        # The runtime has an information_schema of its own: the engine's shows its settings.
        .with_information_schema(False)
        .with_batch_size(BATCH_ROWS)
        .with_target_partitions(settings.partitions)
        .set("datafusion.execution.parquet.pushdown_filters", "true")
        .set("datafusion.execution.collect_statistics", "true")
    )


def _set(session: SessionContext, key: str, value: str) -> None:
    session.sql(f"SET {key} = '{value}'").collect()
