"""Client, Producer and Consumer for programs without asyncio: the same names, and calls that block.

They drive the asynchronous ones on a thread with an event loop of its own, so that re-sending and fetching
go on while the program does something else. All methods may be called from any thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Generic, Never

from quorumlog.client.aio import AsyncClient
from quorumlog.client.batches import BatchMetadata, RecordMetadata
from quorumlog.client.comparing import Comparison, SegmentSum
from quorumlog.client.consumer import AsyncConsumer, Consistency, End, Token
from quorumlog.client.core import MIB
from quorumlog.client.deliveries import BatchDelivery, Delivery, OnDelivery
from quorumlog.client.describe import ClusterStatus, Member, StopCheck, SyncPolicy, Topic
from quorumlog.client.endpoints import Route
from quorumlog.client.loop import LoopThread
from quorumlog.client.outgoing import HeadersArgument, ProducerRecord
from quorumlog.client.partitioner import Partitioner
from quorumlog.client.places import Place, TopicPartition
from quorumlog.client.producer import AsyncProducer
from quorumlog.client.records import K, Record, RecordBatch, V
from quorumlog.client.starts import Moment, Start
from quorumlog.client.tls import Tls
from quorumlog.proto.batch import MAX_RECORD_BYTES

# How many records one look into the event loop's thread brings: a look costs about 50 us.
_AT_ONCE = 1000
# Iterating wakes up this often, so that Ctrl-C is seen on platforms where waiting cannot be interrupted.
_LOOK_AGAIN_MS = 500


class PendingRecord:
    """A record on its way."""

    def __init__(self, thread: LoopThread, delivery: Delivery) -> None:
        self._thread = thread
        self._delivery = delivery

    @property
    def done(self) -> bool:
        """True once it is acknowledged or has failed."""
        return self._delivery.done

    def result(self) -> RecordMetadata:
        """Wait for the acknowledgement; raises what became of the record otherwise."""
        return self._thread.run(_awaited(self._delivery))


class PendingRecords:
    """Many records of one batch on their way."""

    def __init__(self, thread: LoopThread, delivery: BatchDelivery) -> None:
        self._thread = thread
        self._delivery = delivery

    @property
    def done(self) -> bool:
        """True once the batch is acknowledged or has failed."""
        return self._delivery.done

    def result(self) -> BatchMetadata:
        """Wait for the acknowledgement; raises what became of the records otherwise."""
        return self._thread.run(_awaited_batch(self._delivery))


async def _awaited(delivery: Delivery) -> RecordMetadata:
    return await delivery


async def _awaited_batch(delivery: BatchDelivery) -> BatchMetadata:
    return await delivery


class Producer(Generic[K, V]):
    """Sends records: see AsyncProducer. Made by Client.producer(); use it with `with`, which flushes."""

    def __init__(self, thread: LoopThread, producer: AsyncProducer[K, V]) -> None:
        self._thread = thread
        self._producer = producer

    def __enter__(self) -> Producer[K, V]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._producer.__aexit__(kind, error, trace))

    def send(
        self,
        topic: str,
        value: V | None = None,
        key: K | None = None,
        headers: HeadersArgument = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> RecordMetadata:
        """Send a record and return its place once it is acknowledged.

        A value of None is a tombstone. Without `partition` the key's murmur2 hash decides, as Kafka's
        clients do; without a key, records go to one partition at a time. Raises InvalidRequest (unknown
        topic, record too large), DeliveryTimeout (says whether it may have been appended).
        """
        return self._thread.run(self._producer.send(topic, value, key, headers, partition, timestamp_ms))

    def submit(
        self,
        topic: str,
        value: V | None = None,
        key: K | None = None,
        headers: HeadersArgument = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        on_delivery: OnDelivery | None = None,
    ) -> PendingRecord:
        """Accept a record into the buffer, waiting for room there, and return its delivery.

        Await that (or ask for its result(), without asyncio) for its place. What became of those that nobody
        asks for is raised by flush() and close(). `on_delivery` is called
        with (error, metadata), one of which says how it went: see client.producer().
        """
        submitted = self._producer.submit(topic, value, key, headers, partition, timestamp_ms, on_delivery)
        return PendingRecord(self._thread, self._thread.run(submitted))

    def send_many(
        self,
        topic: str,
        values: Sequence[V],
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> list[BatchMetadata]:
        """Send plain values fast, in order, and return where they stand once all are acknowledged.

        Without `partition` each batch goes to one partition, the next batch to the next. Keys, headers and
        times of their own, and the trace that is active, are what send_records() is for.
        """
        return self._thread.run(self._producer.send_many(topic, values, partition, timestamp_ms))

    def submit_many(
        self,
        topic: str,
        values: Sequence[V],
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> list[PendingRecords]:
        """Accept plain values into the buffer, waiting for room there, and return their deliveries."""
        submitted = self._producer.submit_many(topic, values, partition, timestamp_ms)
        return [PendingRecords(self._thread, delivery) for delivery in self._thread.run(submitted)]

    def send_records(self, topic: str, records: Iterable[ProducerRecord[K, V]]) -> list[RecordMetadata]:
        """Send records, each with its own key, headers, partition and time, in order.

        Returns where each stands once all are acknowledged.
        """
        return self._thread.run(self._producer.send_records(topic, records))

    def submit_records(self, topic: str, records: Iterable[ProducerRecord[K, V]]) -> list[PendingRecord]:
        """Accept records into the buffer, waiting for room there, and return their deliveries."""
        submitted = self._thread.run(self._producer.submit_records(topic, records))
        return [PendingRecord(self._thread, delivery) for delivery in submitted]

    def flush(self, timeout_ms: int | None = None) -> None:
        """Wait until everything accepted so far is acknowledged.

        Raises DeliveryFailed if anything was not delivered, since the last flush, and nobody awaited it;
        DeliveryTimeout if `timeout_ms` passes (what is under way goes on).
        """
        self._thread.run(self._producer.flush(timeout_ms))

    def close(self) -> None:
        """Flush, then stop. Raises as flush() does."""
        self._thread.run(self._producer.close())

    @property
    def pending(self) -> int:
        """Records that are accepted and neither acknowledged nor failed."""
        return self._producer.pending


class Consumer(Generic[K, V]):
    """Reads records: see AsyncConsumer. Made by Client.consumer().

        for record in consumer:
            ...

    With `with`, or close() it: fetching ahead goes on until then.
    """

    def __init__(self, thread: LoopThread, consumer: AsyncConsumer[K, V]) -> None:
        self._thread = thread
        self._consumer = consumer
        self._records: deque[Record[K, V]] = deque()

    def __enter__(self) -> Consumer[K, V]:
        self._thread.run(self._consumer.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Consumer[K, V]:
        return self

    def __next__(self) -> Record[K, V]:
        while not self._records:
            self._records.extend(self._thread.run(self._consumer.getmany(_LOOK_AGAIN_MS, _AT_ONCE)))
            if not self._records and self._consumer.finished:
                raise StopIteration
        return self._records.popleft()

    def getone(self) -> Record[K, V]:
        """Return the next record. Raises ClientClosed behind the last one, where there is an end."""
        if self._records:
            return self._records.popleft()
        return self._thread.run(self._consumer.getone())

    def getmany(self, timeout_ms: int = 0, max_records: int = 500) -> list[Record[K, V]]:
        """Return at most `max_records`, waiting up to `timeout_ms` for the first; [] if there is none."""
        if self._records:
            return [self._records.popleft() for _ in range(min(max_records, len(self._records)))]
        return self._thread.run(self._consumer.getmany(timeout_ms, max_records))

    def getbatch(self, timeout_ms: int | None = None) -> RecordBatch | None:
        """Return the next batch of columns, or None at the end or when nothing came within `timeout_ms`.

        Its columns hold bytes: deserializers are for records.
        """
        return self._thread.run(self._consumer.getbatch(timeout_ms))

    def batches(self) -> Iterator[RecordBatch]:
        """Iterate over batches of columns: the fast way to read, without an object per record."""
        batches = self._consumer.batches()
        while (batch := self._thread.run(_next_or_none(batches))) is not None:
            yield batch

    @property
    def finished(self) -> bool:
        """True when everything up to the end was given to the user; never where there is no end."""
        return self._consumer.finished and not self._records

    def assignment(self) -> list[TopicPartition]:
        """Return the (topic, partition) pairs that are read."""
        return self._thread.run(self._consumer.assignment())

    def assign(self, places: Iterable[Place]) -> None:
        """Read these (topic, partition) pairs from now on, and no others.

        What is read already goes on where it is; what is new begins at `start`. Raises UnknownTopic,
        UnknownPartition, and then nothing has changed.
        """
        chosen = list(places)
        self._thread.run(self._consumer.assign(chosen))
        self._forget(lambda place: place not in [(topic, partition) for topic, partition in chosen])

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the next record for the user.

        In reverse, when all is read, it is one less than the last offset (so -1 before offset 0).
        """
        waiting = self._waiting(topic, partition)
        return self._thread.run(self._consumer.position(topic, partition)) if waiting is None else waiting

    def highwater(self, topic: str, partition: int) -> int:
        """Return the offset after the last readable record, as the replica last said; 0 before it did."""
        return self._thread.run(self._consumer.highwater(topic, partition))

    def high_watermark(self, topic: str, partition: int) -> int:
        """Return the same as highwater()."""
        return self.highwater(topic, partition)

    def seek(self, topic: str, partition: int, offset: Start) -> None:
        """Go on at an offset, or at anything that `start` may be: "latest", -100, "-1h", a datetime.

        In reverse, an offset is the next one read; with the others, what lies before them is read.
        """
        self._thread.run(self._consumer.seek(topic, partition, offset))
        self._forget(lambda place: place == (topic, partition))

    def seek_to_beginning(self, *places: Place) -> None:
        """Go on at the first readable record."""
        self._thread.run(self._consumer.seek_to_beginning(*places))
        self._forget(lambda place: not places or place in places)

    def seek_to_end(self, *places: Place) -> None:
        """Go on behind the last readable record."""
        self._thread.run(self._consumer.seek_to_end(*places))
        self._forget(lambda place: not places or place in places)

    def pause(self, *places: Place) -> None:
        """Give no records of these until resume(). Nothing of them is held meanwhile: it is read again."""
        for place in places or self.assignment():
            waiting = self._waiting(*place)
            self._thread.run(self._consumer.pause(place))
            if waiting is not None:  # these were not given yet
                self._thread.run(self._consumer.seek(*place, waiting))
        self._forget(lambda place: not places or place in places)

    def resume(self, *places: Place) -> None:
        """Go on with what pause() has halted, at the next record."""
        self._thread.run(self._consumer.resume(*places))

    def paused(self) -> list[TopicPartition]:
        """Return what is halted."""
        return self._thread.run(self._consumer.paused())

    def beginning_offsets(self, *places: Place) -> dict[TopicPartition, int]:
        """Return the first readable offset of each."""
        return self._thread.run(self._consumer.beginning_offsets(*places))

    def end_offsets(self, *places: Place) -> dict[TopicPartition, int]:
        """Return the offset after the last readable record of each."""
        return self._thread.run(self._consumer.end_offsets(*places))

    def offsets_for_times(self, times: Mapping[Place, Moment]) -> dict[TopicPartition, int]:
        """Return the first offset of each that was appended at or after its time, or its end.

        A time is a datetime, milliseconds since 1970, or how long ago: a timedelta or "-1h30m".
        """
        return self._thread.run(self._consumer.offsets_for_times(times))

    def close(self) -> None:
        """Stop reading."""
        self._thread.run(self._consumer.close())

    def _waiting(self, topic: str, partition: int) -> int | None:
        """Return the offset of the next record that is here and was not given yet."""
        of_it = (each for each in self._records if (each.topic, each.partition) == (topic, partition))
        return next((each.offset for each in of_it), None)

    def _forget(self, dropped: Callable[[Place], bool]) -> None:
        self._records = deque(each for each in self._records if not dropped((each.topic, each.partition)))


