#!/usr/bin/env python3
"""Writes shares.json: splits computed with tables of logarithms, by another program than the one under test, which has none. Run it as:
python3 shares.py > shares.json"""

import base64
import hashlib
import json

EXP, LOG = [0] * 512, [0] * 256
x = 1
for i in range(255):  # powers of 3, a generator
    EXP[i], LOG[x] = x, i
    x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)
for i in range(255, 512):
    EXP[i] = EXP[i - 255]


def mul(a, b):
    return EXP[LOG[a] + LOG[b]] if a and b else 0


def power(a, n):
    out = 1
    for _ in range(n):
        out = mul(out, a)
    return out


def encode(body):
    body += hashlib.sha256(b"pursekeeper share 1\0" + body).digest()[:4]
    text = base64.b32encode(body).decode().rstrip("=")
    return "PKS-" + "-".join(text[i:i + 4] for i in range(0, len(text), 4))


def split(random, secret, m, n):
    head, rows = random[:8], random[8:]
    tag = hashlib.sha256(b"pursekeeper secret 1\0" + head + bytes([m, n]) + secret).digest()[:8]
    whole = secret + tag
    assert len(rows) == (m - 1) * len(whole)
    shares = []
    for index in range(1, n + 1):
        value = bytearray(whole)
        for degree in range(1, m):
            for at in range(len(whole)):
                value[at] ^= mul(rows[(degree - 1) * len(whole) + at], power(index, degree))
        shares.append(encode(bytes([1]) + head + bytes([m, n, index, len(secret)]) + bytes(value)))
    return shares


def stream(seed, n):
    out, counter = b"", 0
    while len(out) < n:
        out += hashlib.sha256(seed + bytes([counter])).digest()
        counter += 1
    return out[:n]


def vectors():
    for m, n, size in ((2, 2, 16), (2, 3, 32), (3, 5, 32), (5, 5, 24), (4, 10, 64), (3, 255, 16)):
        secret = stream(b"secret %d %d %d" % (m, n, size), size)
        random = stream(b"random %d %d %d" % (m, n, size), 8 + (m - 1) * (size + 8))
        shares = split(random, secret, m, n)
        yield {"threshold": m, "count": n, "secret": secret.hex(), "random": random.hex(), "shares": shares if n < 20 else shares[:2] + shares[-2:]}


if __name__ == "__main__":
    print(json.dumps({
        "description": "Splits of test keys.",
        "provenance": "self-computed by shares.py beside this file, with tables of logarithms, after the forms in the package's comments",
        "vectors": list(vectors()),
    }, indent=1))
