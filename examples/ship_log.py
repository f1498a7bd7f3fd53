"""Follow a file, as `tail -F` does, and send each line to a topic; a restart goes on where it was.

    python ship_log.py /var/log/syslog logs

Where it was is in the records: each carries the file's inode and the position behind its line in a header,
and the newest one tells. So nothing else has to be kept, and nothing can disagree. What was appended to a
file that was rotated while this program did not run is not found any more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from quorumlog.client import AsyncClient, QuorumlogError

LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class Place:
    """Behind a line of a file; another inode is another file, as after a rotation."""

    inode: int
    position: int

    def to_bytes(self) -> bytes:
        """For a record's header."""
        return f"{self.inode} {self.position}".encode()

    @classmethod
    def parse(cls, content: bytes) -> Place:
        """Read a record's header."""
        return cls(*map(int, content.split()))


async def shipped_up_to(client: AsyncClient, topic: str) -> Place | None:
    """Return where the newest record of the topic was read, or None where there is none."""
    async with client.consumer(topic, start=-1, end="latest", consistency="linearizable") as consumer:
        async for record in consumer:
            return Place.parse(dict(record.headers)["place"])
    return None


async def lines(path: Path, after: Place | None, follow: bool) -> AsyncIterator[tuple[bytes, Place]]:
    """Yield whole lines behind `after`, each with its place; with `follow` those that come, too."""
    while True:
        with path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if after is not None and after.inode == inode:
                file.seek(after.position)
            while True:
                for line in whole_lines(file):
                    yield line, Place(inode, file.tell())
                if not follow:
                    return
                if was_rotated(path, inode):
                    break  # rotated, and read to its end
                await asyncio.sleep(LOOK_AGAIN_S)


def was_rotated(path: Path, inode: int) -> bool:
    """Whether another file stands under the name; between the two there may be none for a moment."""
    return path.exists() and path.stat().st_ino != inode


def whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield what ends with a newline; a line that is still being written is left for later."""
    while True:
        start = file.tell()
        line = file.readline()
        if not line.endswith(b"\n"):
            file.seek(start)
            return
        yield line[:-1]


async def ship(path: Path, topic: str, *, follow: bool) -> int:
    """Send lines until there are no more; return how many."""
    count = 0
    async with AsyncClient(os.environ.get("QUORUMLOG_SERVERS", "localhost:9650")) as client:
        await client.ensure_topic(topic)
        after = await shipped_up_to(client, topic)
        async with client.producer(compression_type="lz4") as producer:
            async for line, place in lines(path, after, follow):
                # Waits where too much is on its way; leaving the block waits for the rest.
                await producer.submit(topic, line, headers={"place": place.to_bytes()})
                count += 1
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description="Follow a file into a topic.")
    parser.add_argument("file", type=Path)
    parser.add_argument("topic")
    parser.add_argument("--once", action="store_true", help="stop at the end of the file")
    options = parser.parse_args(arguments)
    try:
        count = asyncio.run(ship(options.file, options.topic, follow=not options.once))
    except (OSError, QuorumlogError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"{count} lines shipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
