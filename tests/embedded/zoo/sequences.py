"""Series, audio and video: recurrent networks, and convolutions over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.kind import DEFAULT, Kind, exported, floats, save, served, spec, weight

layers = tf.keras.layers


def recurrent(layer: Any, *shape: int | None) -> Any:
    """A recurrent layer, and a dense one behind it."""
    return lambda: tf.keras.Sequential([layers.Input(shape, name="x"), layer(), layers.Dense(3)])


def forecaster() -> Any:
    """A transformer over a series, with causal attention."""
    x = layers.Input([10, 4], name="x")
    hidden = layers.Dense(16)(x)
    attended = layers.MultiHeadAttention(4, 4)(hidden, hidden, use_causal_mask=True)
    hidden = layers.LayerNormalization()(hidden + attended)
    return tf.keras.Model(x, layers.Dense(2)(layers.Flatten()(hidden)))


def causal() -> Any:
    """Dilated causal convolutions, as in WaveNet: a tanh times a sigmoid."""
    x = layers.Input([24, 2], name="x")
    hidden = layers.Conv1D(8, 1)(x)
    for dilation in (1, 3):
        filtered = layers.Conv1D(8, 2, dilation_rate=dilation, padding="causal", activation="tanh")(hidden)
        gate = layers.Conv1D(8, 2, dilation_rate=dilation, padding="causal", activation="sigmoid")(hidden)
        hidden = hidden + filtered * gate
    return tf.keras.Model(x, layers.Conv1D(1, 1)(hidden))


def raw_audio() -> Any:
    """Strided convolutions over samples."""
    return tf.keras.Sequential(
        [
            layers.Input([256, 1], name="samples"),
            layers.Conv1D(8, 16, 4, padding="same", activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling1D(2),
            layers.SeparableConv1D(16, 5, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4, activation="softmax"),
        ]
    )


def video() -> Any:
    """Convolutions over time and space."""
    return tf.keras.Sequential(
        [
            layers.Input([6, 12, 12, 2], name="clip"),
            layers.Conv3D(6, 3, activation="relu"),
            layers.MaxPooling3D(2),
            layers.Conv3D(8, 2, padding="same", activation="leaky_relu"),
            layers.GlobalAveragePooling3D(),
            layers.Dense(3),
        ]
    )


def write_spectrogram(folder: Path) -> None:
    """A short-time Fourier transform and mel bands in front of a network."""
    module = tf.Module()
    module.kernel, module.deep = weight(111, 3, 3, 1, 8), weight(110, 3, 3, 8, 16)
    module.head = weight(112, 16, 4)
    bands = tf.signal.linear_to_mel_weight_matrix(12, 33, 8000, 100.0, 3800.0).numpy()

    def serve(samples: tf.Tensor) -> Any:
        power = tf.abs(tf.signal.stft(samples, 64, 32))
        logs = tf.math.log(tf.matmul(power, bands) + 1e-6)
        seen = tf.nn.relu(tf.nn.conv2d(logs[..., None], module.kernel, 1, "SAME"))
        seen = tf.nn.relu(tf.nn.conv2d(seen, module.deep, 2, "SAME"))
        return {"scores": tf.nn.softmax(tf.reduce_mean(seen, [1, 2]) @ module.head)}

    save(folder, module, serving_default=served(serve, samples=spec(None, 512)))


def write_unrolled(folder: Path) -> None:
    """An LSTM whose steps are written one after another."""
    module = tf.Module()
    module.w, module.b, module.head = weight(113, 12, 32), tf.Variable(floats(114, 32)), weight(115, 8, 3)

    def serve(x: tf.Tensor) -> Any:
        hidden = cell = tf.zeros([tf.shape(x)[0], 8])
        for step in tf.unstack(x, axis=1):
            entered, new, forgot, shown = tf.split(tf.concat([step, hidden], 1) @ module.w + module.b, 4, 1)
            cell = cell * tf.sigmoid(forgot + 1.0) + tf.sigmoid(entered) * tf.tanh(new)
            hidden = tf.tanh(cell) * tf.sigmoid(shown)
        return {"y": hidden @ module.head, "hidden": hidden}

    save(folder, module, serving_default=served(serve, x=spec(None, 6, 4)))


def write_filters(folder: Path) -> None:
    """A convolution in the frequency domain behind a learned one, so that a transform is in the middle."""
    module = tf.Module()
    module.kernel, module.gain, module.head = (
        weight(116, 5, 1, 4),
        tf.Variable(floats(117, 17)),
        weight(118, 4, 3),
    )

    def serve(x: tf.Tensor) -> Any:
        seen = tf.nn.conv1d(x[..., None], module.kernel, 1, "SAME")
        seen = tf.reshape(seen, [-1, 32, 4])  # a transform of nothing answers with what lies in memory
        spectrum = tf.signal.rfft(tf.transpose(seen, [0, 2, 1])) * tf.cast(module.gain, tf.complex64)
        filtered = tf.signal.irfft(spectrum, [32])
        return {"y": tf.reduce_max(filtered, 2) @ module.head}

    save(folder, module, serving_default=served(serve, x=spec(None, 32)))


def _kinds() -> list[Kind]:
    any_length = [(DEFAULT, {"x": floats(119, 2, 7, 4)}), (DEFAULT, {"x": floats(120, 1, 3, 4)})]
    loops = {DEFAULT: 0.0}
    frames = [
        layers.Input([3, 8, 8, 2], name="x"),
        layers.ConvLSTM2D(4, 3, padding="same"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2),
    ]
    return [
        Kind("lstm", exported(recurrent(lambda: layers.LSTM(8), None, 4)), any_length, shares=loops),
        Kind("gru", exported(recurrent(lambda: layers.GRU(8), None, 4)), any_length, shares=loops),
        Kind(
            "bidirectional",
            exported(recurrent(lambda: layers.Bidirectional(layers.LSTM(6)), None, 4)),
            any_length,
            shares=loops,
        ),
        Kind(
            "conv_lstm",
            exported(lambda: tf.keras.Sequential(frames)),
            [(DEFAULT, {"x": floats(121, 2, 3, 8, 8, 2)})],
            shares=loops,
        ),
        Kind("unrolled_lstm", write_unrolled, [(DEFAULT, {"x": floats(122, 3, 6, 4)})]),
        Kind("forecaster", exported(forecaster), [(DEFAULT, {"x": floats(123, 2, 10, 4)})]),
        Kind("causal", exported(causal), [(DEFAULT, {"x": floats(124, 2, 24, 2)})]),
        Kind("raw_audio", exported(raw_audio), [(DEFAULT, {"samples": floats(125, 2, 256, 1)})], plain=True),
        Kind("spectrogram", write_spectrogram, [(DEFAULT, {"samples": floats(126, 2, 512)})]),
        Kind("filters", write_filters, [(DEFAULT, {"x": floats(127, 2, 32)})], shares={DEFAULT: 0.5}),
        Kind("video", exported(video), [(DEFAULT, {"clip": floats(128, 2, 6, 12, 12, 2)})], plain=True),
    ]


KINDS = _kinds()
