"""Ryot: models, completions and chats, whole and streamed, and calls that are refused."""

from __future__ import annotations

from typing import Any

from tools.load import expected_metrics, payloads
from tools.load.call import JSON, Call, Moves, Pace, sent_json
from tools.load.client import OffError
from tools.load.scenarios.scenario import Part, Setting, Story, among, with_json

_TOKENS = 48
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


def called(setting: Setting, path: str, tokens: int, pace: Pace | None = None, **more: Any) -> Call:
    """Make a call that the model can answer; a stream tells its usage at its end."""
    model = setting.model or ""
    said = payloads.text(setting.choice, setting.choice.randrange(20, 400))
    chat = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": said}]}
    given: dict[str, Any] = {"model": model, "max_tokens": tokens, **(chat if path == CHAT else {"prompt": said}), **more}
    if given.get("stream"):
        given["stream_options"] = {"include_usage": True}
    body = sent_json(given)
    prompts = len(given["prompt"]) if isinstance(given.get("prompt"), list) else 1
    choices = given.get("n", 1) * prompts
    return Call("POST", path, "", body, JSON, moves=expected_metrics.model_call(model, tokens * choices, len(body)), pace=pace or Pace())


class Models(Part):
    """`/v1/models`, `/v1/completions` and `/v1/chat/completions`."""

    name = "models"
    weight = 5.0

    async def begin(self) -> None:
        answer = await self.client.need(Call("GET", "/v1/models"))
        listed = [each["id"] for each in answer.json()["data"]]
        if not listed:
            raise OffError("GET /v1/models lists no model")
        self.setting.model = self.setting.model or listed[0]
        if self.setting.model not in listed:
            raise OffError(f"GET /v1/models does not list {self.setting.model!r}, but {', '.join(listed)[:200]}")

    def stories(self) -> list[Story]:
        return [self.list, self.complete, self.chat, self.stream, self.chat_stream, self.batch, self.refusals]

    async def list(self) -> None:
        """List the models, and describe one, and one that is none."""
        await self.client.send(Call("GET", "/v1/models"))
        await self.client.send(Call("GET", f"/v1/models/{self.setting.model}", "/v1/models/{model:path}"))
        await self.client.send(Call("GET", "/v1/models/none", "/v1/models/{model:path}", expects=among(404)))

    async def complete(self) -> None:
        """Complete a prompt."""
        await self.client.send(called(self.setting, COMPLETIONS, self.choice.randrange(1, _TOKENS)))

    async def chat(self) -> None:
        """Say the next message."""
        await self.client.send(called(self.setting, CHAT, self.choice.randrange(1, _TOKENS)))

    async def stream(self) -> None:
        """Complete a prompt token by token."""
        await self.client.send(called(self.setting, COMPLETIONS, _TOKENS, stream=True))

    async def chat_stream(self) -> None:
        """Chat token by token."""
        await self.client.send(called(self.setting, CHAT, _TOKENS, stream=True))

    async def batch(self) -> None:
        """Complete several prompts in one call."""
        prompts = [payloads.text(self.choice, 40) for _ in range(self.choice.choice((2, 4, 8)))]
        await self.client.send(called(self.setting, COMPLETIONS, 8, prompt=prompts))

    async def refusals(self) -> None:
        """Send what is refused: no JSON, another shape, a model that is none."""
        moves: Moves = expected_metrics.model_call(self.setting.model or "", 0, 0)
        refused = among(400)
        await self.client.send(Call("POST", COMPLETIONS, body=b'{"model": ', media_type=JSON, expects=refused, moves=moves))
        given: dict[str, Any] = {"model": self.setting.model}
        await self.client.send(with_json("POST", CHAT, given, role="user", expects=refused, moves=moves))
        given = {"model": "no-such-model", "prompt": "A"}
        await self.client.send(with_json("POST", COMPLETIONS, given, role="user", expects=among(404), moves=moves))
        given = {"model": self.setting.model, "prompt": "A", "temperature": 9}
        await self.client.send(with_json("POST", COMPLETIONS, given, role="user", expects=refused, moves=moves))
