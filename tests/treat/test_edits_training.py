"""Learning rates, steps, and how new examples are made and shown."""

from __future__ import annotations

import pytest
from patients import DISTRIBUTIONS, FUNCTIONS, TRAINER, broken, case_of, difference, edited

from whyvae.treat.remedies.clip_gradients import ClipGradients
from whyvae.treat.remedies.epoch_schedule import EpochSchedule
from whyvae.treat.remedy import NoEdit


def came(folder, text, remedy, *, steps=3, **settings):
    new = edited(folder, text, remedy, steps=steps, **settings)
    compile(new, "script", "exec")
    return difference(text, new)[1]


@pytest.mark.parametrize(("patient", "right", "wrong", "expected"), [
    (TRAINER, "lr: float = 1e-3", "lr: float = 1e-1", "lr: float = 1e-2"),
    (TRAINER, "Config(), (", "Config(lr=0.1), (", "trainer = Trainer(Config(lr=0.01), (torch.rand(128, 20) > 0.5).float())"),
    (FUNCTIONS, "Adam(weights, lr=2e-3)", "Adam(weights, 0.2)", "opt = torch.optim.Adam(weights, 0.02)"),
    (FUNCTIONS, "Adam(weights, lr=2e-3)", "Adam(weights)", "opt = torch.optim.Adam(weights, lr=1e-4)"),
    (DISTRIBUTIONS, "lr=1e-3", "lr=1e-3 * len(data)",
     "optimizer = optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.1 * 1e-3 * len(data))"),
])  # fmt: skip
def test_a_tenth_of_the_learning_rate(tmp_path, patient, right, wrong, expected):
    assert came(tmp_path, broken(patient, right, wrong), "learning_rate", factor=0.1) == [expected]


@pytest.mark.parametrize(("patient", "expected"), [
    (TRAINER, "epochs: int = 6"),
    (FUNCTIONS, "for step in range(120):"),
    (DISTRIBUTIONS, "for _ in range(90):"),
    (FUNCTIONS.replace("for step in range(40):", "step = 0\nwhile step < 40:\n    step += 1"), "while step < 120:"),
    (FUNCTIONS.replace("range(40)", "range(1, STEPS + 1)").replace("D, H, Z = 16", "STEPS = 40\nD, H, Z = 16"), "STEPS = 120"),
])  # fmt: skip
def test_three_times_as_long(tmp_path, patient, expected):
    assert came(tmp_path, patient, "longer", times=3) == [expected]


def test_a_computed_number_of_epochs_is_multiplied(tmp_path):
    text = broken(FUNCTIONS, "range(40)", "range(max(1, len(table) // 5))")
    assert came(tmp_path, text, "longer", times=3) == ["for step in range(3 * max(1, len(table) // 5)):"]
    assert came(tmp_path, text, "longer", times=0.3) == ["for step in range(int(0.3 * max(1, len(table) // 5))):"]


def test_examples_with_nan_are_left_out(tmp_path):
    text = broken(
        FUNCTIONS,
        "\n\n\ndef layer",
        "\ntable[3, 2] = float('nan')\ntrain, test = table[:150], table[150:]\n\n\ndef layer",
    )
    text = broken(text, "x = table[torch.randint(200, (50,))]", "x = train[torch.randint(len(train), (50,))]")
    assert came(tmp_path, text, "finite_data", way="left out") == [
        "train = train[train.isfinite().flatten(1).all(1)]", "test = test[test.isfinite().flatten(1).all(1)]",
    ]  # fmt: skip


@pytest.mark.parametrize(("way", "line"), [
    ("momentum", "nn.Linear(20, cfg.hidden), nn.BatchNorm1d(cfg.hidden, momentum=0.1), nn.ReLU()"),
    ("own", "nn.Linear(20, cfg.hidden), nn.LayerNorm(cfg.hidden), nn.ReLU()"),
])  # fmt: skip
def test_batch_norm_that_forgets_or_remembers_too_much(tmp_path, way, line):
    stale = "nn.Linear(20, cfg.hidden), nn.BatchNorm1d(cfg.hidden, momentum=1e-4), nn.ReLU()"
    text = broken(TRAINER, "nn.Linear(20, cfg.hidden), nn.ReLU()", stale)
    assert came(tmp_path, text, "batch_statistics", way=way) == [f"self.encoder = nn.Sequential({line})"]


