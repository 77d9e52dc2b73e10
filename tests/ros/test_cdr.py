"""The wire format against rclpy's own serializer."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from rclpy.serialization import deserialize_message, serialize_message
from rosidl_parser.definition import AbstractNestedType, AbstractSequence, BasicType, NamespacedType

from tests.perception import build, check_arrays, messages
from trajpred.cdr import read_predicted, read_tracked, write_predicted, write_tracked

KINDS = {"Tracked": (read_tracked, write_tracked), "Predicted": (read_predicted, write_predicted)}
SIZES = {"boolean": 1, "octet": 1, "uint8": 1, "int32": 4, "uint32": 4, "float": 4, "double": 8}


def new(name, **values):
    package, short = name.split("/")
    return getattr(import_module(f"{package}.msg"), short)(**values)


class Extent:
    """Which bytes of a serialized message its fields are in; the rest is padding."""

    def __init__(self, message):
        self.size, self.fields = 0, []
        self.put(None, message)

    def put(self, kind, value):
        if kind is None or isinstance(kind, NamespacedType):
            for name, part in zip(value.__slots__, value.SLOT_TYPES, strict=False):
                self.put(part, getattr(value, name.strip("_")))
        elif isinstance(kind, BasicType):
            self.basic(SIZES[kind.typename])
        elif isinstance(kind, AbstractNestedType):
            if isinstance(kind, AbstractSequence):
                self.basic(4)
            for item in value:
                self.put(kind.value_type, item)
        else:  # a string
            self.basic(4)
            self.basic(1, len(value.encode()) + 1)

    def basic(self, size, count=1):
        self.size += -self.size % size
        self.fields.append(slice(4 + self.size, 4 + self.size + size * count))
        self.size += size * count

    def known(self):
        mask = np.zeros(4 + self.size, bool)
        mask[:4] = True
        for part in self.fields:
            mask[part] = True
        return mask


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(message=messages)
def test_any_message_is_read_and_written_as_by_rclpy(kind, message):
    """Byte for byte, but for padding: there rclpy leaves what the memory held before, we write zeros."""
    read, write = KINDS[kind]
    made = build(kind, new, message)
    theirs = serialize_message(made)
    arrays = read(theirs)
    check_arrays(kind, arrays, message)
    ours = write(arrays)
    known = Extent(made).known()
    assert len(ours) == len(theirs) == len(known)
    left, right = np.frombuffer(ours, np.uint8), np.frombuffer(theirs, np.uint8)
    np.testing.assert_array_equal(left[known], right[known])
    assert not left[~known].any()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(message=messages)
def test_rclpy_reads_both_byte_orders_that_we_write(kind, message):
    read, write = KINDS[kind]
    made = build(kind, new, message)
    arrays = read(serialize_message(made))
    for big_endian in (False, True):
        back = deserialize_message(write(arrays, big_endian=big_endian), type(made))
        assert repr(back) == repr(made)
