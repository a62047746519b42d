"""ΣLANG's dictionaries: trained, used, listed, deleted."""

from __future__ import annotations

import base64

from tools.load import expected_metrics, payloads
from tools.load.request import JSON, OK, Request, encode_json
from tools.load.scenarios.scenario import Scenario, Step, among, json_request

_ONE = "/v1/dictionaries/{dictionary}"
_SAMPLES = 200


class DictionariesScenario(Scenario):
    """`/v1/dictionaries`."""

    name = "dictionaries"
    route = _ONE

    async def set_up(self) -> None:
        await self.client.need(Request("GET", "/v1/dictionaries"))
        made = (await self.client.need(self._training())).json()
        self.made.add(made["id"])
        #: The dictionary of all `use` steps.
        self._id: str = made["id"]

    def steps(self) -> list[Step]:
        return [self.use, self.use, self.life, self.refusals]

    async def use(self) -> None:
        """Compress a small document with the dictionary, and restore it."""
        document, query = payloads.record(self.choice), f"?dictionary={self._id}"
        moves = expected_metrics.compression(len(document))
        made = await self.client.send(Request("POST", f"/v1/compress{query}", body=document, moves=moves))
        if made.status not in OK:
            return
        restored = await self.client.send(Request("POST", f"/v1/decompress{query}", body=made.body, moves=expected_metrics.decompression))
        if restored.status in OK and restored.body != document:
            self.client.faults["a document did not come back with a dictionary as it was"] += 1

    async def life(self) -> None:
        """List the dictionaries, read one, train another one, and delete it."""
        await self.client.send(Request("GET", "/v1/dictionaries"))
        await self.client.send(Request("GET", f"/v1/dictionaries/{self._id}", _ONE))
        answer = await self.client.send(self._training())
        if answer.status == 201:
            made = answer.json()["id"]
            self.made.add(made)
            await self.remove(made)

    async def refusals(self) -> None:
        """Ask for an unknown dictionary, and train with invalid samples."""
        await self.client.send(Request("GET", "/v1/dictionaries/none", _ONE, expects=among(404)))
        await self.client.send(Request("DELETE", "/v1/dictionaries/none", _ONE, role="admin", expects=among(404)))
        await self.client.send(json_request("POST", "/v1/dictionaries", {"samples": ["!"] * 8}, expects=among(422)))

    def _training(self) -> Request:
        # Samples of this run, so that the dictionary is a new one.
        own = f"{self.context.run} {self.choice.randrange(10**9)} ".encode()
        samples = [base64.b64encode(own + payloads.record(self.choice)).decode() for _ in range(_SAMPLES)]
        body = encode_json({"samples": samples, "size": 4096})
        # As many as there may be: others have made them.
        return Request("POST", "/v1/dictionaries", "", body, JSON, "admin", among(201))
