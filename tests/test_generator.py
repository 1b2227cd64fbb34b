"""The deployer's two lines, and the names that `import restill` offers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import restill
from restill.checkpoint import NetworkConfig, load_network_config, save_network
from restill.diffusion import Prior

KWARGS = {"model_type": "SongUNet", "img_resolution": 8, "img_channels": 1, "model_channels": 8, "channel_mult": [1]}
KWARGS |= {"num_blocks": 1, "attn_resolutions": [], "sigma_data": 0.7}
CONFIG = NetworkConfig(
    role="student",
    cls="EDMPrecond",
    kwargs=KWARGS,
    shape=(1, 8, 8),
    sigma_data=0.7,
    num_classes=0,
    corruption=restill.AdditiveNoise(sigma_n=0.4).describe(),
    offset=8.0,
    scale=8.0,
    value_range=(0.0, 16.0),
    init_sigma=1.5,
)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_network(tmp_path / "student", CONFIG.build(), CONFIG)
    return tmp_path / "student"


def test_the_same_images_in_every_call(student: Path) -> None:
    generator = restill.load_generator(student)
    images = generator.sample(6, seed=3)
    assert images.shape == (6, 1, 8, 8) and images.dtype == torch.float32 and images.std() > 0.01
    torch.testing.assert_close(restill.load_generator(student).sample(2, seed=3, start=4, batch_size=1), images[4:])
    assert not torch.allclose(generator.sample(6, seed=4), images)
    torch.testing.assert_close(generator.to_physical(images), images * 8 + 8)


def test_it_is_the_network_at_init_sigma(student: Path) -> None:
    denoiser = restill.load_denoiser(student)
    latents = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = denoiser(latents * 1.5, torch.full((3,), 1.5))
    torch.testing.assert_close(restill.OneStep(init_sigma=1.5)(denoiser, latents), expected)
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())


def test_a_network_is_built_as_its_configuration_says() -> None:
    """Channels and grid of the images, deviation, classes, the spectrum, and what is known of missing pixels."""
    kwargs = {**KWARGS, "img_channels": 4, "label_dim": 3}
    changes = {"kwargs": kwargs, "shape": (2, 4, 4), "image_shape": (2, 8, 8), "num_classes": 3, "power": (4.0, 0.5)}
    config = CONFIG.model_copy(update={**changes, "preconditioning": "masked", "sigma_data": 0.8})
    built = config.build()
    assert (built.channels, built.sigma_data, built.num_classes, built.masked) == (2, 0.8, 3, True)
    torch.testing.assert_close(built.prior.variance.double(), Prior.stationary((4.0, 0.5), 8, 8).variance)
    plain = CONFIG.build()
    assert not plain.masked and plain.channels == 1
    assert float(plain.prior.variance) == pytest.approx(0.7**2)


def test_mistakes_are_named(student: Path, tmp_path: Path) -> None:
    with pytest.raises(restill.UserError, match="at least 1"):
        restill.load_generator(student).sample(0)
    with pytest.raises(restill.UserError, match="nowhere"):
        restill.load_generator(tmp_path / "nowhere")
    (student / "model.safetensors").unlink()
    with pytest.raises(restill.UserError, match=r"model\.safetensors"):
        restill.load_generator(student)


def test_every_public_name_is_there() -> None:
    for name in restill.__all__:
        assert getattr(restill, name) is not None
    assert set(restill.__all__) <= set(dir(restill))
    with pytest.raises(AttributeError, match="nonsense"):
        restill.nonsense  # noqa: B018


def test_a_configuration_is_checked_key_by_key(student: Path) -> None:
    path = student / "config.json"
    written = json.loads(path.read_text())
    for change, message in {
        '{"sigma_data": "much"}': "sigma_data: must be a number, not 'much'",
        '{"shape": 8}': "shape: must be a list, not 8",
        '{"sigma_dat": 1}': "unknown key sigma_dat: did you mean sigma_data?",
        '{"value_range": [0]}': "value_range[1]: is missing",
    }.items():
        path.write_text(json.dumps(written | json.loads(change)))
        with pytest.raises(restill.UserError, match=re.escape(f"{path}: is not a network configuration ({message}")):
            restill.load_denoiser(student)
    del written["cls"]
    path.write_text(json.dumps(written))
    with pytest.raises(restill.UserError, match=re.escape("(cls: is missing)")):
        restill.load_denoiser(student)
    path.write_text("[]")
    with pytest.raises(
        restill.UserError, match=re.escape(f"{path}: is not a network configuration (it holds no keys and values)")
    ):
        restill.load_denoiser(student)


def test_a_configuration_of_the_first_version_is_read(student: Path) -> None:
    """Keys that came later have defaults; lists are tuples, and come back as they were."""
    path = student / "config.json"
    written = json.loads(path.read_text())
    assert load_network_config(student) == CONFIG and isinstance(CONFIG.shape, tuple)
    later = ("ema_sigma_rel", "image_shape", "preconditioning", "complex_values", "power", "class_counts")
    path.write_text(json.dumps({key: value for key, value in written.items() if key not in later}))
    assert load_network_config(student) == CONFIG
