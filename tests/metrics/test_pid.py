"""The decomposition against Gaussians and mixtures whose informations are known, then of a model."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.exhibits import ALL, whole, words
from support.tiny import variant

from bench.backbones import pipeline
from bench.backbones.pipeline import Backbone
from bench.backbones.sampler import ImageSpec, image_specs
from bench.cells import evidence, probe
from bench.cells.artifacts import Context
from bench.core.config import RunConfig
from bench.core.task import Task
from bench.plan.plan import Plan, resolve
from bench.worlds import WORLDS, World
from metrics import METRICS, Evidence, PromptProbes
from metrics.base import MissingEvidence, Score
from metrics.pid import Parts, decompose, information, told

UNIQUE, REDUNDANT, SYNERGY, SHARED = (METRICS.get(f"pid_{n}") for n in ("unique", "redundant", "synergy", "shared"))
TRIPLE = (UNIQUE, REDUNDANT, SYNERGY)
FINE = torch.linspace(-14, 14, 57, dtype=torch.float64)  # log-SNRs, wide and dense enough for any case here
SOURCES = ("", "1", "2", "12")  # what is told: nothing, y1, y2, both


def normal(dimensions: int, count: int = 2048) -> torch.Tensor:
    """`count` evenly scattered standard normal points, (dimensions, count): a mean over them is nearly exact."""
    uniform = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=0).draw(count, dtype=torch.float64)
    return torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9)).T


class Gaussian:
    """x = a y1 + b y2 + s noise, with y1 and y2 standard normal of correlation r."""

    def __init__(self, a: float, b: float, s: float, r: float) -> None:
        first, second, third, self.eps = normal(4)
        y1, y2 = first, r * first + (1 - r**2) ** 0.5 * second
        self.x = a * y1 + b * y2 + s * third
        zero = torch.zeros_like(self.x)
        self.mean = {"": zero, "1": (a + b * r) * y1, "2": (b + a * r) * y2, "12": a * y1 + b * y2}
        left, right = a**2 * (1 - r**2) + s**2, b**2 * (1 - r**2) + s**2
        self.variance = {"": a**2 + b**2 + 2 * a * b * r + s**2, "1": right, "2": left, "12": s**2}

    def informations(self) -> tuple[float, float, float]:
        """I(x;y1), I(x;y2), I(x;y1,y2)."""
        one, two, both = (torch.tensor(self.variance[""] / self.variance[k]).log().item() / 2 for k in SOURCES[1:])
        return one, two, both

    def predict(self, source: str, logsnr: torch.Tensor) -> torch.Tensor:
        """The optimal prediction of the noise, (T, N)."""
        alpha, sigma = logsnr.sigmoid().sqrt().unsqueeze(1), (-logsnr).sigmoid().sqrt().unsqueeze(1)
        noised, m, v = alpha * self.x + sigma * self.eps, self.mean[source], self.variance[source]
        return sigma * (noised - alpha * m) / (alpha**2 * v + sigma**2)

    def gap(self, one: str, other: str, logsnr: torch.Tensor) -> torch.Tensor:
        """Mean square distance of two predictions, (T,)."""
        return (self.predict(one, logsnr) - self.predict(other, logsnr)).square().mean(1)


class Mixture(Gaussian):
    """y1 and y2 choose one of four means, with probabilities `weight`; x lies `s` around it."""

    def __init__(self, means: list[list[float]], weight: list[list[float]], s: float) -> None:
        self.means, self.weight, self.s = torch.tensor(means).double(), torch.tensor(weight).double(), s
        noise, self.eps = normal(2, 1024)
        self.x = self.means.unsqueeze(2) + s * noise  # (2, 2, N): y1, y2

    def prior(self, source: str) -> torch.Tensor:
        """Weights of the four means, (2, 2), for each (y1, y2), in front: what `source` says of them."""
        same = torch.eye(2).double()
        one = same if "1" in source else torch.ones(2, 2).double()
        two = same if "2" in source else torch.ones(2, 2).double()
        known = torch.einsum("ac,bd,cd->abcd", one, two, self.weight)
        return known / known.sum((2, 3), keepdim=True)

    def predict(self, source: str, logsnr: torch.Tensor) -> torch.Tensor:
        a, s = (side.sigmoid().sqrt().view(-1, 1, 1, 1, 1, 1) for side in (logsnr, -logsnr))
        noised = a * self.x.view(1, 2, 2, 1, 1, -1) + s * self.eps  # (T, y1, y2, mean's y1, mean's y2, N)
        off, v = noised - a * self.means.view(1, 1, 1, 2, 2, 1), a**2 * self.s**2 + s**2
        mine = self.prior(source).log().view(1, 2, 2, 2, 2, 1) - off**2 / (2 * v)
        mine = mine.flatten(3, 4).softmax(3).view(mine.shape)
        return (mine * s * off / v).sum((3, 4))  # (T, 2, 2, N)

    def gap(self, one: str, other: str, logsnr: torch.Tensor) -> torch.Tensor:
        found = (self.predict(one, logsnr) - self.predict(other, logsnr)).square().mean(-1)
        return (found * self.weight).sum((1, 2))

    def informations(self) -> tuple[float, float, float]:
        """By the trapezoid rule over x, which is exact to more digits than matter for smooth densities."""
        low, high = float(self.means.min()) - 12 * self.s, float(self.means.max()) + 12 * self.s
        x = torch.linspace(low, high, 20001).double()
        each = torch.exp(-((x - self.means.unsqueeze(2)) ** 2) / (2 * self.s**2)) / (self.s * (2 * torch.pi) ** 0.5)
        entropy = {}
        for source in SOURCES:
            p = torch.einsum("abcd,cdx->abx", self.prior(source), each)
            entropy[source] = -(torch.trapezoid(torch.special.xlogy(p, p), x) * self.weight).sum().item()
        return entropy[""] - entropy["1"], entropy[""] - entropy["2"], entropy[""] - entropy["12"]


CASES = {
    "words that have little in common": Gaussian(1.0, 0.6, 0.5, 0.2),
    "words that say much the same": Gaussian(1.0, 0.8, 0.7, 0.9),
    "words against each other": Gaussian(1.0, 0.7, 0.4, -0.5),
    "four pictures": Mixture([[-3.0, -1.0], [0.5, 4.0]], [[0.4, 0.1], [0.2, 0.3]], 0.5),
    "four pictures that overlap": Mixture([[-2.0, -1.0], [0.0, 2.0]], [[0.3, 0.2], [0.1, 0.4]], 0.8),
    "neither word without the other": Mixture([[0.0, 1.0], [1.2, 0.2]], [[0.25, 0.25], [0.25, 0.25]], 0.3),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
class TestKnownInformation:
    """Each within 2 % of what it is."""

    def test_information_matches_analytic_value(self, case: Gaussian) -> None:
        one, two, both = case.informations()
        for source, expected in (("1", one), ("2", two), ("12", both)):
            assert information(case.gap(source, "", FINE), FINE).item() == pytest.approx(expected, rel=0.02)
        assert information(case.gap("12", "2", FINE), FINE).item() == pytest.approx(both - two, rel=0.02)
        assert information(case.gap("12", "1", FINE), FINE).item() == pytest.approx(both - one, rel=0.02)

    def test_told_and_parts_match_analytic_values(self, case: Gaussian) -> None:
        one, two, both = case.informations()
        null = case.gap("12", "", FINE)
        found = [told(null, case.gap("12", source, FINE), FINE) for source in SOURCES[1:3]]
        assert found == pytest.approx([one, two], rel=0.02)
        parts = decompose(*found, information(null, FINE).item())
        expected = {
            "first": max(one - two, 0), "second": max(two - one, 0), "redundant": min(one, two),
            "synergistic": both - max(one, two),
        }  # fmt: skip
        assert dataclasses.asdict(parts) == pytest.approx(expected, rel=0.02)
        assert parts.first + parts.synergistic == pytest.approx(both - two, rel=0.02)  # I(x;y1|y2)


@pytest.mark.parametrize("case", [case for case in CASES.values() if not isinstance(case, Mixture)])
def test_twenty_noise_levels_are_accurate_to_two_percent(case: Gaussian, model: Backbone) -> None:
    """Stable Diffusion's schedule, which pipelines here have: the rule costs 0.5 % at most, the ends what they must."""
    _, logsnr = probe.timesteps(model, 20)
    assert len(logsnr) == 20
    ends = logsnr[[0, -1]]
    assert ends.tolist() == pytest.approx([7.07, -5.36], abs=0.01)
    _, _, both = case.informations()
    # 1/2 integral of the exact gap, up to l: 1/2 log((1 + v e^l) / (1 + w e^l)), v and w the variances without and with
    without, with_both = (torch.log1p(case.variance[k] * ends.exp()) for k in ("", "12"))
    upto = (without - with_both) / 2
    between = float(upto[0] - upto[1])
    found = information(case.gap("12", "", logsnr), logsnr).item()
    assert found == pytest.approx(between, rel=5e-3)
    assert 0 < both - between < 0.02 * both
    assert found == pytest.approx(both, rel=0.02)


