#!/usr/bin/env python3
"""Many streaming clients at once on a served model: some read slowly, some leave at any moment.

soak.py URL [--clients N] [--seconds S] [--pid PID] [--key KEY]: every complete text must equal the one that was
computed alone, slots must come free, the server must stay healthy, and its memory (of process PID) bounded. Prints
one line of JSON: counts, times to the first token (waiting for a slot included), memory.
"""
import argparse
import asyncio
import json
import random
import socket
import struct
import time
import urllib.parse
import urllib.request

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--clients", type=int, default=200)
parser.add_argument("--seconds", type=float, default=30)
parser.add_argument("--pid", type=int)
parser.add_argument("--key", default="unused")
args = parser.parse_args()
address = urllib.parse.urlsplit(args.url)
PATH = "/v1/completions"
KINDS = 24
GROWTH_MIB = 64

draw = random.Random(1)
requests = [
    {
        "prompt": "".join(draw.choices(["aa", " ", "bb", "!", "cc "], k=draw.randint(1, 40))),
        "max_tokens": draw.randint(1, 80), "seed": i, "temperature": draw.choice([0, 1]),
    }
    for i in range(KINDS)
]
counts = {"complete": 0, "slow": 0, "left": 0, "busy": 0, "wrong": 0, "broken": 0}
first_tokens, resident = [], []


def fetch(path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {args.key}", "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(args.url + path, data, headers), timeout=60) as reply:
        return reply.read().decode()


def metric(name):
    return next(float(line.split()[1]) for line in fetch("/metrics").splitlines() if line.split()[0] == name)


def memory():
    with open(f"/proc/{args.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


async def connect(slow):
    """A connection; that of a slow reader takes little at a time."""
    sock = socket.socket()
    sock.setblocking(False)
    if slow:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
    return sock, await asyncio.open_connection(sock=sock, limit=1 << 14)


async def ask(kind, behaviour, chance):
    """Streams one answer; returns what became of it."""
    body = json.dumps({**requests[kind], "stream": True})
    sock, (reader, writer) = await connect(behaviour == "slow")
    start, text = time.monotonic(), ""
    leave_after = chance.randint(0, 20) if behaviour == "leave" else None
    try:
        head = f"POST {PATH} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {args.key}\r\n"
        writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        if leave_after == 0:
            return "left"
        status = int((await reader.readline()).split()[1])
        if status == 429:
            return "busy"
        if status != 200:
            return "broken"
        pieces = 0
        while line := await reader.readline():
            if not line.startswith(b"data: "):
                continue
            data = line[6:].strip()
            if data == b"[DONE]":
                return "complete" if text == alone[kind] else "wrong"
            chunk = json.loads(data)
            if "error" in chunk:
                return "broken"
            if not pieces:
                first_tokens.append(time.monotonic() - start)
            pieces += 1
            text += chunk["choices"][0]["text"]
            if leave_after and pieces >= leave_after:
                return "left"
            if behaviour == "slow":
                await asyncio.sleep(chance.random() * 0.05)
        return "broken"
    finally:
        if behaviour == "leave" and chance.random() < 0.5:
            # No goodbye: the connection is reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()


async def client(number, end):
    chance = random.Random(number)
    while time.monotonic() < end:
        behaviour = chance.choice(["read", "read", "slow", "leave"])
        outcome = await ask(chance.randrange(KINDS), behaviour, chance)
        counts[outcome] += 1
        if outcome == "complete" and behaviour == "slow":
            counts["slow"] += 1
        if outcome == "busy":
            await asyncio.sleep(1)


async def watch(end):
    """Notes the server's memory, and that it answers all the while."""
    loop = asyncio.get_running_loop()
    while time.monotonic() < end:
        assert json.loads(await loop.run_in_executor(None, fetch, "/health")) == {"status": "ok"}
        if args.pid:
            resident.append(memory())
        await asyncio.sleep(1)


async def soak():
    end = time.monotonic() + args.seconds
    await asyncio.gather(watch(end), *(client(number, end) for number in range(args.clients)))


alone = [json.loads(fetch(PATH, request))["choices"][0]["text"] for request in requests]
asyncio.run(soak())
for _ in range(100):
    if metric("anegpt_jobs_running") + metric("anegpt_jobs_waiting") == 0:
        break
    time.sleep(0.1)
else:
    raise SystemExit("soak: jobs of clients that left go on")
assert [json.loads(fetch(PATH, request))["choices"][0]["text"] for request in requests] == alone
first_tokens.sort()
at = lambda share: round(first_tokens[min(int(share * len(first_tokens)), len(first_tokens) - 1)], 3)
# Caches of all slots fill up in the first part; memory of the second must not grow beyond it.
half = len(resident) // 2
growth = max(resident[half:]) - max(resident[:half]) if half else 0
print(json.dumps({
    "clients": args.clients, "seconds": args.seconds, **counts,
    "first_token_s": {"p50": at(0.5), "p99": at(0.99)},
    "tokens": metric("anegpt_generated_tokens_total"),
    "resident_mib": {"first": round(resident[0], 1), "most": round(max(resident), 1), "growth": round(growth, 1)} if resident else None,
}))
if counts["wrong"] or counts["broken"] or not counts["complete"] or growth > GROWTH_MIB:
    raise SystemExit("soak: failed")
