"""Every corruption of the list obeys the laws on which objectives, distillation and stores rely."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import Tensor

from operators_list import CASES, IDS, INSTANCES, Instance
from restill.core.errors import UserError
from restill.corruption import Chain, Corruption, Linear, Operator, PartlyClean, corruption_from, linear
from restill.corruption.traits import NoiseLevels, cleared

F64 = torch.float64
N = 12
Shape = tuple[int, int, int]
every = pytest.mark.parametrize(("instance", "shape"), CASES, ids=IDS)


def those(wanted: Callable[[Instance], bool]) -> pytest.MarkDecorator:
    """The cases of which `wanted` is true."""
    kept = [(case, name) for case, name in zip(CASES, IDS, strict=True) if wanted(case[0])]
    return pytest.mark.parametrize(("instance", "shape"), [case for case, _ in kept], ids=[name for _, name in kept])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, shape: tuple[int, ...], seed: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(n, *shape, generator=generator(seed), dtype=F64)


def close(a: Tensor, b: Tensor, precision: float = 1e-11) -> None:
    torch.testing.assert_close(a, b, rtol=precision, atol=precision * max(1.0, float(b.detach().abs().max())))


def drawn(instance: Instance, shape: Shape, n: int = N, seed: int = 0) -> Operator:
    return instance.law.draw(n, shape, generator(seed))


@every
def test_the_derivative_and_its_adjoint(instance: Instance, shape: Shape) -> None:
    operator = drawn(instance, shape)
    x, v = images(N, shape, 1, -0.9, 0.9).requires_grad_(), images(N, shape, 2)
    measured = operator.apply(x)
    w = images(N, tuple(measured.shape[1:]), 3, 0.5, 1)
    ahead, back = operator.jvp(x.detach(), v), operator.vjp(x.detach(), w)
    product = (ahead * w).sum()
    assert measured.dtype == ahead.dtype == F64 and product.abs() > 1e-3
    torch.testing.assert_close(product, (v * back).sum(), rtol=1e-11, atol=1e-11)
    close(torch.autograd.grad((measured * w).sum(), x)[0], back)
    if instance.linear:
        close(ahead, operator.apply(v))
        close(operator.apply(0.7 * x - 1.3 * v), 0.7 * measured - 1.3 * ahead)
        assert not isinstance(operator, Linear) or torch.equal(operator.adjoint(w), back)
        return
    step = 1e-3  # of central differences of a smooth curve that is tabulated
    upper, lower = (operator.apply(x.detach() + sign * step * v) for sign in (1, -1))
    difference = ((upper - lower) * w).flatten(1).sum(1) / (2 * step)
    torch.testing.assert_close((ahead * w).flatten(1).sum(1), difference, rtol=1e-3, atol=1e-3)
    doubled = operator.apply(0.5 * x) - 0.5 * measured  # an affine map would leave a constant
    assert doubled[doubled != 0].std() > 1e-3
    with pytest.raises(UserError, match="needs a linear operator"):
        linear(operator, "this")


@every
def test_same_seed_same_draw(instance: Instance, shape: Shape) -> None:
    first, again, other = (drawn(instance, shape, seed=seed).parameters() for seed in (3, 3, 4))
    for name, value in first.items():
        torch.testing.assert_close(value, again[name], rtol=0, atol=0)
        assert len(value) == N
        assert (not torch.equal(value, other[name])) == (name in instance.drawn), name
        assert (not all(torch.equal(value[0], row) for row in value)) == (name in instance.drawn), name
    assert set(instance.drawn) <= set(first)
    x, operator = images(N, shape, 5), drawn(instance, shape, seed=3)
    y, same, another = (instance.law.corrupt(x, operator, generator(seed)) for seed in (6, 6, 7))
    torch.testing.assert_close(y, same, rtol=0, atol=0)
    assert torch.equal(y, another) == (instance.law.sigma_max == 0)


@every
def test_shapes_are_those_announced(instance: Instance, shape: Shape) -> None:
    law, operator, x = instance.law, drawn(instance, shape), images(N, shape, 1)
    y = operator.apply(x)
    d = operator.to_domain(y)
    assert len(operator) == N and operator.sigma_n.shape == (N,)
    assert y.shape == (N, *law.shapes(shape).observation) == law.corrupt(x, operator, generator()).shape
    assert law.shapes(shape).white == operator.embed(d).shape[1:]
    assert d.shape == (N, *law.shapes(shape).domain) == operator.seen(d).shape
    assert operator.restrict(y).shape == y.shape
    assert operator.to_image(y).shape == operator.from_domain(d).shape == x.shape == operator.lift(d).shape
    assert operator.project(x).shape == d.shape
    condition, missing = operator.condition(), operator.missing(d)
    channels = law.shapes(shape).condition
    assert (condition is None) == (channels == 0)
    assert condition is None or condition.shape == (N, channels, *d.shape[2:])
    assert missing is None or (missing.dtype == torch.bool and missing.shape == d.shape)


@every
def test_dtype_follows_the_input(instance: Instance, shape: Shape) -> None:
    operator, x = drawn(instance, shape), images(N, shape, 1)
    y = operator.apply(x)
    for dtype, precision in ((torch.float32, 1e-4), (F64, 0)):
        measured = operator.apply(x.to(dtype))
        assert measured.dtype == dtype == operator.to_domain(measured).dtype == operator.to_image(measured).dtype
        assert instance.law.corrupt(x.to(dtype), operator, generator()).dtype == dtype
        close(measured.double(), y, precision)


@every
def test_seen_and_restrict_are_projections(instance: Instance, shape: Shape) -> None:
    operator, x = drawn(instance, shape), images(N, shape, 1)
    y = operator.apply(x)
    close(operator.restrict(y), y)
    d, other = operator.to_domain(y), images(N, instance.law.shapes(shape).domain, 2)
    if instance.projects:
        close(operator.seen(d), d, instance.precision)
        close(operator.seen(operator.seen(other)), operator.seen(other), instance.precision)
    close(operator.to_domain(operator.restrict(y)), d)
    on_images = instance.inverts or instance.law.is_complex
    if operator.condition() is not None and on_images and instance.linear and d.shape == x.shape:
        close(operator.seen(x), d, instance.precision)
        assert 0.05 < operator.seen(x).square().sum() / x.square().sum() < 0.95
    missing = operator.missing(d)
    if missing is not None:
        assert (d[missing] == 0).all() and (operator.seen(other)[missing] == 0).all()
        assert (operator.seen(other)[~missing] == other[~missing]).all()


@every
def test_what_is_seen_is_self_adjoint_and_between_nothing_and_all(instance: Instance, shape: Shape) -> None:
    operator, d = drawn(instance, shape), images(N, instance.law.shapes(shape).domain, 1)
    other = images(N, tuple(d.shape[1:]), 2)
    close((operator.seen(d) * other).sum(), (d * operator.seen(other)).sum(), 1e-10)
    share = (operator.seen(d) * d).flatten(1).sum(1) / d.square().flatten(1).sum(1)
    assert (share >= 0).all() and (share <= 1 + 1e-6).all()
    assert (share.min() < 1 - 1e-6) == (operator.condition() is not None)


@every
def test_the_white_space(instance: Instance, shape: Shape) -> None:
    """`embed` is an isometry with `extract` as its inverse and adjoint; what is observed is what is not missing."""
    operator, d = drawn(instance, shape), images(N, instance.law.shapes(shape).domain, 1)
    embedded = operator.embed(d)
    e = images(N, tuple(embedded.shape[1:]), 2)
    close(operator.extract(embedded), d, instance.precision)
    close((embedded * e).sum(), (d * operator.extract(e)).sum(), 1e-10)
    close(embedded.square().sum(), d.square().sum(), instance.precision)
    assert operator.white_domain == bool(torch.equal(embedded, d) and embedded.shape == d.shape)
    y = operator.apply(images(N, shape, 3))
    y = images(N, tuple(y.shape[1:]), 4)
    close(operator.restrict(operator.observed(y)), operator.observed(y), 0)
    close(operator.observed(operator.restrict(y)), operator.observed(y), 0)
    assert operator.observed(y).norm() > 0.5 * operator.restrict(y).norm()
    close((operator.restrict(e) * embedded).sum(), (e * operator.restrict(embedded)).sum(), 1e-12)
    shown, condition = operator.restrict(torch.ones_like(e)) != 0, operator.condition()
    assert shown.all() if condition is None else torch.equal(condition.bool(), shown[:, : condition.shape[1]])


@those(lambda instance: instance.law.sigma_max > 0)
def test_noise_of_the_measurements_is_white_there(instance: Instance, shape: Shape) -> None:
    """The covariances of `observed(restrict(noise))` and of `measured(e)` agree, tried on two vectors."""
    operator = drawn(instance, shape)
    y = operator.apply(images(N, shape, 1))
    observed, back = torch.func.vjp(lambda y: operator.observed(operator.restrict(y)), torch.zeros_like(y))
    a, b = (images(N, tuple(observed.shape[1:]), seed) for seed in (2, 3))
    close((back(a)[0] * back(b)[0]).sum(), (operator.measured(a) * operator.measured(b)).sum(), 1e-11)


@every
def test_what_is_missing_and_the_whole(instance: Instance, shape: Shape) -> None:
    operator, x = drawn(instance, shape), images(N, shape, 1)
    whole, y = operator.whole(), operator.apply(x)
    close(operator.restrict(whole.apply(x)), y, 0)
    any_y = images(N, tuple(y.shape[1:]), 2)
    assert torch.equal(whole.restrict(any_y), any_y)
    kept = {name for name, value in operator.parameters().items() if torch.equal(value, whole.parameters()[name])}
    assert {name for name in operator.parameters() if name.rpartition(".")[2] != "mask"} <= kept
    d = operator.to_domain(y)
    missing, condition = operator.missing(d), operator.condition()
    assert (missing is None) == (condition is None or not operator.white_domain)
    if missing is not None:
        assert condition is not None and torch.equal(missing, ~condition.bool().expand_as(missing))


@every
def test_the_network_may_live_on_the_image_grid(instance: Instance, shape: Shape) -> None:
    """`project(lift(d)) = d` for what can be measured, and autograd of `lift` is that of a linear map."""
    operator = drawn(instance, shape)
    whole = operator.whole()
    d = whole.to_domain(whole.apply(images(N, shape, 1))).requires_grad_()
    lifted = operator.lift(d)
    close(operator.project(lifted), d.detach(), instance.precision)
    direction, w = operator.project(images(N, shape, 2)), images(N, shape, 3)
    slope = (torch.autograd.grad((lifted * w).sum(), d)[0] * direction).sum()
    ahead = (operator.lift(d.detach() + direction) * w).sum() - (lifted * w).sum()
    assert not instance.linear or torch.equal(operator.from_domain(d), lifted)
    torch.testing.assert_close(slope, ahead.detach(), rtol=10 * instance.precision, atol=10 * instance.precision * N)


@those(lambda instance: instance.inverts)
def test_the_image_of_a_measurement_would_be_measured_so(instance: Instance, shape: Shape) -> None:
    operator = drawn(instance, shape)
    y = operator.apply(images(N, shape, 1))
    close(operator.apply(operator.to_image(y)), y, instance.precision)
    close(operator.apply(operator.from_domain(operator.to_domain(y))), y, instance.precision)


@every
def test_further_operators_see_a_part(instance: Instance, shape: Shape) -> None:
    """What a further operator sees is a function of what the operator itself has measured."""
    law, operator, x = instance.law, drawn(instance, shape), images(N, shape, 5)
    further, again = (law.further(operator, generator(7)) for _ in range(2))
    close(further.restrict(operator.apply(x)), further.apply(x))
    close(further.apply(x), again.apply(x), 0)
    assert torch.equal(further.sigma_n, operator.sigma_n)
    shown, left = operator.condition(), further.condition()
    if shown is None or left is None:
        assert shown is None and left is None
        close(further.apply(x), operator.apply(x), 0)
    else:
        assert shown.dtype == left.dtype
        assert (left.float() <= shown.float()).all() and left.sum() < shown.sum()


@every
def test_operators_come_back_from_their_parameters(instance: Instance, shape: Shape) -> None:
    law, operator, x = instance.law, drawn(instance, shape), images(N, shape, 1)
    parameters = {name: value.contiguous() for name, value in operator.parameters().items()}
    read = safetensors.torch.load(safetensors.torch.save(parameters))
    rebuilt = law.rebuild(read, shape)
    assert type(rebuilt) is type(operator) and len(rebuilt) == N
    same(rebuilt, operator, x)
    same(operator.with_parameters(read), operator, x)
    same(law.further(rebuilt, generator(2)), law.further(operator, generator(2)), x)


@every
def test_select_concatenate_and_move(instance: Instance, shape: Shape) -> None:
    operator, x = drawn(instance, shape), images(N, shape, 1)
    index = torch.tensor([7, 0, 7, 3])
    chosen = operator.select(index)
    close(chosen.apply(x[index]), operator.apply(x)[index], 1e-12)
    close(chosen.to_image(chosen.apply(x[index])), operator.to_image(operator.apply(x))[index], 1e-10)
    same(Operator.concatenate([operator.select(slice(0, 5)), operator.select(slice(5, None))]), operator, x)
    same(operator.to("cpu"), operator, x)
    assert {value.device.type for value in operator.to("meta").parameters().values()} == {"meta"}
    if isinstance(operator, Chain):  # those of the parts are the chain's
        assert all(torch.equal(part.sigma_n, chosen.sigma_n) for part in operator.select(index).parts)


def same(a: Operator, b: Operator, x: Tensor) -> None:
    """Asserts that two operators do the same, bit for bit."""
    assert a.parameters().keys() == b.parameters().keys()
    for name, value in a.parameters().items():
        torch.testing.assert_close(value, b.parameters()[name], rtol=0, atol=0)
    y = b.apply(x)
    torch.testing.assert_close(a.apply(x), y, rtol=0, atol=0)
    torch.testing.assert_close(a.to_domain(y), b.to_domain(y), rtol=0, atol=0)
    torch.testing.assert_close(a.seen(b.to_domain(y)), b.seen(b.to_domain(y)), rtol=0, atol=0)


@pytest.mark.parametrize("name", INSTANCES)
def test_descriptions_are_plain_data(name: str) -> None:
    law = INSTANCES[name].law
    described = json.loads(json.dumps(law.describe()))
    read = corruption_from(described)
    assert read == law and hash(read) == hash(law) and type(read) is type(law)
    assert read.describe() == law.describe() == described
    assert corruption_from({**described, "kind": law.kind}).levels == law.levels
    others = [other.law for key, other in INSTANCES.items() if key != name]
    assert law not in others  # else equality would say nothing


@every
def test_the_noise_is_white_where_something_is_measured(instance: Instance, shape: Shape) -> None:
    """n = 400 images; mean and variance of the error within 5 standard errors of 0 and sigma_n^2; else exactly 0."""
    law, n = instance.law, 400
    operator, x = drawn(instance, shape, n), images(n, shape, 1, -0.4, 0.9)
    clean = operator.apply(x)
    measured = operator.restrict(torch.ones_like(clean)) != 0
    y = law.corrupt(x, operator, generator(2))
    assert (y[~measured] == 0).all() and (clean[~measured].abs() < 1e-12).all()
    sigma = operator.sigma_n.double()[:, None, None, None].expand_as(y)
    assert torch.equal(y[sigma == 0], clean[sigma == 0])
    noisy = measured & (sigma > 0)
    assert noisy.any() == (law.sigma_max > 0)
    error = ((y - clean) / sigma.clamp_min(1e-12))[noisy]
    if not len(error):
        return
    assert abs(error.mean()) < 5 / len(error) ** 0.5
    assert abs(error.square().mean() - 1) < 5 * (2.2 / len(error)) ** 0.5  # kurtosis of photons: a little above 3
    pairs = noisy[..., 1:] & noisy[..., :-1]
    z = (y - clean) / sigma.clamp_min(1e-12)
    assert abs((z[..., 1:] * z[..., :-1])[pairs].mean()) < 5 / float(pairs.sum()) ** 0.5


@pytest.mark.parametrize("name", INSTANCES)
def test_noise_levels_are_drawn_by_their_weights(name: str) -> None:
    """n = 4,000 draws: each level within 5 standard errors of its share."""
    law, n = INSTANCES[name].law, 4000
    drawn_N = law.draw_sigma_n(n, generator(3)) if isinstance(law, NoiseLevels) else torch.full((n,), law.levels[0])
    weights = (law.weights if isinstance(law, NoiseLevels) else None) or (1.0,) * len(law.levels)
    for level, weight in zip(law.levels, weights, strict=True):
        share = weight / sum(weights)
        found = (drawn_N == torch.tensor(level, dtype=torch.float32)).double().mean().item()
        assert abs(found - share) <= 5 * (share * (1 - share) / n) ** 0.5
    assert law.sigma_max == max(law.levels)


@those(lambda instance: all(isinstance(part, PartlyClean) for part in instance.law.parts))
def test_cleared_operators_leave_images_as_they_are(instance: Instance, shape: Shape) -> None:
    operator, x = drawn(instance, shape), images(N, shape, 1)
    where = torch.arange(N) % 3 == 0
    some = cleared(operator, where)
    close(some.apply(x)[where], x[where], 1e-15)
    close(some.apply(x)[~where], operator.apply(x)[~where], 0)
    assert (some.sigma_n[where] == 0).all()
    assert torch.equal(some.sigma_n[~where], operator.sigma_n[~where])
    close(instance.law.corrupt(x, some, generator())[where], x[where], 1e-15)
    condition, missing = some.condition(), some.missing(some.to_domain(x))
    assert condition is None or bool((condition[where] == 1).all())
    assert missing is None or not missing[where].any()


@those(lambda instance: isinstance(instance.law, PartlyClean) and instance.law.clean_fraction > 0)
def test_a_share_of_images_is_clean(instance: Instance, shape: Shape) -> None:
    """n = 600 draws: the share of operators that are the identity within 5 standard errors of `clean_fraction`."""
    law, n = instance.law, 600
    assert isinstance(law, PartlyClean)
    all_dirty = law.changed(clean_fraction=0.0, sigma_n=0.5, weights=None)
    half = all_dirty.changed(clean_fraction=law.clean_fraction)
    x = images(n, shape, 1)

    def untouched(operator: Operator) -> Tensor:
        return (operator.sigma_n == 0) & (operator.apply(x) == x).flatten(1).all(1)

    share = law.clean_fraction
    found = untouched(half.draw(n, shape, generator(1))).double().mean().item()
    assert abs(found - share) < 5 * (share * (1 - share) / n) ** 0.5
    assert not untouched(all_dirty.draw(n, shape, generator(1))).any()


@every
def test_what_tells_pixels_apart_moves_with_them(instance: Instance, shape: Shape) -> None:
    def turned(x: Tensor) -> Tensor:
        return x.flip(-1).roll((1, 2), (-2, -1))  # no pattern of the list is symmetric under it

    operator, d = drawn(instance, shape), images(N, instance.law.shapes(shape).domain, 1)
    if not operator.white_domain:
        with pytest.raises(UserError, match=r"teacher\.augment must be 0: .* cannot be flipped and turned"):
            operator.moved(turned)
        return
    moved, missing = operator.moved(turned), operator.missing(d)
    if missing is None:
        same(moved, operator, images(N, shape, 1))
        return
    close(moved.seen(turned(d)), turned(operator.seen(d)), 0)
    assert torch.equal(moved.condition(), turned(operator.condition()))  # type: ignore[arg-type]
    assert not torch.equal(moved.seen(d), operator.seen(d))
    assert torch.equal(moved.missing(d), turned(missing))  # type: ignore[arg-type]


LAWS = [
    test_the_derivative_and_its_adjoint,
    test_shapes_are_those_announced,
    test_seen_and_restrict_are_projections,
    test_what_is_seen_is_self_adjoint_and_between_nothing_and_all,
    test_the_white_space,
    test_what_is_missing_and_the_whole,
    test_the_network_may_live_on_the_image_grid,
    test_further_operators_see_a_part,
]
INVERTING = test_the_image_of_a_measurement_would_be_measured_so
SAID = ("apply", "jvp", "vjp", "observed", "restrict", "embed", "extract", "from_domain", "lift", "project")
BROKEN = [
    (name, method)
    for name in (
        "noise",
        "mask",
        "blur",
        "bicubic",
        "bicubic-3-noise",
        "poisson",
        "function",
        "mri-one-coil",
        "function-mask",
    )
    for method in SAID
] + [(name, "condition") for name in ("mask", "mri-one-coil", "mask-mask")]  # fmt: skip


@pytest.mark.parametrize(("name", "method"), BROKEN)
def test_no_law_abiding_operator_returns_zeros(name: str, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever one method returns, zeros in its place break a law; and so does its argument where it changes it."""
    instance = INSTANCES[name]
    shape = instance.shapes()[-1]
    kind = type(drawn(instance, shape))
    original = getattr(kind, method)
    laws = [*LAWS, INVERTING] if instance.inverts else LAWS
    for law in laws:
        law(instance, shape)
    monkeypatch.setattr(kind, method, lambda self, *args: torch.zeros_like(original(self, *args)))
    broken = []
    for law in laws:
        try:
            law(instance, shape)
        except (AssertionError, RuntimeError) as error:
            broken.append(error)
    assert broken


def test_the_list_holds_every_kind_and_every_way() -> None:
    """So that what is added to the package is added to the list: one line."""
    from restill.corruption import corruption_kinds
    from restill.corruption.blur import BOUNDARIES
    from restill.corruption.downsampling import METHODS
    from restill.corruption.mri.lines import PATTERNS as LINES
    from restill.corruption.patterns import PATTERNS

    laws: list[Corruption] = [instance.law for instance in INSTANCES.values()]
    assert {law.kind for law in laws} >= {kind for kind in corruption_kinds() if not kind.startswith("test-")}
    for name, ways in (("pattern", (*PATTERNS, *LINES, "files")), ("boundary", BOUNDARIES), ("method", METHODS)):
        assert {getattr(law, name) for law in laws if hasattr(law, name)} == set(ways)
    assert len(CASES) == len(set(IDS)) > 150
