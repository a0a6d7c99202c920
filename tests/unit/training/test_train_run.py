"""A run learns what its stage says, keeps it small, and makes a model of it."""

from support.training import losses, run_training


def test_the_projector_learns(base, data, tmp_path):
    run_training(tmp_path / "run", model_name_or_path=str(base), data_path=data, max_steps=12)
    found = losses(tmp_path / "run")
    assert len(found) == 12
    assert sum(found[-3:]) < sum(found[:3])
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
