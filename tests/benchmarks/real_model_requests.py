"""Requests for the models of real_models.py: sounds, source code and pileups, made up from fixed seeds.

Each function returns predict bodies in row form, each with one instance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Body = Mapping[str, Any]
Floats = NDArray[np.float64]

AUDIO_RATE = 22050
"""Samples per second that basic-pitch takes."""
AUDIO_SAMPLES = 43844
"""Of one window: two seconds, less one hop of 256."""
AUDIO_DIGITS = 6
"""More than 16-bit audio has."""

COLUMNS = 1000
"""Positions of one pileup that medaka takes."""
BASES = 4
STRANDS = 2
GAP = 4
"""A deletion, after the four bases."""
READ_ERRORS = 0.04
"""The part of bases that are read wrongly."""
INSERTIONS = 0.1
"""The part of columns that are insertions, where few reads have a base."""


def sounds() -> list[Body]:
    """Windows of audio for basic-pitch: [43844, 1] numbers from -1 to 1."""
    return [_instance(np.round(wave, AUDIO_DIGITS)[:, None].tolist()) for wave in _waves()]


def _waves() -> list[Floats]:
    random = np.random.default_rng(1)
    seconds = np.arange(AUDIO_SAMPLES) / AUDIO_RATE
    tones = [_note(hertz, seconds) for hertz in (55.0, 220.0, 440.0, 1046.5, 3520.0)]
    chord = np.sum([_note(hertz, seconds) for hertz in (261.6, 329.6, 392.0)], axis=0) / 3
    melody = np.concatenate(
        [
            _note(hertz, part)
            for hertz, part in zip((196.0, 246.9, 293.7, 392.0), np.array_split(seconds, 4), strict=True)
        ]
    )
    clicks = np.zeros(AUDIO_SAMPLES)
    clicks[::4410] = 0.9
    return [
        *(0.5 * tone for tone in tones),
        0.8 * chord,
        0.6 * melody,
        0.5 * np.sin(2 * np.pi * (100 * seconds + 950 * seconds**2)),  # rises from 100 to 4,000 Hz
        np.clip(3 * chord, -1, 1),
        0.001 * tones[2],
        0.4 * tones[1] * np.exp(-3 * seconds) + 0.01 * random.standard_normal(AUDIO_SAMPLES),
        np.clip(0.3 * random.standard_normal(AUDIO_SAMPLES), -1, 1),
        0.0001 * random.standard_normal(AUDIO_SAMPLES),
        clicks,
        np.full(AUDIO_SAMPLES, 0.25),
        np.zeros(AUDIO_SAMPLES),
    ]


def _note(hertz: float, seconds: Floats) -> Floats:
    """A tone with overtones, at most 1."""
    loudness = 0.5 ** np.arange(4)
    waves = np.sin(2 * np.pi * hertz * np.outer(np.arange(1, 5), seconds))
    mixed: Floats = loudness @ waves / loudness.sum()
    return mixed


def source_code() -> list[Body]:
    """Texts for guesslang's default signature."""
    return [_instance(text) for text in CODE]


def source_code_for_predict() -> list[Body]:
    """The same for its signature `predict`, which has other outputs."""
    return [{"signature_name": "predict", **body} for body in source_code()]


def pileups() -> list[Body]:
    """Counts of reads for medaka: [1000, 10], the four bases of both strands, then both their deletions."""
    random = np.random.default_rng(2)
    depths = (1, 2, 5, 10, 20, 30, 40, 60, 80, 120, 200, 500)
    made = [_pileup(depth, random) for depth in depths]
    uncovered = _pileup(30, random)
    uncovered[300:600] = 0  # no read covers these
    made += [uncovered, np.zeros((COLUMNS, STRANDS * (BASES + 1)))]
    return [_instance(np.round(pileup, 5).tolist()) for pileup in made]


def _pileup(depth: int, random: np.random.Generator) -> Floats:
    """Counts as parts of all reads at a position, of which there are about `depth`."""
    chances = np.full((COLUMNS, BASES + 1), READ_ERRORS / BASES)
    truth = random.integers(0, BASES, COLUMNS)
    truth[random.random(COLUMNS) < INSERTIONS] = GAP
    chances[np.arange(COLUMNS), truth] = 1 - READ_ERRORS
    reads = np.maximum(random.poisson(depth / STRANDS, (STRANDS, COLUMNS)), 1)
    strands = [random.multinomial(strand, chances) for strand in reads]
    counts = np.concatenate([one[:, :GAP] for one in strands] + [one[:, GAP:] for one in strands], axis=1)
    parts: Floats = counts / reads.sum(axis=0)[:, None]
    return parts


def _instance(value: object) -> dict[str, Any]:
    return {"instances": [value]}


CODE = (
    """
def mean(values):
    '''The mean.'''
    return sum(values) / len(values)


if __name__ == "__main__":
    print(mean([1, 2, 3]))
""",
    """
import csv

with open("x.csv") as file:
    for row in csv.reader(file):
        print(row[0].strip())
""",
    """
#include <stdio.h>

int main(void) {
    for (int i = 0; i < 10; i++) printf("%d", i);
    return 0;
}
""",
    """
#include <vector>
template <typename T> T sum(const std::vector<T>& values) {
    T total{};
    for (auto& value : values) total += value;
    return total;
}
""",
    """
package main

import "fmt"

func main() {
\tch := make(chan int)
\tgo func() { ch <- 1 }()
\tfmt.Println(<-ch)
}
""",
    """
use std::collections::HashMap;

fn main() {
    let mut counts: HashMap<&str, i32> = HashMap::new();
    *counts.entry("a").or_insert(0) += 1;
    println!("{:?}", counts);
}
""",
    """
public class Main {
    public static void main(String[] args) {
        System.out.println(args.length);
    }
}
""",
    """
const add = (a, b) => a + b;
async function load(url) {
  const response = await fetch(url);
  return response.json();
}
""",
    """
SELECT name, COUNT(*) FROM users u JOIN orders o ON o.user_id = u.id
WHERE o.total > 10 GROUP BY name;
""",
    """
<!DOCTYPE html>
<html>
<head><title>Title</title></head>
<body><p class='a'>Text</p></body>
</html>
""",
    """
#!/bin/sh
set -eu
for file in *.txt; do
    echo "$file" | sed 's/txt$/md/'
done
""",
    """
FROM debian:stable
RUN apt-get update && apt-get install -y curl
COPY . /app
CMD ["/app/run"]
""",
    """
name: build
on: [push]
jobs:
  test:
    runs-on: ubuntu-latest
    steps:
      - run: make test
""",
    """
main :: IO ()
main = mapM_ print (takeWhile (< 100) primes)
  where primes = sieve [2..]
        sieve (p:xs) = p : sieve [x | x <- xs, x `mod` p /= 0]
""",
    "# \u65e5\u672c\u8a9e, na\u00efve, \U0001f642\nprint('\u00e9t\u00e9')\n",
    "x\n",
    '{"name": "model", "version": [1, 2, 3], "nested": {"a": null, "b": true}}\n',
    """
function y = f(x)
  y = zeros(size(x));
  for k = 1:numel(x)
    y(k) = x(k)^2;
  end
end
"""
    * 40,
)
"""Short ones and a long one, in many languages."""

REQUESTS: Mapping[str, Mapping[str, Callable[[], list[Body]]]] = {
    "basic-pitch": {"serving_default": sounds},
    "guesslang": {"serving_default": source_code, "predict": source_code_for_predict},
    "medaka": {"serving_default": pileups},
}
"""Model -> signature -> its requests."""