def test_information_about_detail_beyond_schedule_is_missed() -> None:
    """Two pictures that differ by 0.001 are another picture to the optimal denoiser, and none to the probe."""
    case = Mixture([[-0.001, 0.001], [-0.001, 0.001]], [[0.25, 0.25], [0.25, 0.25]], 1e-5)
    wide, sd = torch.linspace(-14, 26, 120).double(), torch.linspace(-5.36, 7.07, 20).double()
    assert information(case.gap("12", "", wide), wide).item() == pytest.approx(torch.tensor(2.0).log().item(), rel=0.02)
    assert information(case.gap("12", "", sd), sd).item() < 0.002


@given(st.floats(0, 50), st.floats(0, 1), st.floats(0, 1))
def test_parts_add_up_and_are_not_negative(both: float, share: float, other: float) -> None:
    one, two = share * both, other * both
    parts = decompose(one, two, both)
    assert min(dataclasses.astuple(parts)) >= 0
    assert parts.redundant + parts.first == pytest.approx(one)
    assert parts.redundant + parts.second == pytest.approx(two)
    assert sum(dataclasses.astuple(parts)) == pytest.approx(both)
    assert parts.first + parts.synergistic == pytest.approx(both - two)
    assert parts.first * parts.second == 0  # minimum mutual information: the weaker source has nothing of its own
    assert decompose(two, one, both) == Parts(parts.second, parts.first, parts.redundant, parts.synergistic)


