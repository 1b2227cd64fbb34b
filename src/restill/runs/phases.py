"""The two trainings as stages of a run: checkpoints, log, model selection, interruption."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..checkpoint import load_network, load_state, save_network, save_state
from ..core.errors import NonFiniteError, UserError, warn_of
from ..core.progress import progress_bar
from ..core.reading import understood
from ..metrics import Proximal, pixels_of
from ..selection.best import BestStudent
from ..selection.snapshots import Snapshots
from ..store import Store, open_store
from ..training import Batches, Distillation, Progress, TeacherTraining, Training, opponents_of
from ..training import run as training_loop
from .counters import load_counters
from .folder import Run
from .objects import fresh_denoiser, network_config
from .provenance import begin, complete, put_aside

_EXPLAIN = {  # what the notes of the progress display mean
    "teacher": "phase I: the loss levels off at a value set by the noise; its absolute value has no meaning, but its "
    "initial fall shows that the teacher learns.",
    "refined": "the teacher below the noise of the measurements: the loss levels off, its value has no meaning.",
    "baseline": "a diffusion model of the L1-wavelet reconstructions, for comparison with the student.",
    "student": "phase II: the score gap is the distance between the fake score of the generated images and the "
    "teacher's score, and falls towards 0 as the student matches; the proximal Fréchet distance compares re-corrupted "
    "student images with the measurements: lower is better, and it needs no clean image; the loss is negative when "
    "it works.",
}


def pretrain(run: Run) -> None:
    """Phase I: train the teacher on the run's store, or continue, or find it done."""
    begin(run, "teacher")
    if not run.trained("teacher"):
        train_denoiser(run, "teacher", open_store(run.store))
    complete(run, "teacher")


def train_denoiser(run: Run, stage: str, store: Store) -> None:
    """Train a diffusion model of the measurements of `store` with the settings of the recipe's teacher, or continue."""
    recipe, device = run.recipe, run.recipe.execution.place()
    config = network_config(recipe, store)
    denoiser = recipe.execution.prepared(fresh_denoiser(config, recipe.seed))
    batches = Batches(store, recipe.teacher.batch_size, recipe.seed, device)
    training = TeacherTraining(denoiser, batches, store.corruption, recipe.teacher, recipe.objective, recipe.seed)
    recipe.execution.compiled(denoiser)
    train_stage(run, stage, training)
    config = config.model_copy(update={"images_seen": training.images_seen})
    save_network(run.stage(stage), training.ema.module, config)


def distill(run: Run) -> None:
    """Phase II: distil the student from the run's teacher, or continue, or find it done.

    The store is opened for the moments of the measurements, which the proximal distance needs, and for players that
    ask for measurements.
    """
    if not run.trained("teacher") and not finished(run, "student"):
        raise UserError(f"{run.path}: has no trained teacher yet; run `restill pretrain` first")
    begin(run, "student")
    if not finished(run, "student"):
        _distill(run)
    complete(run, "student")


def _distill(run: Run) -> None:
    recipe, store = run.recipe, open_store(run.store)
    device = recipe.execution.place()
    teacher, config = load_network(run.stage("teacher"))
    if config.class_counts is None and config.num_classes == store.num_classes > 0:  # an older folder lacks them
        config = config.model_copy(update={"class_counts": store.class_counts})
    asked_for = any(opponent.needs_measurements for opponent in opponents_of(recipe.student))
    training = Distillation(
        recipe.execution.prepared(teacher),
        store.corruption,
        config.grid,
        recipe.student,
        recipe.objective,
        recipe.seed,
        device,
        batches=Batches(store, recipe.student.batch_size, recipe.seed, device) if asked_for else None,
        classes=config.drawn_classes,
    )
    del teacher  # the training has a copy
    for module in (training.teacher, *(player.module for player in training.players.values())):
        recipe.execution.compiled(module)
    snapshots = Snapshots(run.snapshots, training)
    selection = BestStudent(
        run.stage("student"),
        training,
        config.model_copy(update={"role": "student", "init_sigma": recipe.student.init_sigma}),
        Proximal(store, pixels_of(config.grid, config.complex_values)),
        seed=recipe.seed,
        batch_size=recipe.sampling.batch_size,
        log=run.append_log,
    )

    def after_step(progress: Progress, best: dict[str, Any]) -> dict[str, Any]:
        snapshots(progress)
        return selection(progress, best)

    _put_aside_without_its_best(run)
    train_stage(run, "student", training, after_step, selection.again)


