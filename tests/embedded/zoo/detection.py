"""Networks whose ends choose: boxes, key points, segments, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.kind import DEFAULT, OPTIMIZED, Kind, floats, save, served, spec, strings, text, weight

PIXELS = spec(None, 16, 16, 3)
CLASSES = 3
NAMES = ("ant", "bee", "cat")


def _module() -> Any:
    module = tf.Module()
    module.kernel, module.deep = weight(171, 3, 3, 3, 12), weight(172, 3, 3, 12, 12)
    module.boxes, module.scores = weight(173, 1, 1, 12, 4), weight(174, 1, 1, 12, CLASSES)
    module.head, module.bias = weight(175, 12, CLASSES), tf.Variable(floats(176, CLASSES))
    return module


def _seen(module: Any, pixels: tf.Tensor) -> tf.Tensor:
    seen = tf.nn.relu(tf.nn.conv2d(pixels, module.kernel, 2, "SAME"))
    return tf.nn.relu(tf.nn.conv2d(seen, module.deep, 2, "SAME"))


def _candidates(module: Any, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes (rows, 16, 4) around a grid of anchors, and their scores (rows, 16, classes)."""
    seen = _seen(module, pixels)
    place = tf.range(4, dtype=tf.float32) / 4.0 + 0.125
    anchors = tf.reshape(tf.stack(tf.meshgrid(place, place, indexing="ij"), -1), [1, 16, 2])
    offsets = tf.reshape(tf.nn.conv2d(seen, module.boxes, 1, "SAME"), [-1, 16, 4])
    centers, sizes = anchors + offsets[..., :2] * 0.1, tf.exp(offsets[..., 2:] * 0.2) * 0.3
    boxes = tf.concat([centers - sizes / 2.0, centers + sizes / 2.0], 2)
    scores = tf.sigmoid(tf.reshape(tf.nn.conv2d(seen, module.scores, 1, "SAME"), [-1, 16, CLASSES]))
    return boxes, scores


def write_combined(folder: Path) -> None:
    """Ends in combined non-maximum suppression."""
    module = _module()

    def serve(pixels: tf.Tensor) -> Any:
        boxes, scores = _candidates(module, pixels)
        kept = tf.image.combined_non_max_suppression(boxes[:, :, None], scores, 5, 10, 0.4, 0.3)
        return {"boxes": kept[0], "scores": kept[1], "classes": kept[2], "count": kept[3]}

    save(folder, module, serving_default=served(serve, pixels=PIXELS))


def write_padded(folder: Path) -> None:
    """Ends in padded non-maximum suppression, of the first image and of all."""
    module = _module()

    def chosen(pixels: tf.Tensor) -> Any:
        boxes, scores = _candidates(module, pixels)
        best = tf.reduce_max(scores, 2)
        at, count = tf.image.non_max_suppression_padded(
            boxes, best, 6, 0.4, 0.2, pad_to_max_output_size=True, sorted_input=False
        )
        return {"at": at, "count": count, "boxes": tf.gather(boxes, at, batch_dims=1)}

    def first(pixels: tf.Tensor) -> Any:
        boxes, scores = _candidates(module, pixels)
        best = tf.reduce_max(scores, 2)
        at = tf.image.non_max_suppression(boxes[0], best[0], 4, 0.4, 0.2)
        return {"boxes": tf.gather(boxes[0], at), "scores": tf.gather(best[0], at)}

    save(folder, module, serving_default=served(chosen, pixels=PIXELS), first=served(first, pixels=PIXELS))


def write_ragged(folder: Path) -> None:
    """As many boxes for each image as are sure: their values and the number for each row."""
    module = _module()

    def serve(pixels: tf.Tensor) -> Any:
        boxes, scores = _candidates(module, pixels)
        best = tf.reduce_max(scores, 2)
        sure = best > 0.55
        kept = tf.ragged.boolean_mask(boxes, sure)
        return {
            "boxes": kept.values,
            "rows": kept.row_lengths(),
            "where": tf.where(sure),
            "scores": tf.boolean_mask(best, sure),
        }

    save(folder, module, serving_default=served(serve, pixels=PIXELS))


