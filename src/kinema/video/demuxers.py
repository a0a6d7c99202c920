"""Which of FFmpeg's demuxers may open a file, each with its reason, and why the others may not.

FFmpeg knows hundreds of containers. One that opens what a file names leads out of the file; one
that recognises anything turns every mistake into noise; one that nobody's files need is code that
nobody looks at, and that is where overflows are found. So each is named here, on either side.
"""

from __future__ import annotations

from collections.abc import Mapping

ALLOWED: Mapping[str, str] = {
    **dict.fromkeys(
        ("mov", "mp4", "m4a", "3gp", "3g2", "mj2"), "cameras, phones, editors and the web"
    ),
    **dict.fromkeys(("matroska", "webm"), "the web, screen recorders and archives"),
    "avi": "older cameras, and the data sets of their time",
    "mpegts": "broadcasts, AVCHD cameras and stream recorders",
    "mpeg": "DVDs and older broadcasts (program streams)",
    "flv": "recordings of live streams",
    "live_flv": "the same, cut off at their beginning",
    "kux": "Youku's downloads, which are FLV",
    "asf": "Windows Media",
    "wtv": "recordings of Windows Media Center",
    "ogg": "Theora of Wikimedia and older archives",
    "rm": "RealMedia of older archives",
    "nut": "FFmpeg's own container",
    "mxf": "broadcast cameras and editors",
    "gxf": "broadcast servers",
    "dv": "camcorders with tape",
    "dhav": "surveillance recorders (.dav)",
    "hxvs": "surveillance cameras (.264 and .265 with a header of their own)",
    "gif": "animated pictures",
    "apng": "animated pictures",
    "ivf": "VP8, VP9 and AV1 as encoders write them",
    "obu": "AV1 without a container",
    "av1": "AV1 without a container, as Annex B orders it",
    "h264": "H.264 without a container",
    "hevc": "H.265 without a container",
    "m4v": "MPEG-4 Visual without a container",
    "mpegvideo": "MPEG-1 and MPEG-2 without a container",
    "vc1": "VC-1 without a container",
    "h263": "H.263 without a container",
    "dnxhd": "DNxHD without a container",
    "mjpeg": "JPEG pictures one after the other",
    "yuv4mpegpipe": "uncompressed, as encoders and tests exchange it",
}
"""FFmpeg's short name of a container, and whose files are of this kind."""

SOUND_ALONE = "holds sound alone"
_REFUSED: Mapping[str, str] = {
    "opens other files or addresses that are named inside it": """
        concat dash hls image2 imf ivr rpl rtp rtsp sap sdp vobsub webm_dash_manifest""",
    "is a device of the machine, or a script that draws": """
        alsa android_camera avfoundation avisynth bktr decklink dshow fbdev gdigrab iec61883 jack
        kmsgrab lavfi libcdio libdc1394 openal oss pulse sndio v4l2 vapoursynth vfwcap video4linux2
        x11grab xcbgrab""",
    "is recognised by its name alone, so that any bytes would be pictures": """
        bin bitpacked data image2pipe mpegtsraw rawvideo v210 v210x""",
    "is one picture, which Pillow reads where it is a usual one": """
        alias_pix bmp_pipe brender_pix cri_pipe dds_pipe dpx_pipe exr_pipe fits gem_pipe gif_pipe
        hdr_pipe ico iff j2k_pipe jpeg_pipe jpegls_pipe jpegxl_anim jpegxl_pipe jpegxs_pipe
        pam_pipe pbm_pipe pcx_pipe pfm_pipe pgm_pipe pgmyuv_pipe pgx_pipe phm_pipe photocd_pipe
        pictor_pipe png_pipe ppm_pipe psd_pipe qdraw_pipe qoi_pipe sgi_pipe sunrast_pipe svg_pipe
        tiff_pipe txd vbn_pipe webp_pipe xbm_pipe xpm_pipe xwd_pipe msp""",
    "is text or subtitles": """
        adf aqtitle ass dvbsub dvbtxt ffmetadata idf jacosub lrc mcc microdvd mpl2 mpsub pjs rcwt
        realtext sami sbg scc srt stl subviewer subviewer1 sup tedcaptions tty vplayer webvtt
        xbin""",
    SOUND_ALONE: """
        3dostr aa aac aax ac3 ac4 ace acm act adp ads adx aea afc aiff aix alaw alp amr amrnb amrwb
        apac apc ape apm aptx aptx_hd argo_asf ast au avr bfstm binka bit boa bonk brstm caf codec2
        codec2raw daud dcstr derf dfpwm dsf dss dts dtshd eac3 epaf f32be f32le f64be f64le flac fsb
        fwse g722 g723_1 g726 g726le g728 g729 genh gsm hca hcom iamf ilbc ircam kvag laf lc3 libgme
        libmodplug libopenmpt loas mca mlp mmf mp3 mpc mpc8 msf mtaf mulaw musx nistsphere nsp oma
        osq pp_bnk pvf qcp qoa redspark rka rsd rso s16be s16le s24be s24le s32be s32le s337m s8 sbc
        scd sdns sdr2 sds sdx shn sln sol sox spdif svag svs tak truehd tta u16be u16le u24be u24le
        u32be u32le u8 vag vidc voc vpk vqf w64 wady wav wavarc wsaud wsd wv wve xa xmd xvag
        xwma""",
    "belongs to a game or a machine of another time": """
        4xm anm argo_brp argo_cvg avs bethsoftvid bfi bink bmv c93 cdg cdxl dfa dsicin dxa ea
        ea_cdata film_cpk filmstrip flic gdv hnm idcin ipmovie ipu iss jv lvf mgsts mm mods moflex
        mtv mv mvi paf pdv pmp psxstr rl2 roq sga siff simbiosis_imx smjpeg smk smush thp tiertexseq
        tmv usm vividas vivo vmd wc3movie wsvqa xmv yop""",
    "is rarely met, and its demuxer is rarely looked at": """
        apv asf_o avs2 avs3 cavsvideo cine dirac evc frm h261 ifv ingenient iv8 lmlm4 luodat lxf
        mjpeg_2000 mlv mpjpeg msnwctcp mxg nc nsv nuv pva r3d ser swf ty vc1test vvc""",
}

REFUSED: Mapping[str, str] = {
    name: reason for reason, names in _REFUSED.items() for name in names.split()
}
"""FFmpeg's short name of a container, and why it is not opened."""

WHITELIST = ",".join(ALLOWED)
"""FFmpeg's ``format_whitelist``."""


def why_refused(demuxer: str) -> str | None:
    """Why a container is not opened, by FFmpeg's name of it; None for one that is.

    Args:
        demuxer: short names with commas between, as FFmpeg has them: ``mov,mp4,m4a,3gp,3g2,mj2``.
    """
    names = demuxer.split(",")
    if any(name in ALLOWED for name in names):
        return None
    known = (REFUSED[name] for name in names if name in REFUSED)
    return next(known, "is not on the list of containers that are opened")
