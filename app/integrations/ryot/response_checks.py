"""Validation of a backend's answers, before any code relies on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.integrations.ryot.errors import BadBackendError

if TYPE_CHECKING:
    from app.integrations.ryot.backend import Json

_MOST_MODELS = 1000
"""Limit of listed models, since each may become a label."""

_LONGEST_NAME = 512


def checked(answer: object) -> Json:
    """Return an answer or a chunk. Raise BadBackendError unless it is an object with choices, each an object with an index."""
    if not isinstance(answer, dict):
        raise BadBackendError("the backend's answer is not a JSON object")
    choices = answer.get("choices")
    if not isinstance(choices, list) or not all(isinstance(each, dict) and isinstance(each.get("index"), int) for each in choices):
        raise BadBackendError("the backend's answer has no valid choices")
    return answer


def checked_models(answer: object) -> list[Json]:
    """Return the models of a list in OpenAI's format. Raise BadBackendError for any other answer."""
    listed = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise BadBackendError("the backend's list of models is not in OpenAI's format")
    for each in listed:
        if not (isinstance(each, dict) and isinstance(each.get("id"), str) and 0 < len(each["id"]) <= _LONGEST_NAME):
            raise BadBackendError("the backend lists a model without a valid id")
    return [{"object": "model", **each} for each in listed[:_MOST_MODELS]]
