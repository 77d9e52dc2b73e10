"""The prediction node with SROS 2 enforced: it can do what the policy allows, and nothing else.

What needs keys needs sros2, and a middleware that is built with security, as that of a ROS distribution is;
the wheels of PyPI are not (docs/security.md).
"""

from __future__ import annotations

import pytest
from domain_coordinator import domain_id
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

from data_tools.convert import write_log
from tests.ros.conftest import Stage
from tests.ros.nodes import INPUT, OUTPUT, Talk, call
from tests.ros.test_policy import POLICY
from tests.street import demo_scene
from trajpred.bags import read_raw
from trajpred.cdr import PREDICTED
from trajpred.errors import InputError
from trajpred.types import Label, TrackFrame, ids_from_int

ENCLAVE = "/prediction_node"
OVERRIDE = "ROS_SECURITY_ENCLAVE_OVERRIDE"


def cyclist(tick):
    return TrackFrame.build(
        10**9 + tick * 10**8,
        ids_from_int([7]),
        [[0.5 * tick, 0.0]],
        label=Label.BICYCLE,
        yaw=0.0,
        velocity=(5.0, 0.0),
    )


def enforced(keystore):
    return {
        "ROS_SECURITY_KEYSTORE": str(keystore),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
    }


def start(stage, *arguments):
    return stage.start("trajpred-node", "--ros-args", "--enclave", ENCLAVE, *arguments)


def state_of(stage):
    """By a service that the policy names; the node answers when it has tried to start itself."""
    return call(stage, GetState, "/prediction_node/get_state", GetState.Request()).current_state.id


@pytest.fixture
def secured(tmp_path, monkeypatch):
    """A stage whose own node, in the enclave /test, may do everything."""
    pytest.importorskip("sros2", reason="needs sros2, of a ROS distribution")
    from sros2.api._artifact_generation import generate_artifacts

    with domain_id() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))  # permissions are for one domain
        keystore = tmp_path / "keystore"
        generate_artifacts(keystore, ["/test"], [POLICY])
        for name, value in {**enforced(keystore), OVERRIDE: "/test"}.items():
            monkeypatch.setenv(name, value)
        try:
            made = Stage(domain, tmp_path)
        except RuntimeError as error:
            if "security libraries" in str(error):
                pytest.skip("the middleware is built without security")
            raise
        del made.environment[OVERRIDE]
        try:
            yield made
        finally:
            made.close()


def test_no_node_starts_unsecured_where_security_is_enforced(stage, tmp_path):
    """Without keys, and with a middleware that knows no keys."""
    (tmp_path / "keystore" / "enclaves" / "prediction_node").mkdir(parents=True)
    stage.environment |= enforced(tmp_path / "keystore")
    node = start(stage)
    stage.spin_until(lambda: not node.alive(), what="its end")
    assert node.wait(0) != 0
    assert not stage.node.count_publishers(OUTPUT)


def test_it_answers(secured):
    start(secured)
    talk = Talk(secured)
    answers = [talk.ask(cyclist(tick)) for tick in range(10)]
    assert [len(answer) for answer in answers] == [1] * 10
    assert answers[-1].mode_valid.sum() > 1, "the model, not the baseline"
    assert state_of(secured) == State.PRIMARY_STATE_ACTIVE


def test_a_topic_that_the_policy_does_not_name_is_refused(secured):
    node = start(secured, "-r", "~/output/objects:=/elsewhere")
    assert state_of(secured) == State.PRIMARY_STATE_UNCONFIGURED
    secured.spin_for(1.0)
    assert "not configured" in node.said
    assert not secured.node.count_publishers("/elsewhere")


def test_who_has_no_keys_is_neither_heard_nor_told(secured, tmp_path):
    start(secured)
    talk = Talk(secured)
    street, heard = tmp_path / "street.mcap", tmp_path / "heard.mcap"
    write_log(demo_scene(seconds=3.0, seed=1), street)
    secured.environment["ROS_SECURITY_ENABLE"] = "false"
    listener = secured.start(
        "trajpred-record-node", "--ros-args", "-p", f"out:={heard}", "-p", f"topics:=[{INPUT}, {OUTPUT}]"
    )
    player = secured.start(
        "trajpred-replay-node", "--ros-args", "-p", f"log:={street}", "-p", "wait_for_subscribers:=20.0"
    )
    asked = 0
    while player.alive():
        talk.ask(cyclist(asked))
        asked += 1
        secured.spin_for(0.1)
    assert listener.stop() == 0
    assert len(list(read_raw(heard, INPUT))) == len(list(read_raw(street))), (
        "those without keys hear each other"
    )
    with pytest.raises(InputError, match="no topic"):
        list(read_raw(heard, OUTPUT, PREDICTED))
    assert len(talk.answers) == asked > 10
