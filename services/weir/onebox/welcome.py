"""What a person reads when the platform is ready: where it is, how to get in, three commands to copy."""

from weir.onebox.plan import reachable
from weir_shared.settings import Settings

SQL = "SELECT origin, count(*) AS flights FROM flights GROUP BY origin ORDER BY flights DESC"
PLAIN_SQL = "SELECT 1 AS one"
QUESTION = "What is the average departure delay by carrier?"


def welcome(settings: Settings) -> str:
    """The text for these settings; without the demo the commands need nothing that it adds."""
    address = f"http://{reachable(settings.host, 'localhost')}:{settings.port}"
    lines = ["", f"Weir is ready at {address}", ""]
    session = f"an admin session of {settings.local_session_ttl}"
    if settings.auth_mode == "external":
        session = "of the issuer whose key WEIR_JWT_PUBLIC_KEY_PATH holds"
    lines += [f"Get a token ({session}):", "", *_token_command(settings, address), ""]
    lines += ["Then:", ""]
    for command in _commands(settings, address):
        lines += [f"  {command}", ""]
    if settings.demo:
        lines += [
            "The demo's model is a script and says so; the README tells in one line how to put a real one",
            "in its place.",
        ]
    lines.append(f"Logs are in {settings.data_dir / 'logs'}. Ctrl-C stops everything.")
    return "\n".join(lines)


def _token_command(settings: Settings, address: str) -> list[str]:
    if settings.auth_mode == "external":
        return ["  export TOKEN=<a token of your issuer>"]
    reader = """sed 's/.*"access_token":"\\([^"]*\\)".*/\\1/'"""
    return [f"  export TOKEN=$(curl -s -X POST {address}/api/v1/auth/local-session | {reader})"]


def _commands(settings: Settings, address: str) -> list[str]:
    bearer = '-H "Authorization: Bearer $TOKEN"'
    json = f'{bearer} -H "Content-Type: application/json"'
    query = SQL if settings.demo else PLAIN_SQL
    sql = f"""curl -s {address}/v1/context-lake/sql {json} -d '{{"query": "{query}"}}'"""
    status = f"curl -s {address}/v1/context-lake/status {bearer}"
    if not settings.demo:
        return [sql, f"curl -s {address}/api/v1/agents {bearer}", status]
    chat = f"""curl -sN {address}/api/v1/schemas/ask-the-lake/chat {json} -d '{{"message": "{QUESTION}"}}'"""
    return [sql, chat, status]
