import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trajpred.geometry import (
    central_path,
    half_turn,
    path_heading,
    quaternion_from_yaw,
    rotate,
    wrap_angle,
    yaw_from_quaternion,
)

angles = st.floats(-50, 50)


def test_the_central_path_is_the_geometric_median():
    # On a line that is the weighted median: ends 0, 1, 10 with 0.4, 0.3, 0.3 have it at 1.
    paths = np.zeros((1, 4, 1, 2))
    paths[0, :, 0, 0] = [0.0, 1.0, 10.0, 1.5]
    found = central_path(paths, np.array([[0.4, 0.3, 0.3, 0.0]]))
    np.testing.assert_allclose(found, [[[1.0, 0.0]]], atol=0.2)
    # Of an equilateral triangle with equal weights it is the centre; a single path is its own.
    corners = np.array([[0.0, 0.0], [2.0, 0.0], [1.0, np.sqrt(3.0)]])[None, :, None]
    np.testing.assert_allclose(central_path(corners, np.full((1, 3), 1 / 3))[0, 0], [1.0, np.sqrt(1 / 3)])
    np.testing.assert_allclose(central_path(corners[:, :1], np.ones((1, 1))), corners[:, 0])


def test_no_other_point_is_much_closer_in_expectation_than_the_central_path():
    rng = np.random.default_rng(0)
    paths, weight = rng.normal(size=(20, 6, 3, 2)), rng.dirichlet(np.ones(6), size=20)

    def expected(point):
        return (weight[:, :, None] * np.linalg.norm(paths - point[:, None], axis=-1)).sum(axis=1)

    best = expected(central_path(paths, weight))
    for _ in range(200):
        other = central_path(paths, weight) + rng.normal(scale=rng.choice([0.05, 0.5]), size=(20, 3, 2))
        assert (expected(other) >= best - 0.02).all()


@given(angles)
def test_wrapped_angle_is_the_same_direction_within_one_turn(angle):
    wrapped = wrap_angle(angle)
    assert -np.pi <= wrapped < np.pi
    assert np.cos(wrapped) == pytest.approx(np.cos(angle), abs=1e-9)
    assert np.sin(wrapped) == pytest.approx(np.sin(angle), abs=1e-9)


def test_wrap_angle_by_hand():
    np.testing.assert_allclose(
        wrap_angle([0.0, np.pi, 3 * np.pi / 2, -7.0]), [0, -np.pi, -np.pi / 2, -7 + 2 * np.pi]
    )


def test_rotate_is_counter_clockwise():
    np.testing.assert_allclose(rotate([[1.0, 0.0], [1.0, 2.0]], np.pi / 2), [[0, 1], [-2, 1]], atol=1e-15)


def test_rotate_broadcasts_angles_over_points():
    turned = rotate(np.ones((3, 1, 2)), np.array([0.0, np.pi]))
    assert turned.shape == (3, 2, 2)
    np.testing.assert_allclose(turned[1], [[1, 1], [-1, -1]], atol=1e-15)


def test_quaternion_of_a_quarter_turn():
    np.testing.assert_allclose(quaternion_from_yaw(np.pi / 2), [0, 0, np.sqrt(0.5), np.sqrt(0.5)])


@given(angles)
def test_yaw_survives_the_quaternion(angle):
    assert np.cos(yaw_from_quaternion(quaternion_from_yaw(angle)) - angle) == pytest.approx(1.0)


@given(st.floats(-np.pi, np.pi), st.floats(1e-3, 1e3))
def test_half_a_turn_is_the_quaternion_without_the_angle(angle, length):
    x, y = length * np.cos(angle), length * np.sin(angle)
    sine, cosine = np.empty(1), np.empty(1)
    half_turn(np.array([complex(x, y)]), sine, cosine)
    np.testing.assert_allclose([0, 0, sine[0], cosine[0]], quaternion_from_yaw(np.arctan2(y, x)), atol=2e-8)


