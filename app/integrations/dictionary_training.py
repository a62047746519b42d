"""Makes a dictionary for ΣLANG from samples, in a separate program: zstandard's trainer kills its process on some inputs.

Standard input: the dictionary's size in bytes, then each sample after its length; numbers are 4 bytes big-endian. Standard output: the
dictionary. Exit code 3: the samples are useless, and standard error holds the reason in one line.
"""

from __future__ import annotations

import resource
import sys

import zstandard

USELESS = 3
CPU_SECONDS = 60
_GAIN = 1.1
"""A dictionary must compress samples that it was not trained with this many times better than no dictionary."""


def train(size: int, samples: list[bytes]) -> bytes:
    """Return a dictionary of at most `size` bytes; ValueError with the reason if the samples are useless."""
    try:
        half = zstandard.train_dictionary(size, list(samples[::2]))
        plain = zstandard.ZstdCompressor()
        trained = zstandard.ZstdCompressor(dict_data=half)
        without = sum(len(plain.compress(sample)) for sample in samples[1::2])
        with_it = sum(len(trained.compress(sample)) for sample in samples[1::2])
        if without < with_it * _GAIN:
            raise ValueError("a dictionary does not make such samples smaller: they have too little in common")
        return zstandard.train_dictionary(size, list(samples)).as_bytes()
    except zstandard.ZstdError as error:
        raise ValueError(f"no dictionary can be made from these samples: {error}") from error


def pack(size: int, samples: list[bytes]) -> bytes:
    """Return the standard input of the program."""
    parts = [size.to_bytes(4, "big")]
    for sample in samples:
        parts += [len(sample).to_bytes(4, "big"), sample]
    return b"".join(parts)


def unpack(data: bytes) -> tuple[int, list[bytes]]:
    """Parse the output of `pack`."""
    place, samples = 4, []
    while place < len(data):
        end = place + 4 + int.from_bytes(data[place : place + 4], "big")
        samples.append(data[place + 4 : end])
        place = end
    return int.from_bytes(data[:4], "big"), samples


def main() -> None:
    """Run the program."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        made = train(*unpack(sys.stdin.buffer.read()))
    except ValueError as error:
        sys.stderr.write(str(error))
        sys.exit(USELESS)
    sys.stdout.buffer.write(made)


if __name__ == "__main__":
    main()
