"""What starts fast stays fast: the client of the queue service is loaded by whoever first needs a queue."""

import os
import subprocess
import sys


def test_no_service_loads_the_queue_services_client_to_start() -> None:
    program = (
        "import sys; import weir.context_lake.app, weir.worker.app, weir.gateway.app; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & {'botocore', 'aiobotocore', 'boto3'}))"
    )
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PATH": os.environ["PATH"]}
    said = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert said.stdout.strip() == "[]"
