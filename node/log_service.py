"""quorumlog.v1.Log: producing and consuming."""

from __future__ import annotations

import grpc

from quorumlog.node.call import Call, Gate, generic_handler, parse
from quorumlog.node.commands import run_alone
from quorumlog.node.consuming import Consuming
from quorumlog.node.produce_stream import ProduceStreams
from quorumlog.node.producing import Producing
from quorumlog.node.results import ProducerOpened
from quorumlog.node.routing import Router, Write
from quorumlog.proto import entry_pb2, service_pb2
from quorumlog.raft.engine import Engine

NAME = "quorumlog.v1.Log"


class LogService:
    """The methods of the service; each gets the request's bytes and returns the answer's."""

    def __init__(
        self,
        engine: Engine,
        router: Router,
        producing: Producing,
        streams: ProduceStreams,
        consuming: Consuming,
        write_timeout_s: float,
    ) -> None:
        self._engine = engine
        self._router = router
        self._producing = producing
        self._streams = streams
        self._consuming = consuming
        self._write_timeout_s = write_timeout_s

    def handler(self, gate: Gate) -> grpc.GenericRpcHandler:
        """Return what the gRPC server calls."""
        consuming = self._consuming
        return generic_handler(
            NAME,
            gate,
            unary={
                "Produce": self.produce,
                "Fetch": consuming.fetch,
                "ListOffsets": consuming.list_offsets,
                "OpenProducer": self.open_producer,
            },
            server_stream={"Consume": consuming.consume},
            bidirectional={"ProduceStream": self._streams.run},
        )

    async def produce(self, raw: bytes, call: Call) -> bytes:
        """Append batches; the request is parsed only where it is applied."""

        async def apply(left_s: float) -> bytes:
            return await self._producing.produce(parse(service_pb2.ProduceRequest, raw), left_s, call)

        timeout_s = call.time_left_s(self._write_timeout_s)
        return await self._router.submit(Write(f"/{NAME}/Produce", raw, call, timeout_s, apply))

    async def open_producer(self, raw: bytes, call: Call) -> bytes:
        """Give a producer id, or a new epoch of one."""
        request = parse(service_pb2.OpenProducerRequest, raw)

        async def apply(left_s: float) -> bytes:
            opening = entry_pb2.OpenProducer(producer_id=request.producer_id)
            operation = entry_pb2.Operation(open_producer=opening)
            committed, opened = await run_alone(self._engine, operation, left_s)
            assert isinstance(opened, ProducerOpened), f"the result of an opening is not {opened!r}"
            return service_pb2.OpenProducerResponse(
                producer_id=opened.producer_id, epoch=opened.epoch, raft_index=committed.index
            ).SerializeToString()

        timeout_s = call.time_left_s(self._write_timeout_s)
        return await self._router.submit(Write(f"/{NAME}/OpenProducer", raw, call, timeout_s, apply))