gap_rows = st.lists(st.floats(0, 9), min_size=5, max_size=5).map(torch.tensor)


@given(gap_rows, gap_rows, gap_rows)
def test_parts_of_measured_gaps_are_not_negative(null: torch.Tensor, word: torch.Tensor, rest: torch.Tensor) -> None:
    logsnr = torch.tensor([7.0, 3.0, 0.5, -1.0, -5.0])
    both = information(null, logsnr).item()
    one, two = (told(null, missing, logsnr) for missing in (word, rest))
    assert 0 <= min(one, two) <= max(one, two) <= both
    assert min(dataclasses.astuple(decompose(one, two, both))) >= 0
    assert told(null, torch.zeros(5), logsnr) == pytest.approx(both)
    assert told(null, null, logsnr) == 0


@pytest.mark.parametrize("theirs", [2.0, 1.5, 0.5, 0.0, -1.0])
def test_told_matches_analytic_value_for_another_word(theirs: float) -> None:
    """p(x|c) = N(2, 1), p(x|n) = N(theirs, 1), p(x) = N(0, 1): the mean of log p(x|n) / p(x), or nothing."""
    weight, mine = torch.sigmoid(FINE) * torch.sigmoid(-FINE), 2.0
    found = told(weight * mine**2, weight * (mine - theirs) ** 2, FINE)
    assert found == pytest.approx(max(0, mine**2 / 2 - (mine - theirs) ** 2 / 2), rel=0.02, abs=1e-6)