def test_clipping_stands_before_the_step(tmp_path):
    new = edited(tmp_path, TRAINER, "clip_gradients", norm=10.0)
    before = new[: new.index("self.opt.step()")].rstrip().splitlines()[-1]
    assert (
        before.strip()
        == 'torch.nn.utils.clip_grad_norm_([p for group in self.opt.param_groups for p in group["params"]], 10)'
    )
    with pytest.raises(NoEdit):
        edited(tmp_path, new, "clip_gradients", norm=10.0)


def test_weight_decay(tmp_path):
    assert came(tmp_path, FUNCTIONS, "weight_decay", decay=0.01) == [
        "opt = torch.optim.Adam(weights, lr=2e-3, weight_decay=0.01)"
    ]


@pytest.mark.parametrize(("patient", "right", "wrong"), [
    (TRAINER, "torch.randn(9, 4)", "torch.rand(9, 4)"),
    (TRAINER, "torch.randn(9, 4)", "3 * torch.randn(9, 4)"),
    (TRAINER, "torch.randn(9, 4)", "torch.randn(4).repeat(9, 1)"),
    (DISTRIBUTIONS, "torch.randn(3, 5)", "torch.rand(3, 5)"),
])  # fmt: skip
def test_draws_of_the_prior(tmp_path, patient, right, wrong):
    text = broken(patient, right, wrong)
    (line,) = came(tmp_path, text, "prior_draws", steps=None)
    assert right in line


@pytest.mark.parametrize(("wrong", "right"), [
    ("spread = torch.full((4,), 0.3)\nimages = trainer.model.decoder(spread * torch.randn(9, 4))", "torch.randn(9, 4)"),
    ("eps = torch.randn(9, 4)\nimages = trainer.model.decoder(torch.full((4,), 0.3) + eps / 2)", "trainer.model.decoder(eps)"),
])  # fmt: skip
def test_draws_that_tensors_move(tmp_path, wrong, right):
    text = broken(TRAINER, "images = trainer.model.decoder(torch.randn(9, 4))", wrong.replace("\n", "\n    "))
    (line,) = came(tmp_path, text, "prior_draws", steps=None)
    assert right in line


@pytest.mark.parametrize(("draw", "line"), [
    ("torch.distributions.Normal(middle, spread).sample((9,))",
     "images = trainer.model.decoder(torch.distributions.Normal(torch.zeros_like(middle), torch.ones_like(spread)).sample((9,)))"),
    ("torch.distributions.Normal(loc=0.0, scale=0.2).rsample((9, 4))",
     "images = trainer.model.decoder(torch.distributions.Normal(loc=0.0, scale=1.0).rsample((9, 4)))"),
])  # fmt: skip
def test_draws_of_a_normal_of_other_moments(tmp_path, draw, line):
    wrong = f"middle, spread = torch.zeros(4), torch.full((4,), 0.3)\n    images = trainer.model.decoder({draw})"
    text = broken(TRAINER, "images = trainer.model.decoder(torch.randn(9, 4))", wrong)
    assert came(tmp_path, text, "prior_draws", steps=None) == [line]


def test_draws_where_the_model_is_functions(tmp_path):
    text = (
        FUNCTIONS
        + """

def scenarios(n, spread):
    eps = torch.randn(n, Z)
    return decode(spread * eps)


with torch.no_grad():
    print(scenarios(9, torch.full((Z,), 0.3)).mean())
"""
    )
    assert came(tmp_path, text, "prior_draws", steps=None) == ["return decode(eps)"]


LEARNED = """\
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3))
        self.loc = nn.Parameter(torch.randn(3, 4))

    def forward(self):
        return MixtureSameFamily(Categorical(logits=self.logits), Independent(Normal(self.loc, 0.5), 1))


class Base(nn.Module):
    def draw(self, n):
        return torch.randn(n, 4)


class Net(Base):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.prior = nn.Linear(20, 8), nn.Linear(4, 20), Mixture()
        self.loc = nn.Parameter(torch.zeros(4))

    def forward(self, x):
        loc, scale = self.encoder(x).chunk(2, -1)
        q = Independent(Normal(loc, scale.exp()), 1)
        z = q.rsample()
        KL
        return (self.decoder(z) - x).square().sum(1).mean() + kl.mean()


torch.manual_seed(0)
model, data = Net(), torch.randn(64, 20)
opt = torch.optim.Adam(model.parameters())
for _ in range(3):
    for x in data.split(32):
        opt.zero_grad()
        loss = model(x)
        loss.backward()
        opt.step()
model.eval()
with torch.no_grad():
    images = model.decoder(DRAW)
"""


