"""The kubelet of these tests: what it has seen of a resource is told in order, and nothing old is told as new."""
import pytest

from kubelet import Plugin, pb


def devices(*health):
    return {str(i): pb.Device(ID=str(i), health=one) for i, one in enumerate(health)}


STARTING, HALF, WELL = devices("Unhealthy", "Unhealthy"), devices("Unhealthy", "Healthy"), devices("Healthy", "Healthy")


@pytest.fixture
def plugin(tmp_path):
    one = Plugin(str(tmp_path / "no.sock"), "nvidia.com/gpu")
    yield one
    one.close()


def come(plugin, *lists):
    with plugin.changed:
        plugin.lists += lists
        plugin.changed.notify_all()


def test_a_list_from_before_the_last_wait_is_not_taken_for_a_new_one(plugin):
    come(plugin, STARTING, HALF, WELL)
    assert plugin.wait(WELL.__eq__) is WELL
    with pytest.raises(AssertionError, match="never saw half"):
        plugin.wait(HALF.__eq__, "half", timeout=0)


def test_a_state_that_passed_quickly_is_seen(plugin):
    come(plugin, WELL)
    assert plugin.wait(WELL.__eq__) is WELL
    come(plugin, HALF, dict(WELL))
    assert plugin.wait(HALF.__eq__) is HALF
    assert plugin.wait(WELL.__eq__) is plugin.latest
    with pytest.raises(AssertionError):
        plugin.wait(HALF.__eq__, timeout=0)
