"""The command line: flags in, results on stdout, everything else on stderr."""

from kinema.lazy import Row, Table

COMMANDS = Table(
    "command",
    {
        "chat": Row("kinema.cli.chat:chat", summary="Ask about videos and images."),
        "caption": Row("kinema.cli.caption:caption", summary="Describe videos, with times."),
        "answer": Row("kinema.cli.answer:answer", summary="Answer a file of prompts."),
        "features": Row(
            "kinema.cli.features:features", summary="Extract what a vision tower sees, once."
        ),
        "features convert": Row(
            "kinema.cli.features:convert",
            summary="Exchange features with pickles of Video-ChatGPT.",
        ),
        "data convert": Row("kinema.cli.data:convert", summary="Make data to train on."),
        "data check": Row("kinema.cli.data:check", summary="Validate data before training."),
        "data stats": Row("kinema.cli.data:stats", summary="Lengths, labels, durations of data."),
        "serve": Row(
            "kinema.cli.serve:serve",
            needs=("fastapi", "uvicorn", "multipart", "prometheus_client"),
            install="pip install 'kinema[serve]'",
            summary="Serve a model with OpenAI's chat API.",
        ),
        "probe": Row("kinema.cli.probe:probe", summary="Show what is in a media file."),
        "eval": Row("kinema.cli.eval:evaluate", summary="Measure models on a benchmark."),
        "eval check": Row("kinema.cli.eval:check", summary="Verify a benchmark's files."),
        "eval list": Row("kinema.cli.eval:list_benchmarks", summary="List the benchmarks."),
        "eval rescore": Row("kinema.cli.eval:rescore", summary="Score predictions again."),
        "eval compare": Row("kinema.cli.eval:compare", summary="Compare two runs."),
        "train": Row("kinema.cli.train:train", summary="Train a model on chat data."),
        "train merge": Row("kinema.cli.train:merge", summary="Make a whole model of a run."),
        "train export": Row("kinema.cli.train:export", summary="Take a part out of a run."),
        "models": Row("kinema.cli.models:models", summary="List model families and engines."),
        "models use": Row(
            "kinema.cli.models:use", summary="Choose the model of commands that name none."
        ),
        "models convert": Row(
            "kinema.cli.convert:convert", summary="Turn released files into safetensors."
        ),
        "doctor": Row("kinema.cli.doctor:doctor", summary="Check what is installed and reachable."),
    },
)
"""Every command; its module is imported when the command is called."""
