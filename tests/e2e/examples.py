"""Running what a page of the documentation shows, as its reader would."""

import os
import subprocess
import sys
from pathlib import Path


def run_example(language: str, code: str, url: str, token: str, folder: Path) -> str:
    """What the example prints; it has to end well within two minutes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")} | {
        "WEIR_URL": url,
        "TOKEN": token,
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": token,
    }
    command = [sys.executable, "-c", code] if language == "python" else ["sh", "-ec", code]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
