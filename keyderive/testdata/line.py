#!/usr/bin/env python3
"""Computes line.json from docs/line-protection.md, with the ciphers of the openssl command line alone.

    python3 line.py > line.json

It shares no code with the project: it is what the vectors are independent by.
"""
import hashlib, json, subprocess

CIPHERS = {"3DES": ("des-ede", 8), "SM4": ("sm4-ecb", 16)}


def ecb(alg, key, data):
    """E(key, data), block by block."""
    name, _ = CIPHERS[alg]
    run = subprocess.run(["openssl", "enc", "-e", "-" + name, "-K", key.hex(), "-nopad"], input=data, stdout=subprocess.PIPE, check=True)
    assert len(run.stdout) == len(data)
    return run.stdout


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


def cbcmac(alg, key, message):
    _, size = CIPHERS[alg]
    assert message and len(message) % size == 0
    state = bytes(size)
    for at in range(0, len(message), size):
        state = ecb(alg, key, xor(state, message[at:at + size]))
    return state[:8]


def diversify(alg, key, factor):
    return ecb(alg, key, factor + bytes(b ^ 0xFF for b in factor))


def zeros_to(message, size):
    return message + bytes(-len(message) % size)


class Session:
    def __init__(self, alg, device_key, device, host, module):
        self.alg, self.key, self.device, self.host, self.module = alg, device_key, device, host, module

    def working(self, label):
        digest = hashlib.sha256(b"pursekeeper line 1 " + label + self.device + self.host + self.module).digest()
        return ecb(self.alg, self.key, digest[:16])

    def proof(self, role):
        message = bytes([role, 1]) + bytes(6) + self.host + self.module + self.device
        return cbcmac(self.alg, self.working(b"authenticate"), message)

    def frame(self, direction, sequence, last, data):
        word = {1: b"down", 2: b"up"}[direction]
        _, size = CIPHERS[self.alg]
        header = bytes([1, direction, int(last)]) + sequence.to_bytes(4, "big") + len(data).to_bytes(2, "big")
        blocks = -(-len(data) // size)
        counters = b"".join(bytes(size - 8) + sequence.to_bytes(4, "big") + n.to_bytes(4, "big") for n in range(blocks))
        ciphertext = xor(data, ecb(self.alg, self.working(b"encrypt " + word), counters))
        mac = cbcmac(self.alg, self.working(b"mac " + word), header + bytes(7) + zeros_to(ciphertext, size))
        return header + ciphertext + mac


def upper(b):
    return b.hex().upper()


def vector(alg):
    master = bytes.fromhex("5A69788796A5B4C3D2E1F00F1E2D3C4B")
    issuer = bytes.fromhex("1000100010001000")
    device = bytes.fromhex("0000202600000017")
    host, module = bytes.fromhex("0123456789ABCDEF"), bytes.fromhex("FEDCBA9876543210")
    key = diversify(alg, diversify(alg, master, issuer), device)
    s = Session(alg, key, device, host, module)
    frames = []
    for direction in (1, 2):
        for sequence, last, data in (
            (1, False, b"\x00"), (2, False, bytes(range(8))), (3, False, bytes(range(16))), (4, False, bytes(range(17))),
            (0x01020304, False, b"80DC" * 25), (0xFFFFFFFF, True, bytes(40)),
        ):
            frames.append({
                "direction": {1: "down", 2: "up"}[direction], "sequence": sequence, "last": last, "data": upper(data),
                "frame": upper(s.frame(direction, sequence, last, data)),
            })
    return {
        "algorithm": alg, "master": upper(master), "issuer": upper(issuer), "deviceNumber": upper(device), "deviceKey": upper(key),
        "hostChallenge": upper(host), "moduleChallenge": upper(module),
        "moduleProof": upper(s.proof(1)), "hostProof": upper(s.proof(2)), "frames": frames,
    }


if __name__ == "__main__":
    version = subprocess.run(["openssl", "version"], stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    print(json.dumps({
        "description": "Line protection, docs/line-protection.md. The keys are test keys.",
        "provenance": "self-computed by line.py beside this file, which follows the document and uses the ciphers of " + version,
        "vectors": [vector("3DES"), vector("SM4")],
    }, indent=1))
