"""The engine on a random checkpoint in the released file formats."""

import os
import shutil
from dataclasses import replace

import jax
import pytest

from kinema.engines import EngineSettings
from kinema.engines.lwm import LWMEngine
from kinema.engines.scheduler import Scheduler
from kinema.errors import (
    ContextTooLong,
    MissingCapability,
    ModelError,
    ModelNotFound,
    OutOfMemory,
)
from kinema.families import FAMILIES, Checkpoint
from kinema.messages import (
    Ask,
    Conversation,
    ImagePart,
    Message,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.models.lwm.generate import batch
from kinema.prompt import prepare
from small_lwm import CONFIG, make_lwm, random_leaves, write_stream
from support.clips import make_clip
from support.driver import ListInbox, answer, generate, stream

FAMILY = FAMILIES["lwm"]
GREEDY = SamplingParams(max_new_tokens=6, min_new_tokens=6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_lwm(tmp_path_factory.mktemp("lwm"))


@pytest.fixture(scope="module")
def engine(folder):
    return LWMEngine(folder)


def request(*parts, params=GREEDY, id="0"):
    conversation = Conversation((Message("user", tuple(parts)),))
    return prepare(
        conversation, family=FAMILY, checkpoint=Checkpoint("lwm", None, {}), params=params,
        request_id=id,
    )  # fmt: skip


def about(frames, question="What is the video about?", **more):
    return request(VideoPart(frames), TextPart(question), **more)


def test_prompt_has_the_question_first(frames):
    assert about(frames).prompt.text == (
        "You are a helpful assistant. USER: What is the video about?\n<video> ASSISTANT:"
    )
    assert request(ImagePart(frames[:1]), TextPart("Hi?")).prompt.text.endswith(
        "Hi?\n<image> ASSISTANT:"
    )
    assert (
        request(TextPart("Hi?")).prompt.text == "You are a helpful assistant. USER: Hi? ASSISTANT:"
    )


def test_further_turns_go_on_in_the_same_line(frames):
    turns = (
        Message("user", (VideoPart(frames), TextPart("What?"))),
        Message("assistant", (TextPart("A dog."),)),
        Message("user", (TextPart("Where?"),)),
    )
    laid = prepare(
        Conversation(turns), family=FAMILY, checkpoint=Checkpoint("lwm", None, {}), params=GREEDY
    )
    assert laid.prompt.text.endswith(
        "USER: What?\n<video> ASSISTANT: A dog. USER: Where? ASSISTANT:"
    )


def test_counted_tokens_are_those_of_the_completion(engine, frames):
    asked = about(frames[:2])
    completion = answer(engine, asked)
    assert completion.usage.prompt_tokens == engine.count_tokens(asked)
    assert completion.usage.visual_tokens == 2 * 257
    assert len(completion.token_ids) == completion.usage.completion_tokens == 6
    assert completion.finish_reason == "length"


def test_a_batch_answers_each_as_if_it_were_alone(engine, frames):
    requests = [
        about(frames[:1], id="a"),
        request(TextPart("Who are you?"), id="b"),
        about(frames[:2], id="c", params=replace(GREEDY, temperature=1.0, seed=3)),
        about(frames[:2], id="d", params=replace(GREEDY, max_new_tokens=3, min_new_tokens=3)),
    ]
    together = {c.request_id: c for c in generate(engine, requests)}
    assert sorted(together) == ["a", "b", "c", "d"]
    assert len(together["d"].token_ids) == 3
    for one in requests[1:3]:
        assert answer(engine, one).token_ids == together[one.id].token_ids


def test_stream_gives_the_text_of_the_whole_answer(engine):
    asked = request(TextPart("Who?"), params=replace(GREEDY, max_new_tokens=40, min_new_tokens=40))
    completion = answer(engine, asked)
    *pieces, last = stream(engine, asked)
    assert "".join(pieces) == last.text == completion.text
    assert last.token_ids == completion.token_ids
    assert len(pieces) > 2
    assert 0 < last.first_token_seconds < last.seconds


def test_streams_share_a_batch_with_others(engine, frames):
    params = replace(GREEDY, max_new_tokens=24, min_new_tokens=24)
    requests = [about(frames[:1], id="a", params=params), request(TextPart("Who?"), id="b")]
    alone = {one.id: answer(engine, one).text for one in requests}

    class OneReads(ListInbox):
        def is_streamed(self, request_id):
            return request_id == "a"

    inbox = OneReads(engine, requests)
    engine.serve(inbox)
    assert len(inbox.taken) == 1
    # The short one does not wait for the long one.
    assert [c.request_id for c in inbox.completions] == ["b", "a"]
    assert {c.request_id: c.text for c in inbox.completions} == alone
    assert {name for name, _ in inbox.pieces} == {"a"}
    assert "".join(text for _, text in inbox.pieces) == alone["a"]


def test_eight_share_a_batch(engine):
    requests = [request(TextPart("Who?"), id=f"{i}", params=GREEDY) for i in range(10)]
    inbox = ListInbox(engine, requests)
    engine.serve(inbox)
    assert [len(taken) for taken in inbox.taken] == [8, 2]
    assert len(inbox.completions) == 10


def test_a_stream_that_nobody_reads_any_more_ends(engine):
    params = replace(GREEDY, max_new_tokens=200, min_new_tokens=200)

    class Leaving(ListInbox):
        def write(self, request_id, text):
            super().write(request_id, text)
            self.cancelled.add(request_id)

    inbox = Leaving(engine, [request(TextPart("Who?"), params=params)], streamed=True)
    engine.serve(inbox)
    assert len(inbox.pieces) == 1
    assert inbox.completions == []


def test_stop_string_ends_the_answer(engine):
    params = replace(GREEDY, max_new_tokens=40, min_new_tokens=40)
    whole = answer(engine, request(TextPart("Who?"), params=params))
    stop = whole.text[5:7]
    asked = request(TextPart("Who?"), params=replace(params, stop=(stop,)))
    cut = answer(engine, asked)
    assert cut.text == whole.text[: whole.text.index(stop)].rstrip()
    assert cut.finish_reason == "stop"
    assert cut.usage.completion_tokens < 40
    *pieces, _ = stream(engine, asked)
    assert "".join(pieces) == cut.text
    # Beside a longer one it ends where it ends alone.
    beside = generate(engine, [asked, request(TextPart("Who?"), id="long", params=params)])
    assert [(c.request_id, c.token_ids) for c in beside] == [
        ("0", cut.token_ids),
        ("long", whole.token_ids),
    ]


def test_answer_is_as_long_as_asked(engine):
    params = SamplingParams(max_new_tokens=200, min_new_tokens=200)
    assert len(answer(engine, request(TextPart("Who?"), params=params)).token_ids) == 200


def test_image_costs_its_own_length_and_not_that_of_eight_frames(engine, frames):
    model = engine.model
    (image,) = model.lay_out([request(ImagePart(frames[:1])).prompt], [[frames.pixels[:1]]])
    assert batch(model.decoder, [image], num_new=1).ids.shape[1] == 384


def test_control_tokens_that_a_user_types_stay_words(engine):
    plain = engine.model.tokenizer
    for text in ("</s>", "<s>", "a </s> b"):
        ids = plain.encode(text)
        assert not {plain.bos_id, plain.eos_id} & set(ids)
        assert plain.decode(ids) == text
    typed = request(TextPart("<video> </s>"))
    (laid,) = engine.model.lay_out([typed.prompt], [[]])
    assert laid.ids.tolist().count(plain.bos_id) == 1
    assert "<video> </s>" in plain.decode(laid.ids.tolist())


@pytest.mark.parametrize(("layout", "num_bos"), [("trained", 1), ("release", 5)])
def test_layout_is_an_option(folder, frames, layout, num_bos):
    engine = LWMEngine(folder, settings=EngineSettings(layout=layout, frame_ends=layout))
    asked = about(frames[:2])
    (laid,) = engine.model.lay_out([asked.prompt], [[frames.pixels[:2]]])
    text = laid.ids[~laid.is_vision]
    assert text.tolist().count(engine.model.tokenizer.bos_id) == num_bos
    first_end = 64 if layout == "trained" else 65
    assert laid.ids[laid.is_vision][[256, 513]].tolist() == [first_end, 65]


def test_prompt_that_is_too_long_says_how_many_frames_fit_and_fails_alone(folder, frames):
    small = LWMEngine(folder, config=replace(CONFIG, max_sequence_length=700))
    inbox = ListInbox(small, [about(frames, id="long"), about(frames[:2], id="short")])
    small.serve(inbox)
    problem = inbox.problems["long"]
    assert isinstance(problem, ContextTooLong)
    assert problem.largest_num_frames == 2
    assert [c.request_id for c in inbox.completions] == ["short"]
    assert small.context_length == 700
    assert small.count_tokens(about(frames[:2])) + 6 <= 700 < small.count_tokens(about(frames[:3]))


def test_a_long_prompt_and_a_long_answer_each_fit_and_do_not_share_a_batch(folder, frames):
    small = LWMEngine(folder, config=replace(CONFIG, max_sequence_length=700))
    more = replace(GREEDY, max_new_tokens=300, min_new_tokens=300)
    requests = [about(frames[:2], id="prompt"), request(TextPart("Who?"), id="answer", params=more)]
    inbox = ListInbox(small, requests)
    small.serve(inbox)
    assert inbox.problems == {}
    assert [len(c.token_ids) for c in inbox.completions] == [6, 300]


def test_what_the_engine_does_not_do_is_an_error_by_name_and_of_one_request(engine):
    refused = {
        "repetition-penalty": replace(GREEDY, repetition_penalty=1.1),
        "logprobs": replace(GREEDY, logprobs=2),
    }
    requests = [request(TextPart("Hi"), params=p, id=name) for name, p in refused.items()]
    inbox = ListInbox(engine, [requests[0], request(TextPart("Hi"), id="fine"), requests[1]])
    engine.serve(inbox)
    assert [c.request_id for c in inbox.completions] == ["fine"]
    for name, problem in inbox.problems.items():
        assert isinstance(problem, MissingCapability)
        assert name.replace("-", "_") in str(problem)


def test_memory_that_runs_out_is_the_engines_fault(engine, monkeypatch):
    def full(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4 bytes")

    with monkeypatch.context() as patch:
        patch.setattr("kinema.models.lwm.chat.run", full)
        with pytest.raises(OutOfMemory):
            generate(engine, [request(TextPart("Who?"))])
    assert answer(engine, request(TextPart("Who?"))).usage.completion_tokens == 6


def test_scheduler_opens_and_closes_the_engine_in_its_thread(folder, engine, frames):
    wanted = answer(engine, about(frames[:1])).token_ids
    scheduler = Scheduler(
        lambda: LWMEngine(folder), family=FAMILY, checkpoint=Checkpoint("lwm", None, {})
    )
    said = Message("user", (VideoPart(frames[:1]), TextPart("What is the video about?")))
    asked = Ask(key="0", conversation=Conversation((said,)), params=GREEDY)
    pieces = []
    futures = [scheduler.submit(asked, on_text=pieces.append), scheduler.submit(asked)]
    assert [f.result().completion.token_ids for f in futures] == [wanted, wanted]
    assert "".join(pieces) == futures[0].result().completion.text
    scheduler.close()


def test_text_only_checkpoint_answers_and_says_that_it_cannot_see(folder, tmp_path, frames):
    write_stream(tmp_path / "params", random_leaves(replace(CONFIG, vision_vocab_size=0)))
    shutil.copy(folder / "tokenizer.model", tmp_path)
    engine = LWMEngine(tmp_path)
    assert len(answer(engine, request(TextPart("Who?"))).token_ids) == 6
    with pytest.raises(MissingCapability, match="text-only"):
        answer(engine, about(frames))


def test_checkpoint_of_parts_that_do_not_belong_together_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    write_stream(tmp_path / "params", random_leaves(replace(CONFIG, vocab_size=100)))
    with pytest.raises(ModelError, match=r"wte/embedding has 100 text tokens.*has 330"):
        LWMEngine(tmp_path)
    write_stream(tmp_path / "params", random_leaves(replace(CONFIG, vision_vocab_size=65)))
    with pytest.raises(ModelError, match=r"vte/embedding has 65 vision tokens.*needs 66"):
        LWMEngine(tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(ModelNotFound, match=r"tokenizer\.model"):
        LWMEngine(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"tokenizer\.model is no tokenizer"):
        LWMEngine(tmp_path)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="lists open files")
def test_no_file_stays_open(folder, tmp_path):
    from kinema.video import load_frames

    clip = make_clip(tmp_path / "clip.mp4", num_frames=4)
    asked = about(load_frames(clip, num_frames=1))
    answer(LWMEngine(folder), asked)
    links = {os.path.join("/proc/self/fd", n) for n in os.listdir("/proc/self/fd")}
    opened = {os.path.realpath(link) for link in links if os.path.exists(link)}
    assert not {str(clip), *map(str, folder.iterdir())} & opened
