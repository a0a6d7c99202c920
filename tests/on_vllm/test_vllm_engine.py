"""The vLLM engine on real vLLM: the same weights, frames and tokens as the hf engine.

Run in the environment that scripts/vllm_env.sh makes; skipped where vLLM is not installed.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from safetensors.torch import load_file

pytest.importorskip("vllm")

from kinema.engines import EngineSettings
from kinema.engines.vllm.folder import readable_folder
from kinema.errors import MissingCapability, RequestRefused
from kinema.families import FAMILIES
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support import tiny_families
from support.by_hand import NEW_TOKENS, clip
from support.capabilities import CAPABILITIES
from support.driver import ListInbox, answer, generate, stream
from support.tiny_families import MAKERS, make_checkpoint

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
ON_VLLM = ["llava", *(n for n in MAKERS if "vllm" in FAMILIES.get(n, FAMILIES["janus"]).engines)]
HF = EngineSettings(device="cpu", dtype="float32", keep_conversations=0)
SETTINGS = EngineSettings(device="cpu", dtype="float32", max_context=2048)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    """Tiny checkpoints, wide enough for vLLM's attention on a CPU."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = make_checkpoint(name, tmp_path_factory.mktemp(name), width=128)
        return made[name]

    with pytest.MonkeyPatch.context() as patch:
        # vLLM divides by image_size // patch_size**2 here.
        patch.setitem(
            MAKERS, "llava-next-video", lambda w: tiny_families.llava_next_video(w, side=196)
        )
        patch.setenv("KINEMA_HOME", str(tmp_path_factory.mktemp("cache")))
        yield make


@pytest.fixture(scope="module", params=ON_VLLM)
def both(request, folder_of):
    """(model, vllm engine, answers of the hf engine) on one family's checkpoint."""
    model = find_model(str(folder_of(request.param)), engine="vllm")
    # vLLM's Transformers backend changes transformers' classes, so the reference runs first.
    hf = find_model(str(folder_of(request.param)), engine="hf").open(HF)
    _without_compression(hf)
    theirs = {c.request_id: c for c in generate(hf, _requests(model))}
    hf.close()
    engine = model.open(SETTINGS)
    yield model, engine, theirs
    engine.close()


def _without_compression(hf):
    """vLLM runs VideoLLaMA3 without token compression; so does the reference here."""
    video = getattr(hf.processor, "video_processor", None)
    if hasattr(video, "use_token_compression"):
        video.use_token_compression = False


