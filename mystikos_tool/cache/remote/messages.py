"""The few messages of REAPI v2 and of what it uses that are needed, with descriptors of our own.

Names, numbers and types of fields are those of build.bazel.remote.execution.v2, google.bytestream,
google.longrunning and google.rpc; enumerations are int32, which is the same on the wire.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "mystikos"

SHA256 = 1  # DigestFunction.SHA256
ZSTD = 1  # Compressor.ZSTD
FAST_CDC_2020 = 1  # ChunkingFunction.FAST_CDC_2020

# Message → field → number, type; "*" is a repeated field.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Digest": {"hash": (1, "string"), "size_bytes": (2, "int64")},
    "Time": {"seconds": (1, "int64"), "nanos": (2, "int32")},  # Timestamp and Duration
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "Status": {"code": (1, "int32"), "message": (2, "string"), "details": (3, "*Any")},
    "Violation": {"type": (1, "string"), "subject": (2, "string")},
    "PreconditionFailure": {"violations": (1, "*Violation")},
    "Number": {"value": (1, "uint32")},
    "Property": {"name": (1, "string"), "value": (2, "string")},
    "NodeProperties": {"unix_mode": (3, "Number")},
    "Platform": {"properties": (1, "*Property")},
    "Action": {
        "command_digest": (1, "Digest"),
        "input_root_digest": (2, "Digest"),
        "timeout": (6, "Time"),
        "salt": (9, "bytes"),
        "platform": (10, "Platform"),
    },
    "Command": {
        "arguments": (1, "*string"),
        "environment_variables": (2, "*Property"),
        "platform": (5, "Platform"),
        "output_paths": (7, "*string"),
    },
    "FileNode": {"name": (1, "string"), "digest": (2, "Digest"), "is_executable": (4, "bool")},
    "DirectoryNode": {"name": (1, "string"), "digest": (2, "Digest")},
    "Directory": {"files": (1, "*FileNode"), "directories": (2, "*DirectoryNode")},
    "OutputFile": {
        "path": (1, "string"),
        "digest": (2, "Digest"),
        "is_executable": (4, "bool"),
        "contents": (5, "bytes"),
        "node_properties": (7, "NodeProperties"),
    },
    "OutputSymlink": {"path": (1, "string"), "target": (2, "string")},
    "Metadata": {"worker": (1, "string"), "started": (7, "Time"), "completed": (8, "Time")},
    "ActionResult": {
        "output_files": (2, "*OutputFile"),
        "output_symlinks": (12, "*OutputSymlink"),
        "exit_code": (4, "int32"),
        "stdout_raw": (5, "bytes"),
        "stdout_digest": (6, "Digest"),
        "stderr_raw": (7, "bytes"),
        "stderr_digest": (8, "Digest"),
        "execution_metadata": (9, "Metadata"),
    },
    "GetActionResultRequest": {
        "instance_name": (1, "string"),
        "action_digest": (2, "Digest"),
        "inline_output_files": (5, "*string"),
    },
    "UpdateActionResultRequest": {
        "instance_name": (1, "string"),
        "action_digest": (2, "Digest"),
        "action_result": (3, "ActionResult"),
    },
    "FindMissingBlobsRequest": {"instance_name": (1, "string"), "blob_digests": (2, "*Digest")},
    "FindMissingBlobsResponse": {"missing_blob_digests": (2, "*Digest")},
    "BatchBlob": {"digest": (1, "Digest"), "data": (2, "bytes"), "compressor": (3, "int32")},
    "BatchUpdateBlobsRequest": {"instance_name": (1, "string"), "requests": (2, "*BatchBlob")},
    "BatchUpdated": {"digest": (1, "Digest"), "status": (2, "Status")},
    "BatchUpdateBlobsResponse": {"responses": (1, "*BatchUpdated")},
    "BatchReadBlobsRequest": {
        "instance_name": (1, "string"),
        "digests": (2, "*Digest"),
        "acceptable_compressors": (3, "*int32"),
    },
    "BatchRead": {
        "digest": (1, "Digest"),
        "data": (2, "bytes"),
        "status": (3, "Status"),
        "compressor": (4, "int32"),
    },
    "BatchReadBlobsResponse": {"responses": (1, "*BatchRead")},
    "SplitBlobRequest": {
        "instance_name": (1, "string"),
        "blob_digest": (2, "Digest"),
        "chunking_function": (4, "int32"),
    },
    "SplitBlobResponse": {"chunk_digests": (1, "*Digest"), "chunking_function": (2, "int32")},
    "SpliceBlobRequest": {
        "instance_name": (1, "string"),
        "blob_digest": (2, "Digest"),
        "chunk_digests": (3, "*Digest"),
        "chunking_function": (5, "int32"),
    },
    "GetCapabilitiesRequest": {"instance_name": (1, "string")},
    "UpdateCapabilities": {"update_enabled": (1, "bool")},
    "FastCdc2020Params": {"avg_chunk_size_bytes": (1, "uint64"), "seed": (2, "uint32")},
    "CacheCapabilities": {
        "digest_functions": (1, "*int32"),
        "action_cache_update_capabilities": (2, "UpdateCapabilities"),
        "max_batch_total_size_bytes": (4, "int64"),
        "supported_compressors": (6, "*int32"),
        "supported_batch_update_compressors": (7, "*int32"),
        "max_cas_blob_size_bytes": (8, "int64"),
        "split_blob_support": (9, "bool"),
        "splice_blob_support": (10, "bool"),
        "fast_cdc_2020_params": (11, "FastCdc2020Params"),
    },
    "ExecutionCapabilities": {
        "digest_function": (1, "int32"),
        "exec_enabled": (2, "bool"),
        "digest_functions": (5, "*int32"),
    },
    "ServerCapabilities": {
        "cache_capabilities": (1, "CacheCapabilities"),
        "execution_capabilities": (2, "ExecutionCapabilities"),
    },
    "ExecuteRequest": {
        "instance_name": (1, "string"),
        "skip_cache_lookup": (3, "bool"),
        "action_digest": (6, "Digest"),
        "inline_stdout": (10, "bool"),
        "inline_stderr": (11, "bool"),
    },
    "WaitExecutionRequest": {"name": (1, "string")},
    "CancelOperationRequest": {"name": (1, "string")},
    "Operation": {
        "name": (1, "string"),
        "done": (3, "bool"),
        "error": (4, "Status"),
        "response": (5, "Any"),
    },
    "ExecuteResponse": {
        "result": (1, "ActionResult"),
        "cached_result": (2, "bool"),
        "status": (3, "Status"),
    },
    "ReadRequest": {"resource_name": (1, "string"), "read_offset": (2, "int64")},
    "ReadResponse": {"data": (10, "bytes")},
    "WriteRequest": {
        "resource_name": (1, "string"),
        "write_offset": (2, "int64"),
        "finish_write": (3, "bool"),
        "data": (10, "bytes"),
    },
    "WriteResponse": {"committed_size": (1, "int64")},
    "QueryWriteStatusRequest": {"resource_name": (1, "string")},
    "QueryWriteStatusResponse": {"committed_size": (1, "int64"), "complete": (2, "bool")},
}


def new(name: str, /, **fields: Any) -> Any:
    """Return a message with these fields."""
    return _class(name)(**fields)


def read(name: str, data: bytes) -> Any:
    """Return the message that ``data`` encodes; ValueError where it encodes none."""
    from google.protobuf.message import DecodeError

    try:
        return _class(name).FromString(data)
    except DecodeError as error:
        raise ValueError(f"no {name}") from error


@lru_cache(None)
def _class(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


@lru_cache(1)
def _pool() -> descriptor_pool.DescriptorPool:
    """Return the descriptors, in a pool of their own: another library may have REAPI's in the default one."""
    file = descriptor_pb2.FileDescriptorProto(name="mystikos.proto", package=_PACKAGE, syntax="proto3")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for field, (number, kind) in fields.items():
            _add(described, field, number, kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add(message: Any, name: str, number: int, kind: str) -> None:
    field = descriptor_pb2.FieldDescriptorProto
    repeated, element = kind.startswith("*"), kind.lstrip("*")
    added = message.field.add(name=name, number=number)
    added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if element in _MESSAGES:
        added.type, added.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{element}"
    else:
        added.type = field.Type.Value(f"TYPE_{element.upper()}")
