"""A steady stream of requests. Run in a pod: python - HOST SECONDS RATE [CONNECTIONS] < this file

Each has a connection of its own, or they share so many that are kept for as long as the server keeps them. No more than
`UNDER_WAY` at a time: a machine that cannot carry the rate is asked less, and what fails then has another reason.
"""

import asyncio
import json
import sys
import time

UNDER_WAY = 60
TOLD = 20
"""Failures of one kind that are told one by one; a machine that cannot keep up has thousands."""


async def request(host: str, outcomes: dict[str, int]) -> None:
    """One GET; counts its status, or the name of what went wrong."""
    try:
        async with asyncio.timeout(15):
            reader, writer = await asyncio.open_connection(host, 80)
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            line = await reader.readline()
            await reader.read()
            writer.close()
        outcome = line.split()[1].decode() if line else "closed without an answer"
    except Exception as error:
        outcome = type(error).__name__
    outcomes[outcome] = outcomes.get(outcome, 0) + 1
    if outcome != "200" and outcomes[outcome] <= TOLD:
        print(time.strftime("%H:%M:%S", time.gmtime()), outcome, file=sys.stderr, flush=True)


async def kept(host: str, outcomes: dict[str, int], until: float, interval: float) -> None:
    """One request after the other on one connection."""
    writer = None
    due = time.monotonic()
    while time.monotonic() < until:
        try:
            async with asyncio.timeout(15):
                if writer is None:
                    reader, writer = await asyncio.open_connection(host, 80)
                writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
            outcome = head.split()[1].decode()
            if b"connection: close" in head:
                writer.close()
                writer = None
        except Exception as error:
            outcome, writer = type(error).__name__, None
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome != "200":
            print(time.strftime("%H:%M:%S", time.gmtime()), outcome, file=sys.stderr, flush=True)
        due += interval
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def main(host: str, seconds: float, rate: float, connections: int) -> None:
    """Prints one JSON object at the end: how many requests had which outcome."""
    outcomes: dict[str, int] = {}
    if connections:
        until = time.monotonic() + seconds
        await asyncio.gather(*(kept(host, outcomes, until, connections / rate) for _ in range(connections)))
    else:
        await fresh(host, seconds, rate, outcomes)
    print(json.dumps(outcomes))


async def fresh(host: str, seconds: float, rate: float, outcomes: dict[str, int]) -> None:
    """Requests on connections of their own."""
    tasks: set[asyncio.Task[None]] = set()
    begin, count = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        while len(tasks) >= UNDER_WAY:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        count += 1
        task = asyncio.create_task(request(host, outcomes))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(0.0, begin + count / rate - time.monotonic()))
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int([*sys.argv, "0"][4])))
