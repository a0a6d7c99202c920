"""Samples that share a row do not see each other."""

import pytest
import torch

from kinema.datasets.samples import read_samples
from kinema.families import FAMILIES, read_checkpoint
from kinema.training.batch import Collate
from kinema.training.examples import IGNORED, ExampleMaker
from kinema.training.loading import load_base, load_config, load_processor
from kinema.training.packing import pack
from support.training import run_training


@pytest.fixture(scope="module")
def model(base):
    return load_base(base, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def examples(base, data):
    maker = ExampleMaker(
        load_processor(base),
        load_config(base),
        family=FAMILIES["videolm"],
        checkpoint=read_checkpoint("base", base),
        max_length=2000,
    )
    return [maker.make(sample.conversation) for sample in read_samples(data)]


def losses(model, batch) -> torch.Tensor:
    """The loss of every learned token of a batch, in order."""
    with torch.no_grad():
        logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    all_losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    return all_losses[labels.flatten() != IGNORED]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_rows_have_the_losses_of_their_samples(model, examples, attention):
    model.set_attn_implementation(attention)
    alone = torch.cat([losses(model, Collate(0)([[e]])) for e in examples])
    padded = losses(model, Collate(0)([[e] for e in examples]))
    packed = losses(model, Collate(0, packed=True)([examples[:5], examples[5:]]))
    torch.testing.assert_close(padded, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-4)


def test_a_sample_does_not_change_when_its_neighbours_do(model, examples):
    packed = Collate(0, packed=True)
    count = int((examples[1].labels[1:] != IGNORED).sum())
    after_first = losses(model, packed([[examples[0], examples[1]]]))[-count:]
    after_other = losses(model, packed([[examples[3], examples[1]]]))[-count:]
    torch.testing.assert_close(after_first, after_other, atol=1e-5, rtol=1e-5)


def test_bins_hold_every_item_once_and_never_too_much():
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, 100, (500,), generator=generator).tolist()
    bins = pack(lengths, capacity=128, seed=0)
    assert sorted(i for one in bins for i in one) == list(range(500))
    assert max(sum(lengths[i] for i in one) for one in bins) <= 128
    assert len(bins) <= 1.05 * sum(lengths) / 128 + 1


def test_a_packed_run_starts_with_the_loss_of_a_plain_one(base, data, tmp_path):
    given = {"model_name_or_path": str(base), "data_path": data, "max_steps": 1}
    given |= {"per_device_train_batch_size": 12, "model_max_length": 1500}
    plain = run_training(tmp_path / "plain", **given)
    packed = run_training(tmp_path / "packed", **given, packing=True)
    assert packed.loss == pytest.approx(plain.loss, abs=1e-4)
