"""The vectors of this folder, computed from docs/secagg.md ("Encodings") without any of the project's code: `python compute.py` checks them.

Hashes, HMAC and integers are Python's own; AES is used in ECB mode, one block at a time, so that counters and byte order are written out
here. Each function of a good vector has the defects that the `_bad_` ones are named for as arguments.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

FOLDER = Path(__file__).parent
PROTOCOL = "covenant/secagg/1"
PRIME = 2**256 + 297
Case = dict[str, Any]


def label(attempt: list[str], case: Case, *, lengths: str | None = ">I", count_parties: bool = True) -> bytes:
    """Parts in UTF-8, each after its length. Without lengths they run together."""
    parties = case["parties"]
    parts = [PROTOCOL, *attempt, case["cohort"] or "", case["statement"] or "", case["purpose"]]
    parts += [str(len(parties)), *parties] if count_parties else parties
    encoded = [part.encode() for part in parts]
    return b"".join((struct.pack(lengths, len(part)) if lengths else b"") + part for part in encoded)


def hkdf(secret: bytes, info: bytes, *, salt: bytes = bytes(32)) -> bytes:
    """RFC 5869 with SHA-256, 32 bytes; no salt is a salt of zeros."""
    key = hmac.digest(salt, secret, hashlib.sha256)
    return hmac.digest(key, info + b"\x01", hashlib.sha256)


def mask(case: Case, *, first: int = 0, order: str = "little", counter: str = "big") -> list[int]:
    """NIST SP 800-38A, section 6.5: the cipher over `first`, `first` + 1, ..., read as words and reduced modulo 2^bits."""
    bits, dimension = case["bits"], case["dimension"]
    width = 4 if bits <= 32 else 8
    cipher = Cipher(algorithms.AES256(bytes.fromhex(case["seed"])), modes.ECB()).encryptor()
    blocks = -(-dimension * width // 16)
    stream = b"".join(
        cipher.update((first + number).to_bytes(16, counter))  # type: ignore[arg-type]
        for number in range(blocks)
    )
    words = (stream[place : place + width] for place in range(0, dimension * width, width))
    return [int.from_bytes(word, order) % 2**bits for word in words]  # type: ignore[arg-type]


def packed(case: Case, *, order: str = "little") -> bytes:
    """Coordinate i at bits i b and up of one little-endian number."""
    bits, values = case["bits"], [int(value) for value in case["values"]]
    number = sum(value << place * bits for place, value in enumerate(values))
    return number.to_bytes((len(values) * bits + 7) // 8, order)  # type: ignore[arg-type]


def shares(case: Case) -> dict[str, str]:
    """The polynomial of the secret and the draws at the points that the case names."""
    draws = [int.from_bytes(bytes.fromhex(draw), "big") % PRIME for draw in case["draws"]]
    coefficients = [int(case["secret"], 16), *draws]
    return {
        point: (sum(c * int(point) ** power for power, c in enumerate(coefficients)) % PRIME)
        .to_bytes(33, "big")
        .hex()
        for point in case["shares"]
    }


P256 = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None


def p256_public(seed: bytes, *, wide: bool = True) -> bytes:
    """The compressed point of 1 + (48 bytes of HKDF modulo n - 1), after FIPS 186-5, which strategies/secagg/suites.py states and docs do not.

    Not wide: of the seed itself, modulo n.
    """
    info = b"covenant/secagg/1 p-256 scalar"
    key = hmac.digest(bytes(32), seed, hashlib.sha256)
    first = hmac.digest(key, info + b"\x01", hashlib.sha256)
    drawn = first + hmac.digest(key, first + info + b"\x02", hashlib.sha256)[:16]
    scalar = (
        1 + int.from_bytes(drawn, "big") % (P256_ORDER - 1)
        if wide
        else int.from_bytes(seed, "big") % P256_ORDER
    )
    total: Point = None
    doubled: Point = P256_BASE
    while scalar:
        if scalar & 1:
            total = _added(total, doubled)
        doubled, scalar = _added(doubled, doubled), scalar >> 1
    assert total is not None
    return bytes([2 + total[1] % 2]) + total[0].to_bytes(32, "big")


def _added(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return one or other
    if one[0] == other[0] and (one[1] + other[1]) % P256 == 0:
        return None
    if one == other:
        slope = (3 * one[0] ** 2 - 3) * pow(2 * one[1], -1, P256) % P256
    else:
        slope = (other[1] - one[1]) * pow(other[0] - one[0], -1, P256) % P256
    x = (slope**2 - one[0] - other[0]) % P256
    return x, (slope * (one[0] - x) - one[1]) % P256


def neighbours(case: Case, *, upwards: bool = False, ascii_seed: bool = False) -> list[list[int]]:
    """Fisher and Yates's shuffle with draws from SHA-256, and a ring in that order."""
    count, half = case["sites"], case["degree"] // 2
    seed = case["seed"].encode() if ascii_seed else bytes.fromhex(case["seed"])
    order, counter = list(range(count)), 0
    lasts = range(1, count) if upwards else range(count - 1, 0, -1)
    for last in lasts:
        while True:
            data = b"covenant/secagg/1 graph" + seed + struct.pack(">Q", counter)
            drawn = int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
            counter += 1
            if drawn < 2**64 // (last + 1) * (last + 1):
                break
        chosen = drawn % (last + 1)
        order[last], order[chosen] = order[chosen], order[last]
    near: list[list[int]] = [[] for _ in order]
    for place, site in enumerate(order):
        steps = [step for step in range(-half, half + 1) if step]
        near[site] = sorted(order[(place + step) % count] for step in steps)
    return near


def read(name: str) -> Case:
    """One file."""
    found: Case = json.loads((FOLDER / f"{name}.json").read_text())
    return found


def digest(words: list[int]) -> str:
    """SHA-256 over the words as eight bytes each, little-endian."""
    return hashlib.sha256(struct.pack(f"<{len(words)}Q", *words)).hexdigest()


def wrong_labels() -> list[str]:
    """What in labels.json is not as it is computed here."""
    file = read("labels")
    return [
        case["purpose"]
        for case in file["cases"]
        if label(file["attempt"], case).hex() != case["label"]
        or hkdf(bytes.fromhex(case["secret"]), bytes.fromhex(case["label"])).hex() != case["derived"]
    ]


def wrong_masks() -> list[str]:
    """What in masks.json is not as it is computed here."""
    found = []
    for case in read("masks")["cases"]:
        words = mask(case)
        listed = [str(word) for word in words]
        if digest(words) != case["sha256"] or case.get("mask", listed) != listed:
            found.append(f"{case['dimension']} of {case['bits']} bits")
    return found


def wrong() -> list[str]:
    """Every good vector that is not what this file computes."""
    found = wrong_labels() + wrong_masks()
    found += [
        f"packing {case['bits']}" for case in read("packing")["cases"] if packed(case).hex() != case["packed"]
    ]
    found += [
        f"shamir {case['threshold']}" for case in read("shamir")["cases"] if shares(case) != case["shares"]
    ]
    found += [
        f"key {case['seed']}"
        for case in read("p256_keys")["cases"]
        if p256_public(bytes.fromhex(case["seed"])).hex() != case["public"]
    ]
    found += [
        f"graph {case['seed']}" for case in read("graph")["cases"] if neighbours(case) != case["neighbours"]
    ]
    return found


if __name__ == "__main__":
    sys.exit("\n".join(wrong()) or 0)