async def _next_or_none(batches: AsyncIterator[RecordBatch]) -> RecordBatch | None:
    return await anext(batches, None)


class Client:
    """A cluster, seen from a program without asyncio.

        with Client("host1:9650,host2:9650") as client:
            client.create_topic("orders", partitions=3)
            with client.producer() as producer:
                producer.send("orders", b"value")
            for record in client.consumer("orders", end="latest"):
                print(record.value)

    The arguments are those of AsyncClient. Methods may be called from any thread.
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] = "localhost:9650",
        *,
        client_id: str = "quorumlog",
        route: Route = "leader",
        connect_timeout_ms: int = 5_000,
        request_timeout_ms: int = 30_000,
        attempt_timeout_ms: int = 5_000,
        tls: Tls | None = None,
        require_leader: bool = True,
        config: Mapping[str, Any] | None = None,
        **others: Never,
    ) -> None:
        """`config`: options by name, dotted or not, also Kafka's where they mean the same.

        Raises UnknownOption with the nearest valid name.
        """
        self._client = AsyncClient(
            bootstrap_servers,
            client_id=client_id,
            route=route,
            connect_timeout_ms=connect_timeout_ms,
            request_timeout_ms=request_timeout_ms,
            attempt_timeout_ms=attempt_timeout_ms,
            tls=tls,
            require_leader=require_leader,
            config=config,
            **others,
        )
        self._thread = LoopThread.shared()

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._client.__aexit__(kind, error, trace))

    def connect(self) -> None:
        """Reach a node that knows who leads; with require_leader=False, any node.

        All endpoints are asked at the same time. Raises within `connect_timeout_ms`, with every endpoint and
        why it does not do: NoLeader where nodes answer and nobody leads, Unsupported or Unauthenticated where
        all say so, else ConnectionFailed.
        """
        try:
            self._thread.run(self._client.connect())
        except BaseException:
            self._thread.run(self._client.close())
            raise

    def close(self) -> None:
        """Flush and close what was made from this client, then the connections. Raises as flush() does."""
        self._thread.run(self._client.close())

    @property
    def session_token(self) -> int:
        """The raft index of this client's newest write; `after=` it, other clients see that write too."""
        return self._client.session_token

    def producer(
        self,
        *,
        delivery_timeout_ms: int = 120_000,
        max_batch_size: int = MIB,
        buffer_memory: int = 32 * MIB,
        compression_type: str | None = None,
        enable_idempotence: bool = True,
        max_record_size: int = MAX_RECORD_BYTES,
        linger_ms: int = 0,
        partitioner: Partitioner | None = None,
        on_delivery: OnDelivery | None = None,
        key_serializer: Callable[[K], bytes] | None = None,
        value_serializer: Callable[[V], bytes] | None = None,
        config: Mapping[str, Any] | None = None,
        **others: Never,
    ) -> Producer[K, V]:
        """Return a producer: see AsyncProducer.

        `delivery_timeout_ms`: from accepting a record to its acknowledgement, all retries included.
        `max_batch_size`, `linger_ms`: how many bytes of a partition may gather, and how long a record may
        wait for others where nothing is under way; by default it leaves at once.
        `buffer_memory`: bytes of all that is not acknowledged; more has to wait.
        `compression_type`: None, "lz4" or "zstd".
        `partitioner`: given the key as bytes (or None) and how many partitions there are, returns one; by
        default Kafka's murmur2 hash of the key decides.
        `on_delivery`: called for each record with (None, its RecordMetadata), or with the error and metadata
        whose offset is -1; on the client's event loop, so it must not block. flush() raises nevertheless.
        `key_serializer`, `value_serializer`: make bytes of what is sent; not shown None.
        `config`: options by name, dotted or not, also Kafka's where they mean the same.
        Raises UnknownOption, with the nearest valid name.
        """
        producer = self._client.producer(
            delivery_timeout_ms=delivery_timeout_ms,
            max_batch_size=max_batch_size,
            buffer_memory=buffer_memory,
            compression_type=compression_type,
            enable_idempotence=enable_idempotence,
            max_record_size=max_record_size,
            linger_ms=linger_ms,
            partitioner=partitioner,
            on_delivery=on_delivery,
            key_serializer=key_serializer,
            value_serializer=value_serializer,
            config=config,
            **others,
        )
        return Producer(self._thread, producer)

    def consumer(
        self,
        *topics: str,
        partitions: Sequence[int] | None = None,
        start: Start = "earliest",
        end: End = None,
        from_node: str | None = None,
        consistency: Consistency = "session",
        after: Token = None,
        max_buffered_bytes: int = 16 * MIB,
        max_fetch_bytes: int = MIB,
        reverse: bool = False,
        key_deserializer: Callable[[bytes], K] | None = None,
        value_deserializer: Callable[[bytes], V] | None = None,
        config: Mapping[str, Any] | None = None,
        **others: Never,
    ) -> Consumer[K, V]:
        """Return a consumer: see AsyncConsumer.

        `topics`: all their partitions, or `partitions`; none: what assign() says.
        `start`: "earliest", "latest", an offset, -N for the last N of each partition, a datetime (or the
        same as ISO 8601), or how long ago: a timedelta, "-1h30m".
        `end`: the same, settled when it starts; the record there is not read any more. None follows.
        `reverse`: the newest first, each partition for itself, from `end` back to `start`.
        `from_node`: "any", "leader", "nearest" (by round trip), settled when a stream starts; or a node's id
        or address.
        `consistency`: "session" sees this client's own writes on every replica, "committed" whatever the
        replica has, "linearizable" all that was acknowledged to anybody before reading began (a majority
        confirms it when a stream starts, not for each record).
        `after`: the metadata or raft index of a write that must be seen.
        `key_deserializer`, `value_deserializer`: make of bytes what records shall have; not shown null.
        `config`: options by name, dotted or not, also Kafka's where they mean the same.
        Raises UnknownOption, with the nearest valid name.
        """
        consumer = self._client.consumer(
            *topics,
            partitions=partitions,
            start=start,
            end=end,
            from_node=from_node,
            consistency=consistency,
            after=after,
            max_buffered_bytes=max_buffered_bytes,
            max_fetch_bytes=max_fetch_bytes,
            reverse=reverse,
            key_deserializer=key_deserializer,
            value_deserializer=value_deserializer,
            config=config,
            **others,
        )
        return Consumer(self._thread, consumer)

    def create_topic(self, name: str, partitions: int = 1) -> Topic:
        """Create a topic. Raises TopicExists, InvalidName."""
        return self._thread.run(self._client.create_topic(name, partitions))

    def ensure_topic(self, name: str, partitions: int = 1) -> Topic:
        """Return the topic, created if there is none; one that is there may have other partitions."""
        return self._thread.run(self._client.ensure_topic(name, partitions))

    def delete_topic(self, name: str) -> None:
        """Delete a topic and its records. Raises UnknownTopic."""
        self._thread.run(self._client.delete_topic(name))

    def describe_topic(self, name: str, *, consistency: Consistency = "session") -> Topic:
        """Return a topic's partitions and offsets. Raises UnknownTopic."""
        return self._thread.run(self._client.describe_topic(name, consistency=consistency))

    def list_topics(self, *, consistency: Consistency = "session") -> list[Topic]:
        """Return all topics, ascending by name."""
        return self._thread.run(self._client.list_topics(consistency=consistency))

    def beginning_offsets(self, topic: str, *, consistency: Consistency = "session") -> dict[int, int]:
        """Return each partition's first readable offset."""
        return self._thread.run(self._client.beginning_offsets(topic, consistency=consistency))

    def end_offsets(self, topic: str, *, consistency: Consistency = "session") -> dict[int, int]:
        """Return each partition's offset after the last readable record."""
        return self._thread.run(self._client.end_offsets(topic, consistency=consistency))

    def offsets_for_time(
        self, topic: str, moment: Moment, *, consistency: Consistency = "session"
    ) -> dict[int, int]:
        """Return each partition's first offset appended at or after `moment`, or its end.

        `moment`: a datetime, milliseconds since 1970, or how long ago: a timedelta or "-1h30m".
        """
        return self._thread.run(self._client.offsets_for_time(topic, moment, consistency=consistency))

    def status(self, *, local: bool = False, node: str = "", timeout_ms: int = 0) -> ClusterStatus:
        """Return the state of every node that answers, or with `local` of the asked one alone.

        Without `node`, another one is asked where the first knows no leader: it may be cut off, or removed.
        """
        return self._thread.run(self._client.status(local=local, node=node, timeout_ms=timeout_ms))

    def set_sync_policy(self, policy: SyncPolicy) -> None:
        """Set when nodes sync: "always" (before acknowledging), "interval" or "os"."""
        self._thread.run(self._client.set_sync_policy(policy))

    def sum_segments(self, node: str, *, bytes_per_second: int = 0) -> list[SegmentSum]:
        """Have one node, given by id or address, read, verify and sum up its sealed segments.

        The node reads at that rate; 0 leaves it to the node. It takes as long as it takes.
        """
        return self._thread.run(self._client.sum_segments(node, bytes_per_second=bytes_per_second))

    def compare_replicas(self, *, bytes_per_second: int = 0) -> Comparison:
        """Have every node sum up its sealed segments, one node after the other, and compare them.

        Each reads at that rate; 0 leaves it to the node. Damage and silence are part of the answer.
        """
        return self._thread.run(self._client.compare_replicas(bytes_per_second=bytes_per_second))

    def check_health(self, service: str = "", *, node: str = "", timeout_ms: int = 3_000) -> bool:
        """Ask a node, given by id or address (or any), whether it serves: by the gRPC health protocol.

        `service`: "" serves reads; "leader" leads; "voter" counts in elections; "intact" has nothing damaged.
        Raises UnknownOption where there is no such service, ConnectionFailed where the node does not answer.
        """
        return self._thread.run(self._client.check_health(service, node=node, timeout_ms=timeout_ms))

    def members(self) -> tuple[Member, ...]:
        """Return the members, ascending by node id, as the leader has them."""
        return self._thread.run(self._client.members())

    def add_member(self, node_id: str, peer_address: str, *, timeout_ms: int = 60_000) -> tuple[Member, ...]:
        """Add a node, wait until it is a full member, and return the members.

        It is a learner until it has caught up. Raises MembershipRefused; OutcomeUnknown where it has not by
        then: it goes on by itself, and asking again waits on.
        """
        return self._thread.run(self._client.add_member(node_id, peer_address, timeout_ms=timeout_ms))

    def remove_member(self, node_id: str, *, timeout_ms: int = 30_000) -> tuple[Member, ...]:
        """Remove a node and return the members that are left. One that leads hands over first.

        Raises UnknownNode, MembershipRefused, TransferFailed, OutcomeUnknown.
        """
        return self._thread.run(self._client.remove_member(node_id, timeout_ms=timeout_ms))

    def transfer_leadership(self, target: str = "", *, timeout_ms: int = 0) -> str:
        """Hand leadership to a node, or without `target` to the follower that is furthest; return who leads.

        Writes wait meanwhile, so `timeout_ms` is short: 2 s where it is 0. Raises UnknownNode,
        TransferFailed.
        """
        return self._thread.run(self._client.transfer_leadership(target, timeout_ms=timeout_ms))

    def check_stop(self, node_id: str) -> StopCheck:
        """Ask the leader whether the cluster would go on without this node. Raises UnknownNode."""
        return self._thread.run(self._client.check_stop(node_id))