def test_told_ignores_wrong_details() -> None:
    """Both words give x1 = 2 +- 1, one gives x2 = 0.05 +- 0.01 and the other -0.05; neither: 0 +- 1 and 0 +- 0.01."""
    a2, s2 = torch.sigmoid(FINE), torch.sigmoid(-FINE)
    coarse, fine = a2 * s2 * 2**2, a2 * s2 * 0.05**2 / (a2 * 0.01**2 + s2) ** 2
    whole, missing = coarse + fine, 4 * fine
    told_upto = a2 * 2**2 / 2 - 3 * a2 * 0.05**2 / (a2 * 0.01**2 + s2) / 2
    assert told_upto[-1] < -10
    assert told(whole, missing, FINE) == pytest.approx(told_upto.max().item(), rel=0.02)
    assert told(whole, missing, FINE) > 1.7


class TestMetric:
    def probed(self, given: PromptProbes) -> Evidence:
        base = whole({c: c * len(given.requested) for c in ALL})
        return dataclasses.replace(base, prompt_probes=given)

    def test_pid_equals_values_computed_by_hand(self) -> None:
        # means at log-SNRs 5, 1, -3 where an image was looked at: 6, 4, 2; 6, 0, 0; 3, 2, 1; 20, 2, 1
        gaps = torch.tensor(
            [
                [[99.0, 2, 2], [5, 99, 2], [7, 6, 99]],
                [[99.0, 0, 0], [5, 99, 0], [7, 0, 99]],
                [[99.0, 2, 1], [3, 99, 1], [3, 2, 99]],
                [[99.0, 3, 1], [9, 99, 1], [31, 1, 99]],
            ]
        )
        given = self.probed(words(gaps))
        # 1/2 integral to log-SNR -3, 1, 5: all 0, 6, 16; by the word alone is missed 0, 0, 6; by the rest 0, 3, 8; by
        # the neighbour's word 0, 3, 25
        assert [m.compute(given) for m in TRIPLE] == [Score(2.0, 3), Score(8.0, 3), Score(6.0, 3)]
        assert SHARED.compute(given) == Score(3.0, 3)

    def test_word_with_all_information_leaves_no_synergy(self) -> None:
        null = torch.rand(3, 3) + 1
        given = self.probed(words(torch.stack([null, 0 * null, null, 0 * null])))
        assert words(torch.zeros(4, 3, 3)).looked.sum(0).min() == 2
        unique, redundant, synergy = (m.compute(given) for m in TRIPLE)
        assert unique is not None
        assert unique.value > 5
        assert redundant == synergy == Score(0.0, 3)
        assert SHARED.compute(given) == unique

    def test_pid_is_zero_if_prompt_changes_no_prediction(self) -> None:
        given = self.probed(words(torch.zeros(4, 3, 3)))
        assert [m.compute(given) for m in (*TRIPLE, SHARED)] == [Score(0.0, 3)] * 4

    def test_pid_is_none_without_other_prompt(self) -> None:
        given = words(torch.rand(4, 3, 3))
        lone = dataclasses.replace(given, others={"near": given.others["near"]}, has={"rest": (), "near": ("a",)})
        assert [m.compute(self.probed(lone)) for m in TRIPLE] == [None] * 3
        assert SHARED.compute(self.probed(lone)) == SHARED.compute(self.probed(given))
        apart = dataclasses.replace(given, has={"rest": ("a",), "near": ()})
        assert SHARED.compute(self.probed(apart)) is None

    def test_pid_with_missing_evidence_raises(self) -> None:
        base = self.probed(words(torch.rand(4, 3, 3)))
        for metric in (*TRIPLE, SHARED):
            with pytest.raises(MissingEvidence, match="not probed"):
                metric.compute(dataclasses.replace(base, prompt_probes=None))
            with pytest.raises(MissingEvidence, match="a has 3, expected 4"):
                metric.compute(dataclasses.replace(base, counts={"a": 4}))
        one = words(torch.rand(4, 3, 3))
        one = dataclasses.replace(one, looked=torch.tensor([[True, False, False]] * 3))
        assert UNIQUE.compute(self.probed(one)) is None  # no integral over one noise level


