"""Small documents that resemble each other, as an API has them: the same shape, words of a few, and ids that nobody can guess."""

from __future__ import annotations

import json
import uuid
from random import Random


def orders(count: int, seed: int = 1) -> list[bytes]:
    """Give so many, each under 2 KB."""
    source = Random(seed)
    return [json.dumps(_order(source)).encode() for _ in range(count)]


def _order(source: Random) -> dict[str, object]:
    def identifier() -> str:
        return str(uuid.UUID(int=source.getrandbits(128), version=4))

    return {
        "id": identifier(),
        "type": "order.created",
        "created_at": f"2026-{source.randint(1, 12):02}-{source.randint(1, 28):02}T{source.randint(0, 23):02}:00:00Z",
        "customer": {
            "id": identifier(),
            "tier": source.choice(["standard", "premium"]),
            "address": {
                "city": source.choice(["Berlin", "Paris", "Oslo", "Lisbon", "Madrid", "Rome", "Vienna", "Prague"]),
                "postal_code": f"{source.randrange(10**5):05}",
                "country": source.choice(["DE", "FR", "NO", "PT"]),
            },
            "preferences": {"newsletter": source.random() < 0.5, "language": source.choice(["de", "en", "fr"]), "marketing_consent": False},
        },
        "items": [
            {
                "sku": f"SKU-{source.randrange(10**6):06}",
                "quantity": source.randint(1, 9),
                "unit_price": {"amount": source.randrange(100, 99_999) / 100, "currency": "EUR"},
                "gift_wrapped": source.random() < 0.1,
            }
            for _ in range(source.randint(1, 4))
        ],
        "payment": {
            "method": source.choice(["card", "invoice", "transfer"]),
            "status": source.choice(["authorized", "captured"]),
            "transaction_id": source.randbytes(8).hex(),
        },
        "shipping": {"service_level": source.choice(["standard", "express"]), "tracking_number": None, "estimated_delivery_days": 3},
        "metadata": {"source": "web", "schema_version": "2.3", "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"},
    }
