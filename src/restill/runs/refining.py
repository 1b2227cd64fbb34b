"""The stage `refined`: the teacher learns the noise levels below that of the measurements, in rounds.

Each round draws posterior samples of the measurements with the teacher as it is (`round-1/pool`), and trains its lower
part on them. The rounds end when the proximal distance of what the teacher draws stops falling; the best one is kept.
"""

from __future__ import annotations

from typing import Any

import torch

from ..checkpoint import load_network, load_network_config, save_network
from ..core.errors import UserError
from ..core.files import remove, write_json
from ..core.progress import progress_bar
from ..core.reading import read_json, understood
from ..core.tensors import mix_seed
from ..diffusion import Denoiser, NetworkDenoiser
from ..generator import Generator
from ..metrics import Estimate, Proximal, pixels_of
from ..restoration.posterior_pool import check_white, write_posterior_samples
from ..store import open_store
from ..training import Batches, Pool, TeacherTraining
from .counters import load_counters
from .folder import Run
from .phases import finished, train_stage
from .provenance import begin, complete
from .subjects import handed_over, loaded, sampler_of

STAGE = "refined"


def refine(run: Run) -> None:
    """Refine the run's teacher as the recipe's section `refine` says, or continue, or find it done.

    Raises:
        UserError: no teacher yet, or measurements without noise, or whose noise is not white as they are stored.
    """
    if not run.recipe.refine.rounds:
        return
    if not run.trained("teacher"):
        raise UserError(f"{run.path}: has no trained teacher yet; run `restill pretrain` first")
    begin(run, STAGE)
    if not run.trained(STAGE):
        _Rounds(run).all()
    complete(run, STAGE)


def check_refinement(run: Run) -> None:
    """Raises UserError where a recipe asks for refinement of measurements that do not allow it."""
    if not run.recipe.refine.rounds:
        return
    store = open_store(run.store, verify=False)
    if store.corruption.sigma_max == 0:
        raise UserError("refine.rounds: must be 0, for the measurements have no noise and no levels lie below it")
    for batch in store.iterate(2):
        check_white(batch)
        return


class _Rounds:
    """The rounds of one run; each is a folder whose network says that it is done."""

    def __init__(self, run: Run) -> None:
        self.run, self.recipe, self.settings = run, run.recipe, run.recipe.refine
        self.store = open_store(run.store)
        check_refinement(run)
        self.teacher, self.config = loaded(run, "teacher"), load_network_config(run.stage("teacher"))
        pixels = pixels_of(self.config.grid, self.config.complex_values)
        self.proximal = Proximal(self.store, pixels, self.store.bounds)

    def all(self) -> None:
        best: tuple[float, str] | None = None
        low: NetworkDenoiser = self.teacher
        for number in range(self.settings.rounds):
            stage = f"{STAGE}/round-{number + 1}"
            if not finished(self.run, stage):
                self._train(stage, number, low)
            low = loaded(self.run, stage)
            found = self._distance(stage, low)
            if best is not None and found >= best[0]:
                break
            best = (found, stage)
        assert best is not None  # there is at least one round
        network, config = load_network(self.run.stage(best[1]))
        save_network(self.run.stage(STAGE), network, config)

    def _train(self, stage: str, number: int, low: NetworkDenoiser) -> None:
        """One round: a pool of posterior samples, and a training of the lower part, which starts from the last one."""
        recipe, settings, seed = self.recipe, self.settings, mix_seed("refine", self.recipe.seed, number)
        pool, device = self.run.stage(stage) / "pool", recipe.execution.place()
        if not pool.exists():
            denoiser = self.teacher if number == 0 else handed_over(self.run, self.teacher, low)
            spread = settings.spread_of(number)
            drawn = {"draws": settings.draws, "spread": spread, "seed": seed, "batch_size": recipe.sampling.batch_size}
            write_posterior_samples(denoiser, self.store, settings.reverse, pool, **drawn)  # type: ignore[arg-type]
        before = "teacher" if number == 0 else f"{STAGE}/round-{number}"
        learning = recipe.execution.prepared(load_network(self.run.stage(before))[0]).requires_grad_(True)
        size = settings.batch_size
        below = settings.below(self.store.corruption.sigma_max)
        training = TeacherTraining(
            learning,
            Batches(self.store, size, seed, device),
            self.store.corruption,
            settings.as_teacher(recipe.teacher),
            recipe.objective,
            seed,
            pool=Pool(open_store(pool), size, below, seed, device),
        )
        recipe.execution.compiled(learning)
        train_stage(self.run, stage, training)
        config = self.config.model_copy(update={"images_seen": self.config.images_seen + training.images_seen})
        save_network(self.run.stage(stage), training.ema.module, config)
        remove(pool)  # it is as large as the store, and drawn again from the networks if it is needed

    def _distance(self, stage: str, low: Denoiser) -> float:
        """Proximal Fréchet distance of what the teacher draws after a round; measured once."""
        path = self.run.stage(stage) / "proximal.json"
        if path.exists():
            with understood(path, "a proximal distance"):
                return float(read_json(path)["proximal_frechet"])
        found = self._measured(stage, handed_over(self.run, self.teacher, low))
        row: dict[str, Any] = {"proximal_frechet": found.value, "proximal_frechet_std": found.std}
        step = load_counters(self.run.state(stage)).steps
        self.run.append_log({"stage": stage, "step": step, **row})
        write_json(path, row)
        return found.value

    def _measured(self, stage: str, denoiser: Denoiser) -> Estimate:
        section, n = self.recipe.sampling, self.recipe.student.select_samples
        sampler = sampler_of("teacher-refined", self.recipe, self.config)
        generator = Generator(denoiser, self.config, sampler, section.batch_size)
        images, seed = [], mix_seed("selection", self.recipe.seed)
        with progress_bar(f"{stage:17}", n) as advance:
            for batch in generator.draw(range(n), seed):
                images.append(batch)
                advance(done=len(batch))
        return self.proximal(torch.cat(images), seed)