def write_named(folder: Path) -> None:
    """Class names tiled for each row, the best one's name, and the request's key handed through."""
    module = _module()

    def serve(pixels: tf.Tensor, key: tf.Tensor) -> Any:
        scores = tf.nn.softmax(tf.reduce_mean(_seen(module, pixels), [1, 2]) @ module.head + module.bias)
        names = tf.tile(tf.constant(NAMES)[None], [tf.shape(scores)[0], 1])
        best = tf.math.top_k(scores, 2)
        return {
            "classes": names,
            "scores": scores,
            "best": tf.gather(names, best.indices, batch_dims=1),
            "key": key,
        }

    save(folder, module, serving_default=served(serve, pixels=PIXELS, key=text()))


def write_keypoints(folder: Path) -> None:
    """The place of each heat map's maximum, by floor and remainder, with a shift by the neighbours' sign."""
    module = _module()

    def serve(pixels: tf.Tensor) -> Any:
        heat = tf.image.resize(tf.nn.conv2d(_seen(module, pixels), module.scores, 1, "SAME"), [8, 8])
        flat = tf.reshape(heat, [-1, 64, CLASSES])
        at = tf.argmax(flat, 1, tf.int32)
        row, column = tf.floor(tf.cast(at, tf.float32) / 8.0), tf.cast(at % 8, tf.float32)
        place = (tf.stack([row, column], 2) + 0.5) / 8.0
        return {
            "place": place,
            "pixel": tf.cast(tf.floor(place * 16.0), tf.int32),
            "score": tf.reduce_max(flat, 1),
        }

    save(folder, module, serving_default=served(serve, pixels=PIXELS))


def write_segments(folder: Path) -> None:
    """The class of every pixel, and how many pixels each class has."""
    module = _module()

    def serve(pixels: tf.Tensor) -> Any:
        small = tf.nn.conv2d(_seen(module, pixels), module.scores, 1, "SAME") + module.bias
        scores = tf.compat.v1.image.resize_bilinear(small, [16, 16], align_corners=True)
        classes = tf.argmax(scores, 3)
        counts = tf.reduce_sum(tf.one_hot(classes, CLASSES, dtype=tf.int32), [1, 2])
        return {"classes": tf.cast(classes, tf.uint8), "counts": counts, "sure": tf.reduce_max(scores, 3)}

    save(folder, module, serving_default=served(serve, pixels=PIXELS))


def write_centers(folder: Path) -> None:
    """The peaks of a heat map, the best of all classes, and what lies at their places."""
    module = _module()

    def serve(pixels: tf.Tensor) -> Any:
        seen = _seen(module, pixels)
        heat = tf.sigmoid(tf.nn.conv2d(seen, module.scores, 1, "SAME"))
        peaks = heat * tf.cast(tf.equal(tf.nn.max_pool2d(heat, 3, 1, "SAME"), heat), tf.float32)
        scores, at = tf.math.top_k(tf.reshape(peaks, [-1, 16 * CLASSES]), 2)
        sizes = tf.reshape(tf.nn.conv2d(seen, module.boxes, 1, "SAME"), [-1, 16, 4])
        return {
            "scores": scores,
            "classes": at % CLASSES,
            "sizes": tf.gather(sizes, at // CLASSES, batch_dims=1),
        }

    save(folder, module, serving_default=served(serve, pixels=PIXELS))


def _kinds() -> list[Kind]:
    pixels = {"pixels": floats(181, 2, 16, 16, 3)}
    single = {"pixels": floats(182, 1, 16, 16, 3)}
    keyed = {**pixels, "key": strings(b"one", b"\xff\x00")}
    both = [(DEFAULT, pixels), (DEFAULT, single)]
    return [
        Kind("combined_nms", write_combined, both, chooses=True),
        Kind(
            "padded_nms",
            write_padded,
            [*both, ("first", single)],
            shares={DEFAULT: OPTIMIZED, "first": OPTIMIZED},
            chooses=True,
        ),
        Kind("ragged_boxes", write_ragged, both, chooses=True),
        Kind("class_names", write_named, [(DEFAULT, keyed)], chooses=True),
        Kind("keypoints", write_keypoints, both, chooses=True),
        Kind("segments", write_segments, both, chooses=True),
        Kind(
            "centers", write_centers, [*both, (DEFAULT, {"pixels": floats(183, 3, 16, 16, 3)})], chooses=True
        ),
    ]


KINDS = _kinds()
