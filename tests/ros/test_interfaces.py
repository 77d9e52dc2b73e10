"""The message package that is used here is, on the wire, Autoware's."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import autoware_perception_msgs.msg as messages

import trajpred

ROOT = Path(__file__).resolve().parents[2]

UPSTREAM = {
    "TrackedObjects": "RIHS01_3559bd4e62ce8a4d96e32720c02bbe656cc090bb2b3f3f91f52a7c3ab095417a",
    "PredictedObjects": "RIHS01_b63151309c3323bb6e3f09c54b3358aa53a8e66937a1cde15c5d5ede1ef80a08",
}
"""Hashes that rosidl (Jazzy, 4.6.6) gave when it built upstream's own package: autoware_perception_msgs
1.12.0, github.com/autowarefoundation/autoware_msgs at 7025d8f7df0ead43037d86f8a4ffda8b397d0293."""


def test_a_publisher_announces_upstreams_type_hash(stage):
    for name, expected in UPSTREAM.items():
        stage.node.create_publisher(getattr(messages, name), f"/{name}", 1)
        (info,) = stage.node.get_publishers_info_by_topic(f"/{name}")
        assert str(info.topic_type_hash) == expected


def test_versions_agree():
    package = ET.parse(ROOT / "ros_nodes/trajpred_ros/package.xml").getroot()
    assert package.findtext("version") == trajpred.__version__
    setup = (ROOT / "ros_nodes/trajpred_ros/setup.py").read_text()
    assert f'version="{trajpred.__version__}"' in setup
