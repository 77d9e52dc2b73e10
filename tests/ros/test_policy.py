"""What the SROS 2 policy allows the prediction node is what it has, name by name."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

POLICY = Path(__file__).resolve().parents[2] / "ros_nodes" / "trajpred_ros" / "security" / "policy.xml"
WITH_TF2 = {"subscribe": {"/tf", "/tf_static"}, "reply": {"/tf2_frames"}}
"""Only where target_frame is set and tf2_ros is installed."""


def allowed():
    """What may be done -> with what."""
    (profile,) = ElementTree.parse(POLICY).getroot().iter("profile")
    assert (profile.get("ns"), profile.get("node")) == ("/", "prediction_node")
    found = {}
    for group in profile:
        ((verb, rule),) = group.attrib.items()
        assert rule == "ALLOW"
        assert verb not in found
        found[verb] = {name.text.replace("~", "/prediction_node") for name in group}
        assert len(found[verb]) == len(group)
    return found


def test_the_policy_allows_what_the_node_has_and_nothing_else(stage):
    stage.start("trajpred-node", "--ros-args", "-p", "use_sim_time:=true")
    kinds = {"publish": "publisher", "subscribe": "subscriber", "reply": "service", "request": "client"}

    def has():
        who = ("prediction_node", "/")
        if who not in stage.node.get_node_names_and_namespaces():
            return {}
        names = {verb: f"get_{kind}_names_and_types_by_node" for verb, kind in kinds.items()}
        return {verb: {name for name, _ in getattr(stage.node, get)(*who)} for verb, get in names.items()}

    policy = allowed()
    assert "request" not in policy
    wanted = {verb: policy.get(verb, set()) - WITH_TF2.get(verb, set()) for verb in kinds}
    stage.spin_until(lambda: has() == wanted, what=f"{wanted}")
    stage.spin_for(1.0)
    assert has() == wanted
