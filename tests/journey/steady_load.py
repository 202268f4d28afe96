"""A steady stream of requests, each on a connection of its own. Run in a pod: python - HOST SECONDS RATE < this file"""

import asyncio
import json
import sys
import time

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


async def main(host: str, seconds: float, rate: float) -> None:
    """Prints one JSON object at the end: how many requests had which outcome."""
    outcomes: dict[str, int] = {}
    tasks: set[asyncio.Task[None]] = set()
    begin, count = time.monotonic(), 0
    while time.monotonic() - begin < seconds:
        count += 1
        task = asyncio.create_task(request(host, outcomes))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        await asyncio.sleep(max(0.0, begin + count / rate - time.monotonic()))
    await asyncio.gather(*tasks)
    print(json.dumps(outcomes))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
