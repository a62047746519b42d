"""The last families of custom collectors, in `collected.json` (one process for all) and `collected_s3.json` (one worker's own).

A file holds whole families as JSON and is replaced by rename, so a reader gets the families of one time.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Timestamp
from prometheus_client.validation import _validate_labelname, _validate_metric_name

from monitoring.multiprocess import text_format

if TYPE_CHECKING:
    from collections.abc import Iterable


def encode(families: Iterable[Metric]) -> bytes:
    """The bytes of a file that holds these families."""
    return json.dumps([_plain(metric) for metric in families]).encode()


def decode(data: bytes) -> list[Metric]:
    """The families of a file's bytes; ValueError for any bytes that `encode` does not write."""
    try:
        return [checked(_family(*entry)) for entry in json.loads(data)]
    except (TypeError, AttributeError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from error


def checked(metric: Metric) -> Metric:
    """The metric as plain types and each series once; ValueError (TypeError) where it has no valid exposition."""
    sound = _family(*_plain(metric))
    seen: set[Any] = set()
    for sample in sound.samples:
        _validate_metric_name(sample.name)
        if not sample.name.startswith(sound.name):
            message = f"sample {sample.name!r} does not belong to family {sound.name!r}"
            raise ValueError(message)
        for label in sample.labels:
            _validate_labelname(label)  # type: ignore[no-untyped-call]
        key = (sample.name, tuple(sorted(sample.labels.items())), repr(sample.timestamp))
        if key in seen:
            message = f"sample {sample.name}{sample.labels} comes twice"
            raise ValueError(message)
        seen.add(key)
    for style in (False, True):
        text_format.family(sound, openmetrics=style)
    return sound


def _plain(metric: Metric) -> list[Any]:
    samples = [
        [
            sample.name,
            {str(k): str(v) for k, v in sample.labels.items()},
            float(sample.value),
            _moment(sample.timestamp),
            _plain_exemplar(sample.exemplar),
        ]
        for sample in metric.samples
    ]
    return [metric.name, metric.type, metric.documentation, metric.unit, samples]


def _plain_exemplar(exemplar: Exemplar | None) -> list[Any] | None:
    return [dict(exemplar.labels), float(exemplar.value), _moment(exemplar.timestamp)] if exemplar else None


def _moment(timestamp: Any) -> Any:
    if timestamp is None:
        return None
    return [timestamp.sec, timestamp.nsec] if isinstance(timestamp, Timestamp) else float(timestamp)


def _family(name: str, kind: str, help_text: str, unit: str, samples: list[Any]) -> Metric:
    if not all(isinstance(text, str) for text in (name, kind, help_text, unit)):
        raise ValueError("a family's name, type, help and unit are strings")
    metric = Metric(name, help_text, kind, unit)
    for sample_name, labels, value, timestamp, exemplar in samples:
        pairs = {str(label): str(text) for label, text in labels.items()}
        marked = Exemplar(exemplar[0], float(exemplar[1]), _timestamp(exemplar[2])) if exemplar else None
        metric.add_sample(str(sample_name), pairs, float(value), _timestamp(timestamp), marked)
    return metric


def _timestamp(plain: Any) -> Any:
    return Timestamp(int(plain[0]), int(plain[1])) if isinstance(plain, list) else None if plain is None else float(plain)
