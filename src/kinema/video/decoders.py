"""The decoders that we have."""

from __future__ import annotations

from kinema.lazy import Row, Table

DECODERS = Table(
    "decoder",
    {
        "pyav": Row("kinema.video.pyav:decode", summary="FFmpeg through PyAV, its own build"),
        "torchcodec": Row(
            "kinema.video.torchcodec:decode",
            needs=("torchcodec",),
            install="pip install 'kinema[torchcodec]'",
            summary="the system's FFmpeg through torchcodec",
        ),
    },
)
"""Each takes ``(media, index, wanted, *, size)`` and gives the frames ``wanted``, int64[K] and
increasing, as ``Decoded``. A MediaError where the file cannot be opened or not one frame decoded.
"""