def _put_aside_without_its_best(run: Run) -> None:
    """Where the network that was kept is gone, and the state is of a later step, only a new distillation makes it."""
    if run.trained("student") or not run.state("student").exists():
        return
    counters = load_counters(run.state("student"))
    if counters.best and counters.best["step"] != counters.step:
        lost = run.stage("student") / "model.safetensors"
        warn_of(
            f"{lost}: the student of step {counters.best['step']} was kept in it and is gone; it is distilled again"
        )
        put_aside(run, "student")
        begin(run, "student")


def finished(run: Run, stage: str) -> bool:
    """Whether a stage is complete: its network is there, and its state is at the last step."""
    state = run.state(stage)
    if not run.trained(stage) or not state.exists():
        return False
    counters = load_counters(state)
    return counters.step >= counters.steps


def train_stage(
    run: Run,
    stage: str,
    training: Training,
    after_step: Callable[[Progress, dict[str, Any]], dict[str, Any]] | None = None,
    restored: Callable[[dict[str, Any]], None] | None = None,
) -> None:
    """Advance a training to its end with log rows, checkpoints and a progress bar."""
    execution, path = run.recipe.execution, run.state(stage)
    best = _restore(run, stage, training)
    if restored is not None:
        restored(best)
    saved_at = time.monotonic()

    def save() -> None:
        save_state(path, training.state(), {"step": training.step, "steps": training.steps, "best": best})

    if not path.exists():
        save()
    total, seen = training.steps * training.batch_size, training.images_seen
    bar = progress_bar(f"{stage:8}", total, done=seen, explain=_EXPLAIN[stage.partition("/")[0]])
    with interruptible() as stop, bar as advance:
        try:
            for progress in training_loop(training, execution.log_every):
                advance(done=training.batch_size)
                if after_step is not None:
                    best = after_step(progress, best)
                if progress.row is not None:
                    run.append_log({"stage": stage, "step": progress.step, "images": progress.images, **progress.row})
                    advance(note=_note(progress.row, best))
                if stop.is_set() or time.monotonic() - saved_at > execution.checkpoint_every_s:
                    training.guard.check()
                    save()
                    saved_at = time.monotonic()
                if stop.is_set():
                    raise KeyboardInterrupt
            save()
        except NonFiniteError as error:
            if training.guard.immediate:  # the weights are still those of before the step
                save()
            raise NonFiniteError(
                f"{stage}: {error}; {path} holds step {load_counters(path).step}. Lower the learning rate or set "
                "grad_clip in a new run, or continue this one with --precision fp32"
            ) from error


def _restore(run: Run, stage: str, training: Training) -> dict[str, Any]:
    """Continue from the stage's state if there is one; returns the best so far."""
    path = run.state(stage)
    if not path.exists():
        return {}
    counters, (tensors, _) = load_counters(path), load_state(path)
    try:
        with understood(path, "a state of this training"):
            training.restore(tensors, counters.step)
    except UserError as error:
        raise UserError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    run.forget_log(stage, training.step)
    return counters.best


def _note(row: dict[str, float], best: dict[str, Any]) -> str:
    if "score_gap" not in row:
        return f"loss {row['loss']:.3f}"
    note = f"score gap {row['score_gap']:.3g}"
    return f"{note}, best proximal Fréchet {best['proximal_frechet']:.3g}" if best else note


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C (or SIGTERM) into an event, looked at between steps; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if stop.is_set():  # it came after the last look
        raise KeyboardInterrupt
