"""The table of benchmarks: each one is a row here and a reader of its official layout."""

from __future__ import annotations

from kinema.evaluation.benchmarks import (
    choices,
    describing,
    long_videos,
    open_ended,
    own,
    segmenting,
)
from kinema.evaluation.benchmarks.base import Benchmark, Folder, WrongRow, WrongRows
from kinema.lazy import Named

__all__ = ["BENCHMARKS", "Benchmark", "Folder", "WrongRow", "WrongRows"]

_SHORT = ("normalised_match", "exact_match", "contains_match", "token_f1", "wups_0", "wups_0.9")
_CAPTIONS = ("cider_d", "bleu_1", "bleu_4", "rouge_l", "meteor_nltk_stems")
_SPANS = ("span_iou", "recall_0.3", "recall_0.5", "recall_0.7")
_SEGMENTS = (
    *("mof", "edit", "f1_10", "f1_25", "f1_50", "iou", "iod"),
    *("mof_without_background", "edit_without_background", "f1_10_without_background"),
    *("f1_25_without_background", "f1_50_without_background"),
    *("iou_without_background", "iod_without_background"),
)
_PER_VIDEO = tuple(
    f"per_video_{name}"
    for name in (
        *("frame_accuracy", "weighted_f1", "f1_at_10", "f1_at_25", "f1_at_50", "edit"),
        "label_recall",
    )
)
_BREAKFAST_SPLITS = (*(f"split{k}" for k in range(1, 5)), "all")
_SALADS_SPLITS = (*(f"split{k}" for k in range(1, 6)), "all")
_VIDEO_LLAVA = "or test_q.json, test_a.json and videos/"

