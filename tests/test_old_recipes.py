"""Recipes as earlier versions saved them in runs are still read, and such runs continue."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from restill.core.errors import UserError
from restill.objectives import DMD, SDS, SiD
from restill.runs import amended, working_on
from restill.runs.recipe_files import load_recipe

SAVED = """\
name: brain-mri-tiny
description: 'Undersampled k-space of four coils at 32x32, in about 6 minutes: random
  head phantoms, or your own magnitude images with --set data.source=PATH.'
seed: 0
data:
  source: x.npy
  content: clean
  resize: 32
  sigma_unit: data
  masks: null
  image_size: null
  crop: null
  coils: null
  maps: null
  reference: null
corruption:
  kind: mri
  acceleration: 4
  acs: 4
  coils: 4
network:
  architecture: ddpmpp
  model_channels: 24
  channel_mult:
  - 1
  - 2
  - 2
  num_blocks: 1
  attn_resolutions:
  - 8
  dropout: 0.0
  class_conditional: false
  preconditioning: masked
  sigma_data: null
objective:
  kind: ambient-tweedie
  floor: truncate
  p_mean: -1.2
  p_std: 1.4
  c_min: 0.05
teacher:
  images: 16000
  batch_size: 8
  accumulate: 1
  adam:
    lr: 0.001
    beta1: 0.9
    beta2: 0.999
    warmup_images: 2000
    decay: cosine
    final: 0.0
    grad_clip: null
  ema:
    halflife_images: 4000.0
    rampup: 0.05
  augment: 0.0
  consistency:
    weight: 0.0
    ends: 2
    steps: 2
student:
  loss: sid
  alpha: 1.0
  init_sigma: 0.6
  tmax: 600
  images: 8000
  batch_size: 16
  accumulate: 1
  generator:
    lr: 0.00014
    beta1: 0.9
    beta2: 0.999
    warmup_images: 0
    decay: cosine
    final: 0.0
    grad_clip: null
  fake:
    lr: 0.0005
    beta1: 0.0
    beta2: 0.999
    warmup_images: 0
    decay: cosine
    final: 0.0
    grad_clip: null
  loss_scale: 100.0
  share_samples: true
  fake_steps: 1
  ema:
    halflife_images: 1500.0
    rampup: 0.05
  select_every: 4000
  select_samples: 1000
  snapshots: 16
baselines:
  l1_wavelet: true
  l1_edm: false
  iterations: 100
  weight: null
  wavelet: db4
sampling:
  num_steps: 18
  batch_size: 256
  show: 64
evaluation:
  samples: 1200
  seeds:
  - 0
  classifier: true
  metrics:
  - frechet
  - kid
  - precision
  - recall
  - density
  - coverage
  - inception-score
  - psnr
  - ssim
  features: []
  checks: true
execution:
  device: auto
  precision: bf16
  channels_last: true
  compile: false
  checkpoint_every_s: 60.0
  log_every: 50
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of an earlier version whose teacher has begun, so that most of its recipe is fixed."""
    path = tmp_path / "run"
    (path / "teacher").mkdir(parents=True)
    (path / "teacher" / "state.safetensors").touch()
    (path / "recipe.yaml").write_text(SAVED)
    return path


def test_a_saved_recipe_is_that_which_ships(run: Path) -> None:
    saved, shipped = amended(run), load_recipe("brain-mri-tiny", ["data.source=x.npy"])
    assert saved == shipped and saved.differences(shipped) == []
    assert saved.student.loss == SiD(alpha=1.0) and saved.network.kind == "ddpmpp"


def test_its_run_continues_and_is_saved_as_recipes_are_now(run: Path) -> None:
    with working_on(run, load_recipe("brain-mri-tiny", ["data.source=x.npy"])):
        pass
    data, before = yaml.safe_load((run / "recipe.yaml").read_text()), yaml.safe_load(SAVED)
    assert data["student"].pop("loss") == {"kind": "sid", "alpha": 1.0}
    assert data["student"].pop("opponents") == ["fake"]  # a key since then
    assert (before["student"].pop("loss"), before["student"].pop("alpha")) == ("sid", 1.0)
    assert data.pop("refine")["rounds"] == 0  # a section since then
    assert data.pop("plugins") == [] and data["sampling"].pop("sampler") == "heun"
    data["data"] = {key: value for key, value in data["data"].items() if key in before["data"]}  # some keys are new
    assert data == before  # nothing else is written differently
    with pytest.raises(UserError, match=r"another recipe \(teacher.batch_size is 8 there and 9 here\)"):  # noqa: SIM117
        with working_on(run, load_recipe("brain-mri-tiny", ["data.source=x.npy", "teacher.batch_size=9"])):
            pass


@pytest.mark.parametrize(
    ("override", "loss"),
    [("student.alpha=1.2", SiD(alpha=1.2)), ("student.loss=dmd", DMD()), ("student.loss=sds", SDS())],
)
def test_keys_that_moved_may_be_set(run: Path, override: str, loss: object) -> None:
    assert amended(run, [override]).student.loss == loss
    (run / "recipe.yaml").write_text(SAVED.replace("loss: sid", "loss: dmd"))
    assert amended(run).student.loss == DMD()
    assert amended(run, ["student.loss=sid"]).student.loss == SiD()
