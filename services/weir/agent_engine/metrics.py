"""What the studio counts and times."""

from weir_shared.telemetry.metrics import counter, gauge, histogram

LLM_REQUESTS = counter("llm_requests_total", "Questions asked of models", "provider", "result")
LLM_TOKENS = counter("llm_tokens_total", "Tokens as models' providers count them", "provider", "kind")
LLM_RETRIES = counter("llm_retries_total", "Questions asked again before any answer", "provider", "reason")
LLM_SECONDS = histogram(
    "llm_request_duration_seconds",
    "Time from a question to the end of its answer",
    "provider",
    buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60, 180, 600),
)
LLM_TTFT_SECONDS = histogram("llm_ttft_seconds", "Time from a question to the first part of its answer")
LLM_TURN_SECONDS = histogram("llm_turn_seconds", "Time from the start of a turn to its end")
TOOL_CALLS = counter("tool_calls_total", "Calls of tools", "tool", "status")
TOOL_SECONDS = histogram("tool_call_seconds", "Time a tool took", "tool")
TURNS = counter("turns_total", "Turns that ended", "result")
SSE_OPEN = gauge("sse_open", "Event streams being read")
ACTIVE_SESSIONS = gauge("active_sessions", "Sessions whose turn runs in this process")
TASK_TRANSITIONS = counter("task_transitions_total", "Tasks that came into a state", "to")
TASK_QUEUE_DEPTH = gauge(
    "task_queue_depth", "Tasks that have not ended, by state; every worker tells the same", "status"
)
SSE_ABORTED = counter("sse_aborted_total", "Event streams whose reader left before their end")
CONFIRMATIONS_PENDING = gauge("confirmations_pending", "Calls that wait for a person, by the ledger")
TURNS_LOST = counter("turns_lost_total", "Turns of a process that is gone, given up by this one")
AGENT_STEPS = histogram(
    "agent_steps",
    "Steps of a turn with all its sub-agents",
    buckets=(1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500),
)