class TestContexts:
    def test_other_prompts_of_probe(self) -> None:
        pocket = WORLDS.get("pocket")
        task = Task("t", ("tulip",), ("tea rose", "daisy"), ("poodle",))
        wanted = [ImageSpec(prompt, 0) for prompt in pocket.prompts("evaluate", "tulip")[:2]]
        assert [spec.prompt for spec in wanted] == ["a photo showing the tulip", "a nice photo of the tulip"]
        assert probe.other_prompts(pocket, task, ["tulip"] * 2, wanted) == {
            "word": ("tulip", "tulip"),
            "rest": ("a photo showing the flower", "a nice photo of the flower"),
            "near": ("a photo showing the tea rose", "a nice photo of the tea rose"),
        }

    def test_neighbour_is_retained_and_of_same_domain(self) -> None:
        pocket = WORLDS.get("pocket")
        task = Task("t", ("tulip", "neon", "grey jay"), ("daisy", "poodle", "sketch", "photo"), ())
        near = probe.neighbours(pocket, task)
        assert near["tulip"] == "daisy"
        assert near["neon"] in ("sketch", "photo")
        assert "grey jay" not in near

    def test_probe_leaves_out_missing_prompts(self, world: World) -> None:
        name, style = world.concepts[0], world.styles[2]
        wanted = [ImageSpec(world.prompts("evaluate", c)[1], 0) for c in (name, style)]
        task = Task("t", (name, style), (world.concepts[1],), ())
        both = probe.other_prompts(world, task, [name, style], wanted)
        assert both["rest"] == (wanted[0].prompt, world.prompts("evaluate", world.styles[0])[1])
        assert both["near"] == (world.prompts("evaluate", world.concepts[1])[1], wanted[1].prompt)
        assert set(probe.other_prompts(world, task, [name], wanted[:1])) == {
            "near"
        }  # this world has no word for all dogs
        assert set(probe.other_prompts(world, Task("t", (style,), (), ()), [style], wanted[1:])) == {"word", "rest"}


class TestProbe:
    @pytest.fixture
    def look(self, model: Backbone, world: World) -> Callable[..., dict[str, torch.Tensor]]:
        name, other = world.concepts[:2]
        wanted = image_specs(world.prompts("evaluate", name)[:2], 4)
        near = [spec.prompt.replace(name, other) for spec in wanted]
        others = {"near": near, "own": [spec.prompt for spec in wanted]}
        latents = torch.randn(4, *model.latent_shape)

        def look(plain: bool = False, batch: int = 64) -> dict[str, torch.Tensor]:
            if plain:
                return probe.gaps(model, wanted, latents, seed=1, count=6, batch_size=batch)
            return probe.prompt_gaps(model, wanted, latents, others, seed=1, count=6, batch_size=batch)

        return look

    def test_prompt_probe_contains_gaps_of_probe(self, look: Callable[..., dict[str, torch.Tensor]]) -> None:
        plain, found = look(plain=True), look()
        assert torch.equal(found["logsnr"], plain["logsnr"])
        assert torch.allclose(found["null"], plain["gaps"], rtol=1e-3)
        assert (found["null"] > 0).all()
        assert torch.allclose(look(batch=3)["near"], found["near"], rtol=1e-3)

    def test_images_are_probed_at_alternating_levels(self, look: Callable[..., dict[str, torch.Tensor]]) -> None:
        found = look()
        looked = found["looked"]
        assert looked.sum(0).tolist() == [2] * 6
        assert (looked[:2].sum(0) == 1).all()  # two images of two prompts, then the second of each
        assert torch.equal(looked[:2], ~looked[2:])  # so each prompt is seen at every level
        assert torch.equal(found["near"] > 0, looked)
        assert found["own"].max() < 1e-9


