#!/usr/bin/env python3
"""Writes own.json: key blocks after docs/key-blocks.md, computed with OpenSSL's ciphers and CMAC alone, by another program than the one
under test. Run it as: python3 own.py > own.json"""

import json
import subprocess

CIPHERS = {  # name: version, key length, what the derivation data say, OpenSSL's cipher
    "3DES, 2 keys": ("B", 16, 0, "des-ede3-cbc"),
    "3DES, 3 keys": ("B", 24, 1, "des-ede3-cbc"),
    "AES-128": ("D", 16, 2, "aes-128-cbc"),
    "AES-192": ("D", 24, 3, "aes-192-cbc"),
    "AES-256": ("D", 32, 4, "aes-256-cbc"),
}


def run(arguments, data):
    return subprocess.run(["openssl"] + arguments, input=data, stdout=subprocess.PIPE, check=True).stdout


def ede(name, key):
    return key + key[:8] if name == "3DES, 2 keys" else key


def cmac(name, key, data):
    out = run(["mac", "-cipher", CIPHERS[name][3], "-macopt", "hexkey:" + ede(name, key).hex(), "-in", "/dev/stdin", "CMAC"], data)
    return bytes.fromhex(out.decode().strip())


def cbc(name, key, iv, data):
    return run(["enc", "-e", "-" + CIPHERS[name][3], "-K", ede(name, key).hex(), "-iv", iv.hex(), "-nopad"], data)


def derive(name, kbpk, purpose):
    _, length, indicator, _ = CIPHERS[name]
    out, counter = b"", 0
    while len(out) < length:
        counter += 1
        out += cmac(name, kbpk, bytes([counter, 0, purpose, 0, 0, indicator]) + (8 * length).to_bytes(2, "big"))
    return out[:length]


def optional(version, blocks):
    size = 8 if version == "B" else 16
    text = "".join("%s%02X%s" % (i, 4 + len(data), data) for i, data in blocks)
    count = len(blocks)
    if len(text) % size:
        total = len(text) + 4
        total += -total % size
        text += "PB%02X" % (total - len(text)) + "0" * (total - len(text) - 4)
        count += 1
    return count, text


def wrap(name, kbpk, fields, blocks, key, padding):
    version = CIPHERS[name][0]
    size = 8 if version == "B" else 16
    payload = (8 * len(key)).to_bytes(2, "big") + key + padding
    assert len(payload) % size == 0
    count, text = optional(version, blocks)
    length = 16 + len(text) + 2 * len(payload) + 2 * size
    head = "%s%04d%s%02d00%s" % (version, length, fields, count, text)
    mac = cmac(name, derive(name, kbpk, 1), head.encode() + payload)
    return head + cbc(name, derive(name, kbpk, 0), mac, payload).hex().upper() + mac.hex().upper()


def check(cipher, key):
    key = key + key[:8] if cipher == "des-ede3-ecb" else key
    return run(["enc", "-e", "-" + cipher, "-K", key.hex(), "-nopad"], bytes(16))[:3].hex().upper()


def pad(count, start):
    return bytes((start + 7 * i) & 0xFF for i in range(count))


MASTER = bytes.fromhex("404142434445464748494A4B4C4D4E4F")
PURSES = [  # kind, KVER, algorithm, what encrypts a block under it
    ("load", 1, "T", "des-ede3-ecb"),
    ("pin-unblock", 0x0A, "T", "des-ede3-ecb"),
    ("load", 2, "4", "sm4-ecb"),
    ("internal-auth", 0xFF, "4", "sm4-ecb"),
]


def vectors():
    for name, (version, length, _, _) in CIPHERS.items():
        kbpk = bytes((0x10 + 13 * i) & 0xFF for i in range(length))
        for kind, kver, algorithm, cipher in PURSES:
            if algorithm == "4" and version == "B":
                continue
            value = check(cipher, MASTER)
            padding = pad({"B": 14, "D": 14}[version], kver)
            blocks = [("70", "PK1%s%02X%s" % (algorithm, kver, kind)), ("KC", "00" + value)]
            yield {
                "cipher": name, "kbpk": kbpk.hex().upper(), "kbek": derive(name, kbpk, 0).hex().upper(),
                "kbak": derive(name, kbpk, 1).hex().upper(), "key": MASTER.hex().upper(), "padding": padding.hex().upper(),
                "kind": kind, "kver": kver, "algorithm": {"T": "3DES", "4": "SM4"}[algorithm], "check": value,
                "block": wrap(name, kbpk, "E6%sX00N" % algorithm, blocks, MASTER, padding),
            }


if __name__ == "__main__":
    version = subprocess.run(["openssl", "version"], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    print(json.dumps({
        "description": "Purse masters in key blocks, docs/key-blocks.md. The keys are test keys.",
        "provenance": "self-computed by own.py beside this file, which follows the document and uses the ciphers and the CMAC of " + version,
        "vectors": list(vectors()),
    }, indent=1))
