"""The connectors that a dataset may name, one module each."""

from weir.context_lake.connectors import file, s3
from weir.context_lake.connectors.source import Connector

CONNECTORS: dict[str, Connector] = {connector.id: connector for connector in (s3.CONNECTOR, file.CONNECTOR)}
