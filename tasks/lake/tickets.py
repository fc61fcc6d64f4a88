"""Tickets of a large frame, looked at before the engine sees them: SHA-256 of many customers side by side.

Alone knows how a hash is computed. Finds whose tickets are low enough for a draw, never who is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numba as nb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ID = "customer_id"
STRATUM = ["group_key", "stratum"]
CODES = ["branch_no", *STRATUM]
"""Texts that repeat, read as numbers."""
SEED_BYTES = 64
"""One block of SHA-256: what it makes of the seed is the same for every customer."""
ID_BYTES = 54
"""Beside the colon, the mark of the end and the length, what fits into the other block."""
LANES = 64
"""Customers side by side: four registers of AVX-512, eight of AVX2."""

_START = np.array(
    [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19], np.uint32
)
_ROUNDS = np.array(
    [
        0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
        0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
        0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
        0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
        0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
        0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
        0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
        0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
    ],
    np.uint32,
)  # fmt: skip
"""FIPS 180-4, section 4.2.2."""
_u = np.uint32
_AS_TEXT = (np.uint8, np.int32, np.uint8)
"""What the buffers of an Arrow text column hold: which are null, offsets, UTF-8."""

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint32]
Key = tuple[str, str]
"""Group and stratum."""


def low_rows(file: Path, seed: str, bounds: Mapping[Key, int], threads: int) -> pa.Table:
    """The rows of a frame whose ticket's first 32 bits are below the bound of their group and stratum.

    A stratum without a bound has none. Whoever has an id too long to be looked at here counts as low.
    """
    look = partial(_low_of, file, np.frombuffer(seed.encode(), np.uint8), bounds)
    with ThreadPoolExecutor(threads) as workers:
        return pa.concat_tables(workers.map(look, range(pq.read_metadata(file).num_row_groups)))


def _low_of(file: Path, seed: Bytes, bounds: Mapping[Key, int], part: int) -> pa.Table:
    columns = [ID, *CODES]
    with pq.ParquetFile(file, read_dictionary=CODES) as frame:
        rows = frame.read_row_group(part, columns, use_threads=False).unify_dictionaries()
    ids, groups, strata = (rows[name].combine_chunks() for name in (ID, *STRATUM))
    limits = np.array(
        [[bounds.get((group, key), 0) for key in strata.dictionary.to_pylist()]
         for group in groups.dictionary.to_pylist()], np.uint64,
    )  # fmt: skip
    _, offsets, text = (np.frombuffer(each or b"", kind) for each, kind in zip(ids.buffers(), _AS_TEXT, strict=True))
    words = first_words(seed, offsets[ids.offset : ids.offset + len(ids) + 1], text)
    low = rows.filter(pa.array(words < limits[groups.indices, strata.indices]))
    return low.cast(pa.schema([(name, pa.string()) for name in columns]))


def _compiled(function: Any) -> Any:
    """A function as machine code, kept for the next process where there is a folder to keep it in."""
    try:
        return nb.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return nb.njit(nogil=True)(function)


@nb.njit(inline="always")
def _turn(word: Any, by: int) -> Any:
    return (word >> _u(by)) | (word << _u(32 - by))


@_compiled
def _hash_block(words: Words, start: Words, state: Words) -> None:
    """One block in each lane (FIPS 180-4, 6.2.2). words: 16 × lanes, used up; the result is in state, 8 × lanes."""
    for i in range(8):
        for n in range(LANES):
            state[i, n] = start[i]
    for t in range(64):
        at, k = t & 15, _ROUNDS[t]
        if t >= 16:
            for n in range(LANES):
                x, y = words[(t + 1) & 15, n], words[(t + 14) & 15, n]
                more = (_turn(x, 7) ^ _turn(x, 18) ^ (x >> _u(3))) + (_turn(y, 17) ^ _turn(y, 19) ^ (y >> _u(10)))
                words[at, n] += words[(t + 9) & 15, n] + more
        # Instead of moving the eight letters on, their rows are renamed.
        a, b, c, d, e, f, g, h = -t & 7, 1 - t & 7, 2 - t & 7, 3 - t & 7, 4 - t & 7, 5 - t & 7, 6 - t & 7, 7 - t & 7
        for n in range(LANES):
            p, q = state[a, n], state[e, n]
            choice = state[g, n] ^ (q & (state[f, n] ^ state[g, n]))
            majority = (p & state[b, n]) | (state[c, n] & (p | state[b, n]))
            one = state[h, n] + (_turn(q, 6) ^ _turn(q, 11) ^ _turn(q, 25)) + choice + k + words[at, n]
            state[d, n] += one
            state[h, n] = one + (_turn(p, 2) ^ _turn(p, 13) ^ _turn(p, 22)) + majority
    for i in range(8):
        for n in range(LANES):
            state[i, n] += start[i]


@nb.njit(inline="always")
def _set_byte(words: Words, lane: int, at: int, byte: int) -> None:
    words[at >> 2, lane] |= _u(byte) << _u(24 - 8 * (at & 3))


@_compiled
def first_words(seed: Bytes, offsets: Any, text: Bytes) -> Words:
    """The first 32 bits of each ticket, 0 where an id is too long; ids as Arrow keeps them, seed of SEED_BYTES."""
    words, state = np.zeros((16, LANES), np.uint32), np.empty((8, LANES), np.uint32)
    for i in range(SEED_BYTES):
        _set_byte(words, 0, i, seed[i])
    _hash_block(words, _START, state)
    start = state[:, 0].copy()
    found = np.zeros(len(offsets) - 1, np.uint32)
    for first in range(0, len(found), LANES):
        some = min(LANES, len(found) - first)
        words[:] = 0
        for n in range(some):
            begin, size = offsets[first + n], offsets[first + n + 1] - offsets[first + n]
            if size <= ID_BYTES:
                _set_byte(words, n, 0, 58)  # the colon
                for i in range(size):
                    _set_byte(words, n, 1 + i, text[begin + i])
                _set_byte(words, n, 1 + size, 0x80)
                words[15, n] = 8 * (SEED_BYTES + 1 + size)
        _hash_block(words, start, state)
        for n in range(some):
            if offsets[first + n + 1] - offsets[first + n] <= ID_BYTES:
                found[first + n] = state[0, n]
    return found