@pytest.mark.parametrize(("kl", "draw", "line"), [
    ("kl = q.log_prob(z) - self.prior().log_prob(z)", "torch.randn(9, 4)", "images = model.decoder(model.prior().sample((9,)))"),
    ("kl = q.log_prob(z) - self.prior().log_prob(z)", "model.draw(9)", "return self.prior().sample((n,))"),
    ("p = self.prior()\n        kl = q.log_prob(z) - p.log_prob(z)", "model.draw(9)", "return self.prior().sample((n,))"),
    ("kl = kl_divergence(q, Independent(Normal(self.loc, 1.0), 1))", "torch.randn((9, 4))",
     "images = model.decoder(Independent(Normal(model.loc, 1.0), 1).sample((9,)))"),
])  # fmt: skip
def test_draws_of_a_learned_prior(tmp_path, kl, draw, line):
    text = LEARNED.replace("        KL", f"        {kl}").replace("DRAW", draw)
    assert came(tmp_path, text, "learned_draws", steps=None) == [line]


OWN_PRIOR = """\
class Pseudo(nn.Module):
    def __init__(self):
        super().__init__()
        self.rows = nn.Parameter(torch.randn(5, 20))

    def posteriors(self, encode):
        loc, scale = encode(self.rows).chunk(2, -1)
        return torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(torch.ones(5)), Independent(Normal(loc, scale.exp()), 1))

    def log_prob(self, z, encode):
        return self.posteriors(encode).log_prob(z)

    def sample(SAMPLE):
        return self.posteriors(encode).sample((n,))


class Base(nn.Module):
"""


@pytest.mark.parametrize(("sample", "draw", "line"), [
    ("self, n, encode", "torch.randn(9, 4)", "images = model.decoder(model.prior.sample(9, model.encoder))"),
    ("self, n, encode", "model.draw(9)", "return self.prior.sample(n, self.encoder)"),
    ("self, encode, n", "torch.randn(9, 4)", None), ("self, n, encode, x", "torch.randn(9, 4)", None),
])  # fmt: skip
def test_draws_of_a_prior_that_says_itself_how_it_is_drawn_from(tmp_path, sample, draw, line):
    text = broken(LEARNED, "class Base(nn.Module):\n", OWN_PRIOR.replace("SAMPLE", sample))
    text = broken(text, "Mixture()\n", "Pseudo()\n").replace("DRAW", draw)
    text = text.replace("        KL", "        kl = q.log_prob(z) - self.prior.log_prob(z, self.encoder)")
    if line is None:
        with pytest.raises(NoEdit):
            edited(tmp_path, text, "learned_draws", steps=None)
    else:
        assert came(tmp_path, text, "learned_draws", steps=None) == [line]


def test_a_prior_that_depends_on_the_data_is_not_drawn_from(tmp_path):
    kl = "kl = q.log_prob(z) - Independent(Normal(loc, 2.0), 1).log_prob(z)"
    with pytest.raises(NoEdit):
        edited(
            tmp_path,
            LEARNED.replace("        KL", f"        {kl}").replace("DRAW", "torch.randn(9, 4)"),
            "learned_draws",
            steps=None,
        )


def test_draws_of_numpy(tmp_path):
    text = broken(TRAINER, "torch.randn(9, 4)", "torch.tensor(rng.uniform(-2, 2, (9, 4)), dtype=torch.float32)")
    text = "import numpy as np\nrng = np.random.default_rng(0)\n" + text
    assert "rng.normal(0.0, 1.0, (9, 4))" in edited(tmp_path, text, "prior_draws", steps=None)


def test_evaluation_mode_where_examples_are_made(tmp_path):
    text = broken(TRAINER, "trainer.model.eval()\n", "")
    assert came(tmp_path, text, "eval_mode", steps=None) == ["trainer.model.eval()"] or came(
        tmp_path, text, "eval_mode", steps=None
    ) == ["trainer.model.decoder.eval()"]


def test_dropout_follows_the_mode(tmp_path):
    text = broken(
        TRAINER,
        "    def draw(self",
        "    def generate(self, n):\n        z = torch.randn(n, 4)\n        return F.dropout(self.decoder(F.dropout(z, 0.1)), 0.1)\n\n    def draw(self",
    )
    text = broken(text, "trainer.model.decoder(torch.randn(9, 4))", "trainer.model.generate(9)")
    new = edited(tmp_path, text, "eval_mode", steps=None)
    assert new.count("training=self.training") >= 1


