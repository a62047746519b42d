"""Ryot: models, completions and chats, whole and streamed, and requests that are refused."""

from __future__ import annotations

from typing import Any

from tools.load import expected_metrics, payloads
from tools.load.client import UnavailableError
from tools.load.request import JSON, Moves, Pace, Request, encode_json
from tools.load.scenarios.scenario import Context, Scenario, Step, among, json_request

_TOKENS = 48
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


def model_request(context: Context, path: str, tokens: int, pace: Pace | None = None, **more: Any) -> Request:
    """Return a request that the model can answer. A stream reports its usage in its last chunk."""
    model = context.model or ""
    prompt = payloads.text(context.choice, context.choice.randrange(20, 400))
    chat = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]}
    given: dict[str, Any] = {"model": model, "max_tokens": tokens, **(chat if path == CHAT else {"prompt": prompt}), **more}
    if given.get("stream"):
        given["stream_options"] = {"include_usage": True}
    body = encode_json(given)
    prompts = len(given["prompt"]) if isinstance(given.get("prompt"), list) else 1
    choices = given.get("n", 1) * prompts
    return Request("POST", path, "", body, JSON, moves=expected_metrics.model_call(model, tokens * choices, len(body)), pace=pace or Pace())


class ModelsScenario(Scenario):
    """`/v1/models`, `/v1/completions` and `/v1/chat/completions`."""

    name = "models"
    weight = 5.0

    async def set_up(self) -> None:
        answer = await self.client.need(Request("GET", "/v1/models"))
        listed = [each["id"] for each in answer.json()["data"]]
        if not listed:
            raise UnavailableError("GET /v1/models lists no model")
        self.context.model = self.context.model or listed[0]
        if self.context.model not in listed:
            raise UnavailableError(f"GET /v1/models does not list {self.context.model!r}, but {', '.join(listed)[:200]}")

    def steps(self) -> list[Step]:
        return [self.list, self.complete, self.chat, self.stream, self.chat_stream, self.batch, self.refusals]

    async def list(self) -> None:
        """List the models, and describe one, and an unknown one."""
        await self.client.send(Request("GET", "/v1/models"))
        await self.client.send(Request("GET", f"/v1/models/{self.context.model}", "/v1/models/{model:path}"))
        await self.client.send(Request("GET", "/v1/models/none", "/v1/models/{model:path}", expects=among(404)))

    async def complete(self) -> None:
        """Complete a prompt."""
        await self.client.send(model_request(self.context, COMPLETIONS, self.choice.randrange(1, _TOKENS)))

    async def chat(self) -> None:
        """Generate the next message of a chat."""
        await self.client.send(model_request(self.context, CHAT, self.choice.randrange(1, _TOKENS)))

    async def stream(self) -> None:
        """Complete a prompt token by token."""
        await self.client.send(model_request(self.context, COMPLETIONS, _TOKENS, stream=True))

    async def chat_stream(self) -> None:
        """Chat token by token."""
        await self.client.send(model_request(self.context, CHAT, _TOKENS, stream=True))

    async def batch(self) -> None:
        """Complete several prompts in one request."""
        prompts = [payloads.text(self.choice, 40) for _ in range(self.choice.choice((2, 4, 8)))]
        await self.client.send(model_request(self.context, COMPLETIONS, 8, prompt=prompts))

    async def refusals(self) -> None:
        """Send requests that are refused: invalid JSON, missing and wrong fields, an unknown model."""
        moves: Moves = expected_metrics.model_call(self.context.model or "", 0, 0)
        refused = among(400)
        await self.client.send(Request("POST", COMPLETIONS, body=b'{"model": ', media_type=JSON, expects=refused, moves=moves))
        given: dict[str, Any] = {"model": self.context.model}
        await self.client.send(json_request("POST", CHAT, given, role="user", expects=refused, moves=moves))
        given = {"model": "no-such-model", "prompt": "A"}
        await self.client.send(json_request("POST", COMPLETIONS, given, role="user", expects=among(404), moves=moves))
        given = {"model": self.context.model, "prompt": "A", "temperature": 9}
        await self.client.send(json_request("POST", COMPLETIONS, given, role="user", expects=refused, moves=moves))
