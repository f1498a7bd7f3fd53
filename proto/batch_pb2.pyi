from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Codec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODEC_NONE: _ClassVar[Codec]
    CODEC_LZ4: _ClassVar[Codec]
    CODEC_ZSTD: _ClassVar[Codec]
CODEC_NONE: Codec
CODEC_LZ4: Codec
CODEC_ZSTD: Codec

class BatchHeader(_message.Message):
    __slots__ = ("encoding", "codec", "count", "span", "first_timestamp_ms", "last_timestamp_ms", "producer_id", "producer_epoch", "sequence", "body_crc32c", "body_size", "offset_deltas")
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SPAN_FIELD_NUMBER: _ClassVar[int]
    FIRST_TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_TIMESTAMP_MS_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_ID_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    BODY_CRC32C_FIELD_NUMBER: _ClassVar[int]
    BODY_SIZE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_DELTAS_FIELD_NUMBER: _ClassVar[int]
    encoding: int
    codec: Codec
    count: int
    span: int
    first_timestamp_ms: int
    last_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    sequence: int
    body_crc32c: int
    body_size: int
    offset_deltas: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, encoding: _Optional[int] = ..., codec: _Optional[_Union[Codec, str]] = ..., count: _Optional[int] = ..., span: _Optional[int] = ..., first_timestamp_ms: _Optional[int] = ..., last_timestamp_ms: _Optional[int] = ..., producer_id: _Optional[int] = ..., producer_epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., body_crc32c: _Optional[int] = ..., body_size: _Optional[int] = ..., offset_deltas: _Optional[_Iterable[int]] = ...) -> None: ...

class BatchBody(_message.Message):
    __slots__ = ("values", "keys", "timestamp_deltas", "null_values", "null_keys", "headers")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_DELTAS_FIELD_NUMBER: _ClassVar[int]
    NULL_VALUES_FIELD_NUMBER: _ClassVar[int]
    NULL_KEYS_FIELD_NUMBER: _ClassVar[int]
    HEADERS_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    timestamp_deltas: _containers.RepeatedScalarFieldContainer[int]
    null_values: _containers.RepeatedScalarFieldContainer[int]
    null_keys: _containers.RepeatedScalarFieldContainer[int]
    headers: _containers.RepeatedCompositeFieldContainer[RecordHeaders]
    def __init__(self, values: _Optional[_Iterable[bytes]] = ..., keys: _Optional[_Iterable[bytes]] = ..., timestamp_deltas: _Optional[_Iterable[int]] = ..., null_values: _Optional[_Iterable[int]] = ..., null_keys: _Optional[_Iterable[int]] = ..., headers: _Optional[_Iterable[_Union[RecordHeaders, _Mapping]]] = ...) -> None: ...

class RecordHeaders(_message.Message):
    __slots__ = ("position", "names", "values")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    position: int
    names: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, position: _Optional[int] = ..., names: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[bytes]] = ...) -> None: ...