def test_bytes(tmp_path):
    text = TRAINER + "    pixels = images.clamp(0, 1).to(torch.uint8)\n"
    assert came(tmp_path, text, "show_output", steps=None, what="bytes") == [
        "pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)"
    ]


@pytest.mark.parametrize(("line", "given", "kept", "expected"), [
    ("pixels = (images * 255 * 255).to(torch.uint8)", (-3.0, 65100.0), (0.0, 255.0),
     "pixels = (images * 255).round().clip(0, 255).to(torch.uint8)"),
    ("pixels = images.numpy().astype('uint8')", (0.0, 1.02), (0.0, 255.0),
     "pixels = (images.numpy() * 255).round().clip(0, 255).astype('uint8')"),
    ("torchvision.utils.save_image(images, 'a.png')", (-1.0, 1.0), (0.0, 1.0),
     "torchvision.utils.save_image((images + 1) * 0.5, 'a.png')"),
    ("save_image(images - 0.5, 'a.png')", (-0.4242, 2.8215), (0.0, 1.0),
     "save_image((images - 0.5 + 0.4242) * 0.3081, 'a.png')"),
    ("cv2.imwrite('a.png', images[0])", (0.0, 1.0), (0.0, 255.0), "cv2.imwrite('a.png', images[0] * 255)"),
    ("shown = torch.clamp(images * 2 - 1, 0, 1)", (-1.0, 1.0), (0.0, 1.0), "shown = torch.clamp((images * 2 - 1 + 1) * 0.5, 0, 1)"),
    ("pixels = images.mul(255.0).round().clamp(0, 255).to(torch.uint8)", (-245.0, 235.0), (0.0, 255.0),
     "pixels = ((images.mul(255.0).round() + 255) * 0.5).clamp(0, 255).to(torch.uint8)"),
    ("shown = images.clamp(0, 1)", (-1.0, 1.0), (0.0, 1.0), "shown = ((images + 1) * 0.5).clamp(0, 1)"),
])  # fmt: skip
def test_the_range_of_the_data_becomes_the_one_that_is_kept(tmp_path, line, given, kept, expected):
    text = TRAINER + f"    {line} if False else None\n"
    at = {"file": str(tmp_path / "script.py"), "line": len(text.splitlines())}
    ends = dict(zip(("low", "high", "floor", "ceiling"), (*given, *kept), strict=True))
    assert came(tmp_path, text, "show_output", steps=None, what="range", **at, **ends) == [
        f"{expected} if False else None"
    ]


def test_what_is_shown_by_name_is_mapped_where_it_becomes_bytes(tmp_path):
    text = (
        TRAINER
        + "    pixels = (images * 255).mul(255).numpy().astype('uint8')\n    Image.fromarray(pixels) if False else None\n"
    )
    at = {"file": str(tmp_path / "script.py"), "line": len(text.splitlines())}
    ends = {"low": 0.0, "high": 65025.0, "floor": 0.0, "ceiling": 255.0}
    assert came(tmp_path, text, "show_output", steps=None, what="range", **at, **ends) == [
        "pixels = ((images * 255).mul(255).numpy() / 255).round().clip(0, 255).astype('uint8')"
    ]


def test_a_picture_of_one_colour_has_no_range_to_map(tmp_path):
    text = TRAINER + "    pixels = images.to(torch.uint8)\n"
    at = {"file": str(tmp_path / "script.py"), "line": len(text.splitlines())}
    with pytest.raises(NoEdit, match="one colour"):
        edited(
            tmp_path, text, "show_output", steps=None, what="range", low=0.0, high=0.0, floor=0.0, ceiling=255.0, **at
        )


def test_the_sigmoid_of_training(tmp_path):
    assert came(tmp_path, TRAINER, "show_output", steps=None, what="activation") == [
        "images = trainer.model.decoder(torch.randn(9, 4)).sigmoid()"
    ]


def test_spread_of_zero(tmp_path):
    text = broken(FUNCTIONS, "D)\n\n\ndef layer", "D)\ntable = (table - table.mean(0)) / table.std(0)\n\n\ndef layer")
    assert came(tmp_path, text, "finite_data", way="made") == [
        "table = (table - table.mean(0)) / (table.std(0) + 1e-6)"
    ]