_ROWS = (
    Benchmark(
        name="msvd-qa",
        title="MSVD-QA",
        layout=f"test_qa.json, youtube_mapping.txt and the clips, {_VIDEO_LLAVA}",
        read=open_ended.msvd_qa,
        metrics=_SHORT,
        splits=("test", "val", "train"),
        counts={"test": 13_157},
        tables=("question",),
        judge="answer",
    ),
    Benchmark(
        name="msrvtt-qa",
        title="MSRVTT-QA",
        layout=f"test_qa.json and video<N>.mp4, {_VIDEO_LLAVA}",
        read=open_ended.msrvtt_qa,
        metrics=_SHORT,
        splits=("test", "val", "train"),
        counts={"test": 72_821},
        tables=("question",),
        judge="answer",
    ),
    Benchmark(
        name="tgif-frameqa",
        title="TGIF-QA FrameQA",
        layout=f"Test_frameqa_question.csv and the GIFs, {_VIDEO_LLAVA}",
        read=open_ended.tgif,
        metrics=_SHORT,
        counts={"test": 13_691},
        judge="answer",
    ),
    Benchmark(
        name="tgif-count",
        title="TGIF-QA Count",
        layout="Test_count_question.csv and the GIFs",
        read=open_ended.tgif,
        metrics=("count_mse", "count_accuracy"),
    ),
    Benchmark(
        name="tgif-action",
        title="TGIF-QA Action",
        layout="Test_action_question.csv and the GIFs",
        read=open_ended.tgif,
    ),
    Benchmark(
        name="tgif-transition",
        title="TGIF-QA Transition",
        layout="Test_transition_question.csv and the GIFs",
        read=open_ended.tgif,
    ),
    Benchmark(
        name="activitynet-qa",
        title="ActivityNet-QA",
        layout="test_q.json, test_a.json and v_<id>.mp4",
        read=open_ended.questions_and_answers,
        metrics=_SHORT,
        splits=("test", "val", "train"),
        counts={"test": 8_000, "val": 18_000, "train": 32_000},
        tables=("type",),
        judge="answer",
    ),
    Benchmark(
        name="video-chatgpt",
        title="Video-ChatGPT generative benchmark",
        layout="generic_qa.json, temporal_qa.json, consistency_qa.json and the videos",
        read=open_ended.video_chatgpt,
        metrics=("token_f1",),
        tables=("set",),
        judge="aspects",
    ),
    Benchmark(
        name="next-qa",
        title="NExT-QA multiple choice",
        layout="test.csv (a0 to a4), map_vid_vidorID.json and the videos",
        read=choices.next_qa,
        splits=("test", "val", "train"),
        counts={"test": 8_564},
        tables=("kind", "type"),
    ),
    Benchmark(
        name="next-oe",
        title="NExT-QA open-ended",
        layout="test.csv (free answers), map_vid_vidorID.json and the videos",
        read=choices.next_qa_open,
        metrics=("wups_0", "wups_0.9", "normalised_match", "token_f1"),
        splits=("test", "val", "train"),
        tables=("kind",),
        judge="answer",
    ),
    Benchmark(
        name="mvbench",
        title="MVBench",
        layout="json/<task>.json and video/",
        read=choices.mvbench,
        counts={"test": 4_000},
        macro_over="task",
        tables=("task",),
    ),
    Benchmark(
        name="egoschema",
        title="EgoSchema",
        layout="questions.json, subset_answers.json and videos/<q_uid>.mp4",
        read=choices.egoschema,
        splits=("subset", "full"),
        counts={"subset": 500, "full": 5_031},
        submission="submission.json",
    ),
    *(
        Benchmark(
            name=f"video-mme{suffix}",
            title=f"Video-MME {words} subtitles",
            layout=f"*.parquet, <videoID>.mp4{more}",
            read=long_videos.video_mme,
            counts={"test": 2_700},
            tables=("duration", "domain", "task_type"),
        )
        for suffix, words, more in (("", "without", ""), ("-sub", "with", ", subtitle/*.srt"))
    ),
    Benchmark(
        name="longvideobench",
        title="LongVideoBench",
        layout="lvb_val.json, videos/ and subtitles/",
        read=long_videos.long_video_bench,
        splits=("val", "test_wo_gt"),
        counts={"val": 1_337},
        tables=("duration", "category"),
    ),
    Benchmark(
        name="mlvu",
        title="MLVU",
        layout="json/<task>.json and video/<task>/",
        read=long_videos.mlvu,
        metrics=("accuracy", "token_f1"),
        splits=("dev", "test"),
        macro_over="task",
        tables=("task",),
        judge="answer",
    ),
    Benchmark(
        name="tempcompass",
        title="TempCompass",
        layout="questions/{multi-choice,yes_no,caption_matching,captioning}.json and the videos",
        read=choices.tempcompass,
        metrics=("accuracy", "contains_match"),
        tables=("format", "dimension"),
    ),
    Benchmark(
        name="perceptiontest",
        title="Perception Test",
        layout="mc_question_valid.json and the videos",
        read=choices.perception_test,
        splits=("valid", "test", "train", "sample"),
        tables=("area", "reasoning"),
    ),
    Benchmark(
        name="msrvtt-caption",
        title="MSRVTT captioning",
        layout="test_videodatainfo.json and video<N>.mp4",
        read=describing.msrvtt_captions,
        metrics=_CAPTIONS,
        splits=("test", "validate", "train"),
        counts={"test": 2_990},
    ),
    Benchmark(
        name="youcook2",
        title="YouCook2 captioning",
        layout="youcookii_annotations_trainval.json and <id>.mp4",
        read=describing.youcook2,
        metrics=_CAPTIONS,
        splits=("validation", "training"),
    ),
    Benchmark(
        name="charades-sta",
        title="Charades-STA",
        layout="charades_sta_test.txt and <id>.mp4",
        read=describing.charades_sta,
        metrics=_SPANS,
        splits=("test", "train"),
    ),
    Benchmark(
        name="breakfast",
        title="Breakfast",
        layout="groundTruth/, mapping.txt, splits/test.split<K>.bundle and the videos",
        read=segmenting.ms_tcn,
        metrics=_SEGMENTS,
        splits=_BREAKFAST_SPLITS,
        macro_over="fold",
        tables=("activity", "fold"),
    ),
    Benchmark(
        name="50salads",
        title="50Salads",
        layout="groundTruth/, mapping.txt, splits/test.split<K>.bundle and the videos",
        read=segmenting.ms_tcn,
        metrics=_SEGMENTS,
        splits=_SALADS_SPLITS,
        macro_over="fold",
        tables=("fold",),
    ),
    Benchmark(
        name="breakfast-chat",
        title="Breakfast, asked as a chat",
        layout="valid.txt and <person>/<camera>/<video>.avi with .avi.labels",
        read=segmenting.breakfast_chat,
        metrics=(*_SEGMENTS, *_PER_VIDEO),
        splits=("valid",),
        counts={"valid": 498},
        tables=("activity",),
    ),
    Benchmark(
        name="50salads-chat",
        title="50Salads, asked as a chat",
        layout="timestampGT2/<video> and <video>.avi",
        read=segmenting.salads_chat,
        metrics=(*_SEGMENTS, *_PER_VIDEO),
        splits=("valid",),
    ),
    Benchmark(
        name="jsonl",
        title="Own questions",
        layout="a .jsonl file with video, question, options or answers on each line",
        read=own.jsonl,
        metrics=("accuracy", *_SHORT, *_CAPTIONS, "count_accuracy", *_SPANS, *_SEGMENTS),
        splits=("all",),
        tables=("*",),
        judge="answer",
    ),
)

BENCHMARKS = Named("benchmark", {benchmark.name: benchmark for benchmark in _ROWS})