def _request(model, *parts, name="0", params=PARAMS, before=()):
    return prepare(
        decode(Conversation((*before, Message("user", parts))), model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=params,
        request_id=name,
    )


def _requests(model):
    made = {
        "video": (VideoPart(clip(1)), TextPart("what do you see?")),
        "text": (TextPart("why?"),),
        "literal": (VideoPart(clip(2, 4)), TextPart("is <video> or <image> in <|im_end|> text?")),
    }
    if model.family.takes_image:
        made["image"] = (ImagePart(clip(3, 1)), TextPart("what do you see?"))
    if model.family.takes_image:
        made["both"] = (ImagePart(clip(3, 1)), VideoPart(clip(1)), TextPart("why?"))
    requests = [_request(model, *parts, name=name) for name, parts in made.items()]
    asked = (Message("user", made["video"]), Message("assistant", (TextPart("a rabbit"),)))
    return [*requests, _request(model, TextPart("why?"), name="follow-up", before=asked)]


def test_tokens_equal_those_of_the_hf_engine(both, shown):
    model, engine, theirs = both
    ours = {c.request_id: c for c in generate(engine, _requests(model))}
    assert {n: c.token_ids for n, c in ours.items()} == {n: c.token_ids for n, c in theirs.items()}
    counted = {n: c.usage.prompt_tokens for n, c in ours.items()}
    assert counted == {n: c.usage.prompt_tokens for n, c in theirs.items()}
    name, family = model.family.name, model.family
    as_images = "yes" if family.takes_video else "as timed images"
    shown(name, "vllm", "video", as_images)
    shown(name, "vllm", "image", "yes" if "image" in ours else "refused")
    shown(name, "vllm", "mixed", as_images if "both" in ours else "refused")
    shown(name, "vllm", "batched")
    shown(name, "vllm", "follow-up")


def test_what_a_family_cannot_do_on_vllm_is_refused_by_name(both, shown):
    model, _, _ = both
    with pytest.raises(MissingCapability, match="'vllm' does not do quantization") as caught:
        model.open(replace(SETTINGS, quantization="bnb-4bit"))
    assert "hf" in caught.value.hint
    shown(model.family.name, "vllm", "quantised", "refused")
    if not model.family.takes_image:
        with pytest.raises(MissingCapability, match="does not take images"):
            _request(model, ImagePart(clip(3, 1)), TextPart("why?"))


def test_stages_reach_vllm_and_are_refused_on_cpus(folder_of, monkeypatch):
    model = find_model(str(folder_of("llava-onevision")), engine="vllm")
    staged = replace(SETTINGS, pipeline_parallel=2)
    with pytest.raises(MissingCapability, match="pipeline_parallel on CPUs") as caught:
        model.open(staged)
    assert "tensor_parallel" in caught.value.hint
    seen = {}
    monkeypatch.setattr("kinema.engines.vllm.engine.current_platform", NotACPU())
    monkeypatch.setattr("kinema.engines.vllm.engine.LLM", lambda _, **given: seen.update(given))
    with pytest.raises(AttributeError):  # there is no vLLM behind it
        model.open(staged)
    assert (seen["pipeline_parallel_size"], seen["tensor_parallel_size"]) == (2, 1)


class NotACPU:
    """A platform of GPUs."""

    def is_cpu(self) -> bool:
        return False


def test_a_stream_gives_the_tokens_of_the_answer(both, shown):
    model, engine, _ = both
    request = _request(model, VideoPart(clip(1)), TextPart("what do you see?"))
    whole = answer(engine, request)
    *pieces, last = stream(engine, request)
    assert last.token_ids == whole.token_ids
    assert "".join(pieces).strip() == whole.text
    assert len(pieces) > 1
    assert 0 < last.first_token_seconds <= last.seconds
    shown(model.family.name, "vllm", "streamed")


def test_one_bad_request_does_not_end_the_batch(both):
    model, engine, _ = both
    good = _request(model, TextPart("why?"), name="good")
    long = _request(model, TextPart("why? " * 3000), name="long")
    inbox = ListInbox(engine, [long, good])
    engine.serve(inbox)
    assert [c.request_id for c in inbox.completions] == ["good"]
    assert isinstance(inbox.problems["long"], RequestRefused)
    said = f"longer than the maximum model length of {engine.context_length}"
    assert said in str(inbox.problems["long"])


def test_counted_tokens_are_the_tokens_that_run(both):
    model, engine, _ = both
    request = _request(model, VideoPart(clip(1)), TextPart("what do you see?"))
    counted = engine.count_tokens(request)
    completion = answer(engine, request)
    assert completion.usage.prompt_tokens == counted


class Leaves(ListInbox):
    """Cancels a request when its first piece arrives."""

    def write(self, request_id, text):
        super().write(request_id, text)
        self.cancelled.add(request_id)


def test_a_cancelled_stream_leaves_the_engine_usable(both):
    model, engine, _ = both
    params = SamplingParams(max_new_tokens=200, min_new_tokens=200)
    inbox = Leaves(engine, [_request(model, TextPart("why?"), params=params)], streamed=True)
    engine.serve(inbox)
    assert len(inbox.pieces) == 1
    assert inbox.completions == []
    after = answer(engine, _request(model, TextPart("why?")))
    assert len(after.token_ids) == NEW_TOKENS


def test_logprobs_are_those_of_the_hf_engine(folder_of):
    params = SamplingParams(max_new_tokens=4, min_new_tokens=4, logprobs=2)
    found = {}
    for engine_name, settings in (("hf", HF), ("vllm", SETTINGS)):
        model = find_model(str(folder_of("qwen2-vl")), engine=engine_name)
        engine = model.open(settings)
        request = _request(model, VideoPart(clip(1)), TextPart("why?"), params=params)
        found[engine_name] = answer(engine, request).logprobs
        engine.close()
    ours, theirs = ([t.logprob for t in found[name]] for name in ("vllm", "hf"))
    assert ours == pytest.approx(theirs, abs=1e-3)
    assert all(len(t.alternatives) == 2 for t in found["vllm"])


def test_a_conversation_goes_on(folder_of):
    folder = str(folder_of("qwen2-vl"))
    with Chat(folder, engine="vllm", params=PARAMS, settings=SETTINGS) as session:
        session.ask("what do you see?", VideoPart(clip(1)))
        history = session.conversation
        ours = session.ask("why?").completion.token_ids
    with Chat(folder, engine="hf", params=PARAMS, settings=HF) as session:
        session.conversation = history
        assert session.ask("why?").completion.token_ids == ours


@pytest.mark.parametrize("name", ["video-llava", "janus", "deepseek-vl", "generic"])
def test_families_that_vllm_does_not_load_are_refused_by_name(folder_of, shown, name):
    with pytest.raises(MissingCapability, match="does not run on the engine 'vllm'") as caught:
        find_model(str(folder_of(name)), engine="vllm")
    assert "hf" in caught.value.hint
    for capability in CAPABILITIES:
        shown(name, "vllm", capability, "refused")


def test_saved_again_weights_carry_the_names_that_vllm_reads(folder_of):
    """transformers 5 drops a level from the names of CLIP and SigLIP towers when it saves."""
    folder, family = folder_of("llava"), FAMILIES["llava"]
    saved, read = (
        set(load_file(place / "model.safetensors"))
        for place in (folder, readable_folder(folder, family))
    )
    assert any(n.startswith("vision_tower.encoder.") for n in saved)
    assert not any(n.startswith("vision_tower.encoder.") for n in read)
    assert {n.replace(".vision_model", "") for n in read} == saved


def test_the_hf_engine_never_imports_vllm(folder_of):
    code = (
        "import sys, kinema; kinema.load(sys.argv[1], device='cpu'); print('vllm' in sys.modules)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder_of("llava"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