class TestModel:
    """The pocket model and real pictures of the dog whose neighbour is closest."""

    TASK = Task("t", ("pembroke corgi",), ("cardigan corgi", "poodle"), ())

    @pytest.fixture
    def corgis(self, device: torch.device) -> tuple[Backbone, torch.Tensor]:
        pocket = WORLDS.get("pocket")
        model = pipeline.load(Path(pocket.backbone()), device, "fp32")
        pictures = pocket.reference("pembroke corgi", 4).float() / 127.5 - 1
        with torch.no_grad():
            latents = model.pipeline.vae.encode(pictures).latent_dist.mean * model.pipeline.vae.config.scaling_factor
        return model, latents

    def figures(self, model: Backbone, latents: torch.Tensor) -> dict[str, float]:
        pocket, (name,) = WORLDS.get("pocket"), self.TASK.forget
        count = len(latents)
        wanted, asked = image_specs(pocket.prompts("evaluate", name), count), (name,) * count
        others = probe.other_prompts(pocket, self.TASK, asked, wanted)
        found = probe.prompt_gaps(model, wanted, latents, others, seed=1, count=6, batch_size=16)
        has = {"rest": self.TASK.forget, "near": self.TASK.forget}
        given = PromptProbes(asked, found["null"], found["looked"], found["logsnr"], {k: found[k] for k in others}, has)
        seen = Evidence(self.TASK.forget, self.TASK.in_domain, (), asked, asked, {name: count}, prompt_probes=given)
        scores = {m.name: m.compute(seen) for m in (*TRIPLE, SHARED)}
        values = {name: score.value for name, score in scores.items() if score and score.n == count}
        at = found["looked"]
        seen_at = (found["null"] * at).sum(0) / at.sum(0)
        return {**values, "all": information(seen_at, found["logsnr"]).item()}

    def test_pid_of_pocket_model_and_of_model_that_ignores_prompts(self, corgis: tuple[Backbone, torch.Tensor]) -> None:
        model, latents = corgis
        before = self.figures(model, latents)
        assert before["pid_unique"] + before["pid_synergy"] > 2
        assert before["pid_redundant"] > 1  # it is a dog
        assert 0.2 < before["pid_shared"] < before["all"] / 2  # of a corgi
        parts = [before[f"pid_{name}"] for name in ("unique", "redundant", "synergy")]
        assert sum(parts) == pytest.approx(before["all"])
        state = model.unet.state_dict()
        deaf = {name: torch.zeros_like(state[name]) for name in state if "attn2.to_v" in name}
        with model.weights(deaf):
            after = self.figures(model, latents[:2])
        assert after.keys() == before.keys()
        assert max(after.values()) < 1e-6


def test_run_probes_once_for_mi_and_pid(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"protocol": {"images_per_concept": 3, "probe_timesteps": 4, "num_inference_steps": 2}}
    plan = resolve(RunConfig(("pretrained",), "smoke", "tiny", metrics=("ua",), overrides=given, out=tmp_path))

    def figures(plan: Plan) -> tuple[Evidence, list[Score | None]]:
        context, cell = Context(plan), plan.cells[0]
        untouched = context.store.put("deltas", {"method": "none"})
        seen = evidence.gather(context, cell.task, untouched, {"probe", "prompt_probes"})
        return seen, [metric.compute(seen) for metric in (*TRIPLE, SHARED)]

    monkeypatch.setattr(probe, "gaps", refuse)
    seen, (*triple, shared) = figures(plan)
    assert triple == [None] * 3  # this world has no word for all dogs
    assert shared is not None
    assert shared.n == 3
    assert seen.probe is not None
    assert seen.prompt_probes is not None
    assert torch.equal(seen.probe.gaps, seen.prompt_probes.null)
    assert set(seen.prompt_probes.others) == {"near"}
    dogs = variant(
        plan.world, superclass_prompts=lambda concept, split="forget": plan.world.prompts(split, plan.world.concepts[2])
    )
    seen, found = figures(dataclasses.replace(plan, world=dogs))
    assert [score.n for score in found if score] == [3] * 4
    monkeypatch.setattr(probe, "prompt_gaps", refuse)
    again, same = figures(dataclasses.replace(plan, world=dogs))  # from the store
    assert same == found
    assert again.prompt_probes is not None
    assert again.prompt_probes.looked.dtype == torch.bool


def refuse(*args: object, **kwargs: object) -> None:
    raise AssertionError("the model was asked once more")
