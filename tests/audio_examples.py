"""Audio files as other programs write them, made with FFmpeg's encoders through PyAV."""

import io

import av
import numpy as np


def speech_like(seconds, rate=16_000, seed=0):
    """A gliding tone with noise, its level moving; float32 (S,), below full scale."""
    time = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (200 + 50 * np.sin(time)) * time) * (0.5 + 0.5 * np.sin(3 * time))
    return (0.3 * tone + 0.02 * np.random.default_rng(seed).normal(size=len(time))).astype(np.float32)


class Pipe(io.RawIOBase):
    """Takes bytes and cannot go back, as standard output."""

    def __init__(self):
        super().__init__()
        self.content = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.content += bytes(data)
        return len(data)


def encoded(container, codec, samples, rate=16_000, layout="mono", seekable=False, quality=None, **options):
    """Bytes of a file.

    Args:
      container: FFmpeg's name of the format.
      codec: FFmpeg's name of the encoder.
      samples: float (S,).
      rate: samples per second.
      layout: `mono` or `stereo`, both channels alike.
      seekable: whether the writer may go back to fill in a header, as in a file.
      quality: of a variable bitrate; None for the encoder's default.
      options: of the container.
    """
    sink = io.BytesIO() if seekable else Pipe()
    sink.name = ""
    with av.open(sink, "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        if quality is not None:
            stream.codec_context.options = {"global_quality": str(118 * quality), "flags": "+qscale"}
        if codec == "wmav2":
            stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(
            np.round(samples * 32767).astype(np.int16)[None], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts = rate, 0
        queue = av.AudioFifo()
        for converted in av.AudioResampler(format=stream.format.name, layout=layout, rate=rate).resample(frame):
            queue.write(converted)
        size = stream.codec_context.frame_size or 1024
        while queue.samples:
            file.mux(stream.encode(queue.read(min(size, queue.samples))))
        file.mux(stream.encode(None))
    return bytes(sink.content if isinstance(sink, Pipe) else sink.getvalue())


def decoded(content):
    """What FFmpeg decodes of a file's bytes: float32 (S,), the mean of the channels, at the file's own rate."""
    with av.open(io.BytesIO(content)) as file:
        resampler = av.AudioResampler(format="fltp")
        frames = [part.to_ndarray() for frame in file.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate(frames, axis=1).mean(axis=0)