def test_leaky_units(tmp_path):
    assert came(tmp_path, TRAINER, "living_units") == [
        "self.encoder = nn.Sequential(nn.Linear(20, cfg.hidden), nn.LeakyReLU(0.1))", "nn.LeakyReLU(0.1),"
    ]  # fmt: skip


@pytest.mark.parametrize(("patient", "right", "wrong", "expected"), [
    (FUNCTIONS, "KL_WEIGHT * div", "min(1.0, step / 5000) * div",
     "loss = (fit + min(1.0, step / 100) * divergence(m, s).sum(1)).mean()"),
    (FUNCTIONS, "KL_WEIGHT = 1.0", "WARM = 5000\nKL_WEIGHT = lambda i: 1", ""),
    (TRAINER, "                loss = rec + self.cfg.beta * kld",
     "                beta = min(1.0, (1 + _) / self.cfg.epochs / 10)\n                loss = rec + beta * kld", ""),
])  # fmt: skip
def test_a_shorter_schedule(tmp_path, patient, right, wrong, expected):
    text = broken(patient, right, wrong)
    if "lambda" in wrong:
        text = text.replace("KL_WEIGHT = lambda i: 1\n", "\n\ndef weight(i):\n    return min(1.0, i / WARM)\n\n\n")
        text = text.replace("KL_WEIGHT * div", "weight(step) * div")
        expected = "WARM = 100"
    if not expected:
        with pytest.raises(NoEdit) as no:  # two divisions: which of them is the length?
            edited(tmp_path, text, "schedule", factor=0.02)
        compile(no.value.snippet, "snippet", "exec")
        return
    assert came(tmp_path, text, "schedule", factor=0.02) == [expected]


SCHEDULED = """\
sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.9)
for epoch in range(4):
    for batch in table.split(50):
        m, s = encode(batch)
        y = decode(m + torch.exp(s) * torch.randn(m.shape))
        loss = (((y - batch) ** 2).sum(1) / 0.02 + divergence(m, s).sum(1)).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
"""


@pytest.mark.parametrize("last", [True, False])
def test_a_schedule_is_stepped_behind_the_loop_over_batches(tmp_path, last):
    text = FUNCTIONS[: FUNCTIONS.index("for step in")] + SCHEDULED
    wanted = text.replace("        sched.step()\n", "    sched.step()\n")
    if not last:
        text = text.replace(
            "        sched.step()\n", "        sched.step()\n        print(loss)  # each\n    print(epoch)\n"
        )
        wanted = text.replace("        sched.step()\n", "").replace("# each\n", "# each\n    sched.step()\n")
    assert edited(tmp_path, text, "epoch_schedule", way="epoch", steps=None) == wanted
    text = text.replace("        sched.step()\n", "        if epoch:\n            sched.step()\n")
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "epoch_schedule", way="epoch", steps=None)


def test_a_schedule_in_a_single_loop_is_left_out(tmp_path):
    text = broken(FUNCTIONS, "    opt.step()\n", "    opt.step()\n    plan.step()\n")
    text = broken(text, "for step in", "plan = torch.optim.lr_scheduler.StepLR(opt, 1)\nfor step in")
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "epoch_schedule", way="epoch")
    assert edited(tmp_path, text, "epoch_schedule", way="without") == text.replace("    plan.step()\n", "")


@pytest.mark.parametrize(("gamma", "ways"), [(0.05, ["epoch", "without"]), (0.7, ["epoch"]), (0.999, [])])
def test_a_schedule_is_doubted_where_the_rate_came_to_nothing(tmp_path, gamma, ways):
    text = FUNCTIONS[: FUNCTIONS.index("for step in")] + SCHEDULED.replace("0.9)", f"{gamma})")
    case = case_of(tmp_path, text, steps=None)
    assert [t.settings["way"] for t in EpochSchedule.proposals(case, "TRN03")] == ways


@pytest.mark.parametrize(
    ("optimiser", "tried"), [("Adam(weights, lr=0.3)", 0), ("Adam(weights, lr=2e-3)", 1), ("SGD(weights, lr=0.3)", 1)]
)
def test_clipping_is_not_tried_where_the_step_has_the_length_of_the_rate(tmp_path, optimiser, tried):
    case = case_of(tmp_path, broken(FUNCTIONS, "Adam(weights, lr=2e-3)", optimiser))
    assert len(list(ClipGradients.proposals(case, "TRN02"))) == tried


