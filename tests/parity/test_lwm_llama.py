"""The decoder against transformers' LlamaForCausalLM, fed the same embeddings."""

from dataclasses import replace

import jax
import numpy as np
import pytest
import torch

from kinema.messages import SamplingParams
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.generate import PickWords, batch, run, settings_of
from kinema.models.lwm.llama import Decoder
from kinema.models.lwm.prompt import LaidOut
from kinema.models.lwm.vqgan import unflatten
from support.lwm_peers import LAYER, decoder_leaves, embeddings, llama

CONFIG = LWMConfig(
    vocab_size=500,
    vision_vocab_size=300,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_sequence_length=1024,
    scan_query_chunk_size=64,
    scan_key_chunk_size=128,
    scan_mlp_chunk_size=64,
)
NO_EOS = 10_000


def unscanned(leaves):
    single = {n: v for n, v in leaves.items() if LAYER not in n}
    for name, value in leaves.items():
        if LAYER in name:
            single |= {name.replace("scan_decoder", str(i)): v for i, v in enumerate(value)}
    return single


def mixed_prompt(length, seed):
    """Text, then vision ids, then text."""
    rng = np.random.default_rng(seed)
    is_vision = np.zeros(length, bool)
    is_vision[10 : length - 7] = True
    return LaidOut(rng.integers(0, 300, length).astype(np.int32), is_vision)


PROMPTS = [mixed_prompt(150, 1), mixed_prompt(97, 2), mixed_prompt(230, 3)]


@pytest.fixture(scope="module")
def leaves():
    return decoder_leaves(CONFIG)


@pytest.fixture(scope="module")
def theirs(leaves):
    """Logits of every prompt alone, its greedy continuation, and the last hidden states."""
    model = llama(CONFIG, leaves)
    results = []
    for prompt in PROMPTS:
        embeds = embeddings(leaves, prompt)
        with torch.no_grad():
            out = model(inputs_embeds=embeds, output_hidden_states=True)
            ids = model.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
                do_sample=False, max_new_tokens=12, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
        results.append((out.logits[0].numpy(), out.hidden_states[-1][0].numpy(), ids[0].tolist()))
    return results


def greedy(num_new):
    return SamplingParams(max_new_tokens=num_new)


@pytest.mark.parametrize("scan", [True, False])
def test_logits_equal_those_of_transformers_in_a_padded_batch(leaves, theirs, scan):
    decoder = Decoder(replace(CONFIG, scan_layers=scan))
    params = jax.tree.map(jax.numpy.asarray, unflatten(leaves if scan else unscanned(leaves)))
    hidden = decoder.hidden(params, batch(decoder, PROMPTS, num_new=1))
    text = np.asarray(decoder.logits(params, hidden, "text"))
    vision = np.asarray(decoder.logits(params, hidden, "vision"))
    for row, prompt in enumerate(PROMPTS):
        logits, states, _ = theirs[row]
        np.testing.assert_allclose(text[row, -len(prompt) :], logits, atol=1e-4)
        wanted = states @ leaves["vision_head/kernel"]
        np.testing.assert_allclose(vision[row, -len(prompt) :], wanted, atol=1e-4)


@pytest.mark.parametrize("scan", [True, False])
def test_greedy_continuation_equals_that_of_transformers(leaves, theirs, scan):
    decoder = Decoder(replace(CONFIG, scan_layers=scan))
    params = jax.tree.map(jax.numpy.asarray, unflatten(leaves if scan else unscanned(leaves)))
    settings = settings_of([greedy(12)] * 3, decoder)
    *_, added = run(decoder, PickWords(NO_EOS), params, PROMPTS, settings)
    assert added.tolist() == [ids for _, _, ids in theirs]
    pieces = list(run(decoder, PickWords(NO_EOS), params, PROMPTS, settings, every=5))
    assert [p.shape[1] for p in pieces] == [1, 6, 11, 12]
    assert pieces[-1].tolist() == added.tolist()


def test_answer_ends_at_the_end_token(leaves, theirs):
    decoder, params = Decoder(CONFIG), jax.tree.map(jax.numpy.asarray, unflatten(leaves))
    wanted = theirs[0][2]
    settings = settings_of([greedy(12)], decoder)
    *_, added = run(decoder, PickWords(eos_id=wanted[4]), params, PROMPTS[:1], settings)
    assert added[0].tolist() == wanted[: wanted.index(wanted[4]) + 1]


def test_cached_decoding_equals_running_the_longer_prompt(leaves):
    decoder, params = Decoder(CONFIG), jax.tree.map(jax.numpy.asarray, unflatten(leaves))
    settings = settings_of([greedy(5)], decoder)
    *_, added = run(decoder, PickWords(NO_EOS), params, PROMPTS[:1], settings)
    longer = PROMPTS[0] + LaidOut(added[0, :4], np.zeros(4, bool))
    hidden = decoder.hidden(params, batch(decoder, [longer], num_new=1))
    assert int(decoder.logits(params, hidden[:, -1], "text").argmax()) == added[0, 4]
