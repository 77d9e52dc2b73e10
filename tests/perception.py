"""Perception messages made up at random, in the plainest form that any serializer can be fed with."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

ODD_FLOATS = (0.0, -0.0, 1.5, np.nan, np.inf, -np.inf, 5e-324, 1.7e308)
ODD_SINGLES = (0.0, -0.0, 1.5, np.nan, np.inf, -np.inf, 1e-45, 3e38)


class Draw:
    """Python's numbers from a seed; one in three is an odd one."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def floats(self, count):
        values = self.rng.normal(scale=100.0, size=count)
        odd = self.rng.random(count) < 0.3
        return np.where(odd, self.rng.choice(ODD_FLOATS, count), values).tolist()

    def singles(self, count):
        values = self.rng.normal(size=count)
        odd = self.rng.random(count) < 0.3
        picked = np.where(odd, self.rng.choice(ODD_SINGLES, count), values)
        return picked.astype(np.float32).astype(float).tolist()

    def bytes(self, count):
        return self.rng.integers(0, 256, count).tolist()


def _object(seed, classes, points, paths):
    draw = Draw(seed)
    return {
        "uuid": draw.bytes(16),
        "existence": draw.singles(1)[0],
        "classes": list(zip(draw.bytes(classes), draw.singles(classes), strict=True)),
        "state": draw.floats(127),
        "availability": draw.bytes(1)[0],
        "stationary": bool(draw.bytes(1)[0] % 2),
        "paths": [
            {
                "poses": [draw.floats(7) for _ in range(poses)],
                "sec": int(draw.rng.integers(-(2**31), 2**31)),
                "nanosec": int(draw.rng.integers(0, 10**9)),
                "confidence": draw.singles(1)[0],
            }
            for poses in paths
        ],
        "shape_type": draw.bytes(1)[0],
        "points": [draw.singles(3) for _ in range(points)],
        "dimensions": draw.floats(3),
    }


objects = st.builds(
    _object,
    st.integers(0, 2**32),
    st.integers(0, 4),
    st.integers(0, 5),
    st.lists(st.integers(0, 4), max_size=4),
)
alike = st.builds(
    lambda count, classes, points, paths: [_object(i, classes, points, paths) for i in range(count)],
    st.integers(0, 6),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([[], [0, 0], [1], [2, 2], [3, 3, 3]]),
)
"""Objects of the same lengths, as most are."""

messages = st.fixed_dictionaries(
    {
        "sec": st.integers(-(2**31), 2**31 - 1),
        "nanosec": st.integers(0, 10**9 - 1),
        "frame_id": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
        "objects": st.lists(objects, max_size=5) | alike,
    }
)
"""A header and objects with all that TrackedObject and PredictedObject have."""


def build(kind, new, message):
    """The message as the objects of a serializer; new(name, **fields) makes one of them.

    kind: Tracked or Predicted.
    """

    def vector(name, values, axes="xyz"):
        return new(f"geometry_msgs/{name}", **dict(zip(axes, values, strict=True)))

    def pose(values):
        return new(
            "geometry_msgs/Pose",
            position=vector("Point", values[:3]),
            orientation=vector("Quaternion", values[3:], "xyzw"),
        )

    def moving(name, field, part, values):
        """A twist or an acceleration with its covariance."""
        both = new(
            f"geometry_msgs/{part}",
            linear=vector("Vector3", values[:3]),
            angular=vector("Vector3", values[3:6]),
        )
        return new(f"geometry_msgs/{name}", **{field: both}, covariance=np.array(values[6:]))

    def path(one):
        return new(
            "autoware_perception_msgs/PredictedPath",
            path=[pose(values) for values in one["poses"]],
            time_step=new("builtin_interfaces/Duration", sec=one["sec"], nanosec=one["nanosec"]),
            confidence=one["confidence"],
        )

    def kinematics(one):
        state = one["state"]
        pose_cov = new(
            "geometry_msgs/PoseWithCovariance", pose=pose(state[:7]), covariance=np.array(state[7:43])
        )
        twist = moving("TwistWithCovariance", "twist", "Twist", state[43:85])
        accel = moving("AccelWithCovariance", "accel", "Accel", state[85:127])
        if kind == "Tracked":
            return new(
                "autoware_perception_msgs/TrackedObjectKinematics",
                pose_with_covariance=pose_cov,
                twist_with_covariance=twist,
                acceleration_with_covariance=accel,
                orientation_availability=one["availability"],
                is_stationary=one["stationary"],
            )
        return new(
            "autoware_perception_msgs/PredictedObjectKinematics",
            initial_pose_with_covariance=pose_cov,
            initial_twist_with_covariance=twist,
            initial_acceleration_with_covariance=accel,
            predicted_paths=[path(each) for each in one["paths"]],
        )

    def whole(one):
        footprint = [vector("Point32", point) for point in one["points"]]
        return new(
            f"autoware_perception_msgs/{kind}Object",
            object_id=new("unique_identifier_msgs/UUID", uuid=np.array(one["uuid"], np.uint8)),
            existence_probability=one["existence"],
            classification=[
                new("autoware_perception_msgs/ObjectClassification", label=label, probability=probability)
                for label, probability in one["classes"]
            ],
            kinematics=kinematics(one),
            shape=new(
                "autoware_perception_msgs/Shape",
                type=one["shape_type"],
                footprint=new("geometry_msgs/Polygon", points=footprint),
                dimensions=vector("Vector3", one["dimensions"]),
            ),
        )

    stamp = new("builtin_interfaces/Time", sec=message["sec"], nanosec=message["nanosec"])
    return new(
        f"autoware_perception_msgs/{kind}Objects",
        header=new("std_msgs/Header", stamp=stamp, frame_id=message["frame_id"]),
        objects=[whole(one) for one in message["objects"]],
    )


def check_arrays(kind, arrays, message):
    """Whether arrays read from a message hold what it was made of; NaN is like NaN."""

    def same(found, wanted, what):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted).reshape(np.shape(found)), what)

    made = message["objects"]
    assert arrays.stamp_ns == message["sec"] * 10**9 + message["nanosec"]
    assert arrays.frame_id == message["frame_id"]
    assert len(arrays) == len(made)
    for i, one in enumerate(made):
        classes = slice(*arrays.class_start[i : i + 2])
        points = slice(*arrays.point_start[i : i + 2])
        assert bytes(arrays.ids[i : i + 1].view(np.uint8)) == bytes(one["uuid"])
        same(arrays.existence[i], one["existence"], "existence")
        same(arrays.class_label[classes], [label for label, _ in one["classes"]], "label")
        same(arrays.class_probability[classes], [p for _, p in one["classes"]], "probability")
        same(arrays.state[i], one["state"], "state")
        same(arrays.shape_type[i], one["shape_type"], "shape_type")
        same(arrays.points[points], one["points"], "points")
        same(arrays.dimensions[i], one["dimensions"], "dimensions")
        if kind == "Tracked":
            assert arrays.availability[i] == one["availability"]
            assert bool(arrays.stationary[i]) is one["stationary"]
            continue
        paths = range(*arrays.path_start[i : i + 2])
        assert len(paths) == len(one["paths"])
        for row, path in zip(paths, one["paths"], strict=True):
            same(arrays.poses[slice(*arrays.pose_start[row : row + 2])], path["poses"], "poses")
            assert arrays.time_step_ns[row] == path["sec"] * 10**9 + path["nanosec"]
            same(arrays.confidence[row], path["confidence"], "confidence")
