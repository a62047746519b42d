"""ΣLANG's dictionaries over HTTP: trained from samples, listed, downloaded and deleted."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from app.api import json_bodies
from app.api.compression import BINARY, RAW, RawResponse, Sigmalang
from app.api.problems import ProblemError, responses
from app.api.raw_bodies import read_bounded
from app.api.streaming import in_thread
from app.integrations import dictionaries
from app.integrations.dictionaries import Dictionaries, Entry

router = APIRouter(prefix="/v1/dictionaries", tags=["ΣLANG"])
changing = APIRouter(prefix="/v1/dictionaries", tags=["ΣLANG"])
"""Routes that change dictionaries. They require the key of an admin."""

MOST_BODY_BYTES = 16 * 1024 * 1024


class Samples(BaseModel):
    """The samples to train a dictionary with."""

    samples: list[Annotated[str, Field(json_schema_extra={"format": "byte"})]] = Field(
        min_length=dictionaries.LEAST_SAMPLES,
        max_length=dictionaries.MOST_SAMPLES,
        description="Documents like those that will be compressed, each in base64; hundreds are better than tens",
    )
    size: int = Field(
        default=16 * 1024,
        ge=dictionaries.LEAST_BYTES,
        le=dictionaries.MOST_BYTES,
        description="The most bytes that the dictionary may have",
    )


class Dictionary(BaseModel):
    """A dictionary that `compress` and `decompress` take by its id."""

    id: str = Field(description="Made from its content: the same samples give the same id")
    bytes: int
    created: float = Field(description="Seconds since 1970")


class DictionaryList(BaseModel):
    """All dictionaries of the instance, oldest first."""

    dictionaries: list[Dictionary]


_UNKNOWN = "There is no such dictionary"


@changing.post(
    "",
    status_code=201,
    openapi_extra=json_bodies.described(Samples, MOST_BODY_BYTES),
    responses=responses(
        _409="There are SIGMALANG_MAX_DICTIONARIES already",
        _413="The body is too large",
        _422="The body is not valid, or the samples are useless for a dictionary",
        _507="The dictionary cannot be stored",
    ),
)
async def train(request: Request) -> Dictionary:
    """Train a dictionary from samples. All workers can use it at once."""
    given = await read_bounded(request, MOST_BODY_BYTES)
    return _shown(await in_thread(_train, given, _of(request)))


@router.get("")
async def listing(request: Request) -> DictionaryList:
    """List the dictionaries."""
    return DictionaryList(dictionaries=[_shown(entry) for entry in await in_thread(_of(request).entries)])


@router.get(
    "/{dictionary}",
    response_class=RawResponse,
    responses={
        200: {"description": "The dictionary, in the format of zstandard's own tools", "content": BINARY},
        **responses(_404=_UNKNOWN),
    },
)
async def read(request: Request, dictionary: str) -> RawResponse:
    """Return a dictionary's bytes."""
    try:
        return RawResponse(await in_thread(_of(request).read, dictionary), media_type=RAW)
    except dictionaries.UnknownDictionaryError as error:
        raise ProblemError(404, error.reason, str(error)) from error


@changing.delete("/{dictionary}", status_code=204, response_class=Response, responses=responses(_404=_UNKNOWN, _507="It cannot be deleted"))
async def delete(request: Request, dictionary: str) -> Response:
    """Delete a dictionary. Documents that were compressed with it can no longer be restored here."""
    try:
        await in_thread(_of(request).remove, dictionary)
    except dictionaries.UnknownDictionaryError as error:
        raise ProblemError(404, error.reason, str(error)) from error
    except OSError as error:
        raise ProblemError(507, "storage_failed", f"the dictionary cannot be deleted: {error.strerror}") from error
    return Response(status_code=204)


def _of(request: Request) -> Dictionaries:
    state: Sigmalang = request.app.state.sigmalang
    return state.dictionaries


def _shown(entry: Entry) -> Dictionary:
    return Dictionary(id=entry.id, bytes=entry.bytes, created=entry.created)


def _train(given: bytes, known: Dictionaries) -> Entry:
    try:
        wanted = json_bodies.parse(given, Samples)
        samples = [base64.b64decode(sample, validate=True) for sample in wanted.samples]
        return known.add(dictionaries.train(wanted.size, samples))
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ProblemError(422, "invalid", f"samples: each must be base64: {error}") from error
    except dictionaries.UselessSamplesError as error:
        raise ProblemError(422, "useless_samples", str(error)) from error
    except dictionaries.TooManyDictionariesError as error:
        raise ProblemError(409, "too_many_dictionaries", str(error)) from error
    except OSError as error:
        raise ProblemError(507, "storage_failed", f"the dictionary cannot be stored: {error.strerror}") from error
