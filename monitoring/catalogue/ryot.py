"""Ryot: calls of language models. The times of tokens have the names and buckets of vLLM."""

from .declaration import Rule, counter, gauge, histogram

_MODEL = ("model",)
_CALL_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)
_FIRST_TOKEN_SECONDS = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_TOKEN_SECONDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)

ryot_requests = counter("ryot_requests", "Calls of a model by outcome: success, error, timeout, cancelled.", (*_MODEL, "status"))
ryot_request_duration_seconds = histogram(
    "ryot_request_duration_seconds", "Duration of a call with any outcome, of a stream until its end.", _CALL_SECONDS, _MODEL
)
ryot_time_to_first_token_seconds = histogram(
    "ryot_time_to_first_token_seconds", "Time from a call to its first token.", _FIRST_TOKEN_SECONDS, _MODEL
)
ryot_time_per_output_token_seconds = histogram(
    "ryot_time_per_output_token_seconds", "Time per token after the first one, one observation per call.", _TOKEN_SECONDS, _MODEL
)
ryot_tokens_generated = counter("ryot_tokens_generated", "Tokens that models generated.", _MODEL)
ryot_prompt_tokens = counter("ryot_prompt_tokens", "Tokens of the prompts.", _MODEL)
ryot_batch_size = histogram("ryot_batch_size", "Prompts in one call.", (1, 2, 4, 8, 16, 32, 64, 128), _MODEL)
ryot_model_loading_duration_seconds = gauge(
    "ryot_model_loading_duration_seconds", "Time that a model took to load, in the slowest living worker.", Rule.LIVE_MAX, _MODEL
)