BACK = "    opt.zero_grad()\n    loss.backward()\n    opt.step()\n"
HELD = "    for w in weights:\n        w.grad = None\n    loss.backward()\n    with torch.no_grad():\n"
BY_HAND = [
    (HELD + "        for w in weights:\n            w -= LR * w.grad\n", ["LR = 0.03"]),
    (HELD + "        for w in weights:\n            w.sub_(LR * w.grad)\n", ["LR = 0.03"]),
    (HELD + "        for w in weights:\n            w.data.add_(w.grad, alpha=-LR)\n", ["LR = 0.03"]),
    (HELD + "        for w in weights:\n            w.add_(-LR * w.grad)\n", ["LR = 0.03"]),
    (HELD + "        for w in weights:\n            w.data = w.data - LR * w.grad\n", ["LR = 0.03"]),
    (HELD + "        for w in weights:\n            w -= 0.3 * w.grad / (1e-8 + w.grad.norm())\n",
     ["w -= 0.03 * w.grad / (1e-8 + w.grad.norm())"]),
    (HELD + "        rate = LR if step < 20 else 0.1 * LR\n        for w in weights:\n            w -= rate * w.grad\n",
     ["w -= 0.1 * rate * w.grad"]),
    (HELD + "        n = step + 1\n        rate = LR * 0.9 ** n\n        for w, m in zip(weights, moments):\n            m.lerp_(w.grad, 0.1)\n"
     "            ahead = m / (1 - 0.9 ** n)\n            w.data.sub_(rate * ahead / (w.grad.norm() + 1e-8))\n",
     ["w.data.sub_(0.1 * rate * ahead / (w.grad.norm() + 1e-8))"]),
]  # fmt: skip


@pytest.mark.parametrize(("taken", "expected"), BY_HAND)
def test_a_tenth_of_a_rate_by_hand(tmp_path, taken, expected):
    text = broken(FUNCTIONS, BACK, taken)
    text = broken(
        text,
        "opt = torch.optim.Adam(weights, lr=2e-3)\n",
        "LR = 0.3\nmoments = [torch.zeros_like(w) for w in weights]\n",
    )
    assert came(tmp_path, text, "learning_rate", factor=0.1) == expected


def test_a_rate_that_is_read_twice_is_multiplied(tmp_path):
    text = broken(
        FUNCTIONS, BACK, HELD + "        for w in weights:\n            w -= LR * w.grad\nprint(LR)\nhalf = LR / 2\n"
    )
    text = broken(text, "opt = torch.optim.Adam(weights, lr=2e-3)\n", "LR = 0.3\n")
    assert came(tmp_path, text, "learning_rate", factor=0.1) == ["w -= 0.1 * LR * w.grad"]


@pytest.mark.parametrize(("schedule", "expected"), [
    ("OneCycleLR(opt, 0.5, total_steps=40)", "plan = torch.optim.lr_scheduler.OneCycleLR(opt, 0.05, total_steps=40)"),
    ("OneCycleLR(opt, total_steps=40, max_lr=0.5)", "plan = torch.optim.lr_scheduler.OneCycleLR(opt, total_steps=40, max_lr=0.05)"),
    ("LambdaLR(opt, lambda i: 0.7 / (1 + i))", "opt = torch.optim.Adam(weights, lr=2e-4)"),
])  # fmt: skip
def test_a_schedule_that_sets_the_rate(tmp_path, schedule, expected):
    text = broken(FUNCTIONS, "    opt.step()\n", "    opt.step()\n    plan.step()\n")
    text = broken(text, "for step in", f"plan = torch.optim.lr_scheduler.{schedule}\nfor step in")
    assert came(tmp_path, text, "learning_rate", factor=0.1) == [expected]


@pytest.mark.parametrize(("made", "expected"), [
    ('[{"params": weights[:4], "lr": 0.2}, {"params": weights[4:], "lr": 3e-2}]',
     'opt = torch.optim.Adam([{"params": weights[:4], "lr": 0.02}, {"params": weights[4:], "lr": 3e-3}])'),
    ('[{"params": weights[:4]}, {"params": weights[4:], "lr": 0.2}], lr=0.1',
     'opt = torch.optim.Adam([{"params": weights[:4]}, {"params": weights[4:], "lr": 0.02}], lr=0.01)'),
])  # fmt: skip
def test_groups_with_rates_of_their_own(tmp_path, made, expected):
    text = broken(FUNCTIONS, "Adam(weights, lr=2e-3)", f"Adam({made})")
    assert came(tmp_path, text, "learning_rate", factor=0.1) == [expected]
