"""From a real video to PP-TSM's scores, against those of the original PaddleVideo."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from paddle_fill import fill

from networks.deployable import Deployable
from networks.loading import build_network
from preprocess.datasets.annotations import Annotation
from preprocess.tensors.samples import make_sample, open_source
from vidom.formats.recipe import load_recipe

TOLERANCE = 5e-6
SIXTEEN = ("views.num_segments=16", "network.backbone_segments=16")
WITH_ALL = pytest.mark.skipif(
    "VIDOM_ALL_TRUTHS" not in os.environ, reason="slow; runs with VIDOM_ALL_TRUTHS=1"
)
SOURCES = {"videos": ("example.avi", None), "frames": ("rawframes/example", 131)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "recipe_name", "overrides"),
    [
        ("videos_uniform_400", "pptsm_k400_uniform", ()),
        ("frames_uniform_66", "pptsm_ucf101_66", ()),
        pytest.param("videos_uniform_16f_400", "pptsm_k400_uniform", SIXTEEN, marks=pytest.mark.slow),
        pytest.param("frames_uniform_400", "pptsm_k400_uniform", (), marks=WITH_ALL),
        pytest.param("videos_uniform_66", "pptsm_ucf101_66", (), marks=WITH_ALL),
        pytest.param("frames_dense_400", "pptsm_k400_dense", (), marks=WITH_ALL),
        pytest.param("frames_dense_66", "pptsm_k400_dense", ("dataset.num_classes=66",), marks=WITH_ALL),
    ],
)
def test_scores_of_a_real_video_equal_the_originals(
    fixtures: Path, shared: Path, name: str, recipe_name: str, overrides: tuple[str, ...]
) -> None:
    recipe = load_recipe(recipe_name, overrides)
    file, count = SOURCES[name.split("_", maxsplit=1)[0]]
    annotation = Annotation("example", file, count, 0)
    source = open_source(annotation, data_root=shared / "data" / "paddle", pipeline=recipe.views.pipeline)
    sample = torch.from_numpy(make_sample(source, recipe.views).tensor)
    network = build_network(recipe.network.arch, recipe.network_arguments)
    fill(network, damped=True)
    with torch.inference_mode():
        # Clips are independent; one at a time they need a tenth of the memory.
        clips = [network(clip[None]) for clip in sample.split(recipe.views.num_segments)]
    logits = torch.cat(clips)
    assert logits.shape == (recipe.views.clips, recipe.dataset.num_classes)
    with np.load(fixtures / "paddle" / "e2e_example.npz") as truth:
        expected, softmax = truth[f"{name}/logits"], truth[f"{name}/softmax"]
        top5 = json.loads(str(truth["info_json"]))[name]["top5"]
    # The original's head averages the features of all frames; its classifier is linear.
    mean = logits.mean(dim=0)
    np.testing.assert_allclose(mean, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())
    assert mean.topk(5).indices.tolist() == top5
    (scores,) = Deployable(network, recipe).average(logits)
    np.testing.assert_allclose(scores, softmax, rtol=0, atol=TOLERANCE)