def test_half_turns_by_hand():
    """Ahead, left, right and back: 0, 45 and -45 degrees, and 90 on the side that the sign of y says."""
    sine, cosine = np.empty(5), np.empty(5)
    half_turn(np.array([2.0, 5.0j, -5.0j, complex(-3.0, 0.0), complex(-3.0, -0.0)]), sine, cosine)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(sine, [0, half, -half, 1, -1])
    np.testing.assert_allclose(cosine, [1, half, half, 0, 0], atol=1e-15)


def hamilton(a, b):
    """The product of two quaternions x, y, z, w."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return np.array(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ]
    )


@given(st.floats(-3, 3), st.floats(-1.4, 1.4), st.floats(-3, 3), st.floats(0.1, 10))
def test_yaw_is_that_of_rz_ry_rx_whatever_the_length(yaw, pitch, roll, length):
    about_y = np.array([0, np.sin(pitch / 2), 0, np.cos(pitch / 2)])
    about_x = np.array([np.sin(roll / 2), 0, 0, np.cos(roll / 2)])
    q = hamilton(hamilton(quaternion_from_yaw(yaw), about_y), about_x)
    assert yaw_from_quaternion(length * q) == pytest.approx(yaw, abs=1e-9)


def test_yaw_of_no_orientation():
    assert yaw_from_quaternion([0.0, 0.0, 0.0, 0.0]) == 0.0
    assert np.isnan(yaw_from_quaternion([np.nan, 0.0, 0.0, 1.0]))


def heading_of(points, start=0.0, **kwargs):
    """Degrees along one path from the origin."""
    return np.degrees(path_heading([start], [[0.0, 0.0]], np.array([[points]], float), **kwargs))[0, 0]


def test_heading_follows_the_path():
    np.testing.assert_allclose(heading_of([[1, 0], [1, 1], [0, 1]]), [0, 90, 180])


def test_standing_still_keeps_the_heading_of_the_start():
    still = [[0.01, 0], [-0.01, 0.01], [0, 0]]
    np.testing.assert_allclose(heading_of(still, start=np.radians(30)), [30, 30, 30])


def test_stopping_keeps_the_last_heading():
    np.testing.assert_allclose(heading_of([[0, 1], [0.02, 1], [0, 1.02]]), [90, 90, 90])


def test_slow_motion_turns_the_heading_once_it_has_come_far_enough():
    creeping = [[0, 0.02], [0, 0.04], [0, 0.06], [0, 0.08]]
    np.testing.assert_allclose(heading_of(creeping), [0, 0, 90, 90])
    np.testing.assert_allclose(heading_of(creeping, min_move_m=0.01), [90, 90, 90, 90])


def test_paths_of_several_agents_do_not_mix():
    paths = np.zeros((2, 2, 1, 2))
    paths[0, 1] = [1, 0]
    paths[1, 0] = [10, 9]
    along = path_heading([0.5, -0.5], [[0, 0], [10, 10]], paths)
    np.testing.assert_allclose(along[..., 0], [[0.5, 0.0], [-np.pi / 2, np.arctan2(-10, -10)]])


def test_headings_are_those_of_a_walk_step_by_step():
    """Paths that drive, creep, stand, stop and start, each against the rule in plain words."""
    rng = np.random.default_rng(4)
    scale = rng.choice([0.0, 0.004, 0.03, 2.0], (40, 3, 12))
    scale[:10], scale[10:20], scale[20:25, :, 4:] = 2.0, 0.004, 0.0
    start, heading = rng.normal(size=(40, 2)), rng.uniform(-3, 3, 40)
    paths = start[:, None, None] + (rng.uniform(-1, 1, (40, 3, 12, 2)) * scale[..., None]).cumsum(axis=2)
    found = path_heading(heading, start, paths)
    for row, mode in np.ndindex(40, 3):
        renewed_at, along = start[row], heading[row]
        for step, here in enumerate(paths[row, mode]):
            if np.hypot(*(here - renewed_at)) >= 0.05:
                along, renewed_at = np.arctan2(*(here - renewed_at)[::-1]), here
            assert found[row, mode, step] == pytest.approx(along), (row, mode, step)


def test_no_agents():
    assert path_heading(np.zeros(0), np.zeros((0, 2)), np.zeros((0, 3, 4, 2))).shape == (0, 3, 4)
