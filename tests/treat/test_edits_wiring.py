"""Gradients, noise, targets and optimisers: what connects the parts of a step."""

from __future__ import annotations

import pytest
from patients import DISTRIBUTIONS, FUNCTIONS, TRAINER, broken, case_of, difference, edited

from whyvae.treat.logs import of_output
from whyvae.treat.remedies.reconstruction_formula import ReconstructionFormula
from whyvae.treat.remedy import NoEdit, by_promise


def mended(folder, text, remedy, **settings):
    """(lines gone, lines that came); the remedy has nothing more to say of what it made."""
    new = edited(folder, text, remedy, **settings)
    compile(new, "script", "exec")
    with pytest.raises(NoEdit):
        edited(folder, new, remedy, **settings)
    return difference(text, new)


@pytest.mark.parametrize(("patient", "call"), [
    (TRAINER, "self.opt.zero_grad()"), (FUNCTIONS, "opt.zero_grad()"), (DISTRIBUTIONS, "optimizer.zero_grad()"),
])  # fmt: skip
def test_gradients_are_cleared_where_backward_is_called(tmp_path, patient, call):
    line = next(line for line in patient.splitlines() if line.strip() == call)
    text = patient.replace(line + "\n", "")
    assert mended(tmp_path, text, "zero_grad") == ([], [call])


def test_clearing_once_per_epoch_is_not_enough(tmp_path):
    text = broken(TRAINER, "                self.opt.zero_grad()\n", "")
    text = broken(text, "            for batch in", "            self.opt.zero_grad()\n            for batch in")
    new = edited(tmp_path, text, "zero_grad")
    assert new.count("self.opt.zero_grad()") == 2


ACCUMULATED = """\
    for _ in range(2):
        x = table[torch.randint(200, (50,))]
        m, s = encode(x)
        y = decode(m + torch.exp(s) * torch.randn(m.shape))
        fit = ((y - x) ** 2).sum(1) / (2 * 0.1**2)
        loss = (fit + KL_WEIGHT * divergence(m, s).sum(1)).mean()
        (loss / 2).backward()
    opt.step()
"""


def test_where_gradients_are_accumulated_they_are_cleared_behind_the_step(tmp_path):
    start = FUNCTIONS.index("    x = table[")
    text = FUNCTIONS[:start] + ACCUMULATED + FUNCTIONS[FUNCTIONS.index("new = decode") :]
    new = edited(tmp_path, text, "zero_grad")
    assert new == text.replace("    opt.step()\n", "    opt.step()\n    opt.zero_grad()\n")


def test_where_the_step_is_taken_now_and_then_gradients_are_cleared_with_it(tmp_path):
    text = broken(FUNCTIONS, "    opt.zero_grad()\n", "")
    text = broken(text, "    opt.step()\n", "    if step % 2:\n        opt.step()\n")
    new = edited(tmp_path, text, "zero_grad", steps=None)
    assert new == text.replace("        opt.step()\n", "        opt.step()\n        opt.zero_grad()\n")


def test_of_several_steps_on_a_line_the_optimisers_is_meant(tmp_path):
    text = broken(
        FUNCTIONS,
        "    opt.zero_grad()\n    loss.backward()\n    opt.step()\n",
        "    loss.backward(); opt.step(); plan.step()\n",
    )
    text = broken(text, "for step in", "plan = torch.optim.lr_scheduler.StepLR(opt, 9)\nfor step in")
    assert edited(tmp_path, text, "zero_grad") == text.replace(
        "    loss.backward();", "    opt.zero_grad()\n    loss.backward();"
    )
    new = edited(tmp_path, text, "clip_gradients", norm=10.0)
    assert new.index("loss.backward()") < new.index("clip_grad_norm_") < new.index("opt.step()")


def test_the_optimiser_is_cleared_not_its_scaler(tmp_path):
    text = broken(FUNCTIONS, "    opt.zero_grad()\n", "")
    text = broken(
        text,
        "loss.backward()\n    opt.step()",
        "scaler.scale(loss).backward()\n    scaler.step(opt)\n    scaler.update()",
    )
    text = broken(text, "for step in", 'scaler = torch.amp.GradScaler("cpu", enabled=False)\nfor step in')
    assert mended(tmp_path, text, "zero_grad") == ([], ["opt.zero_grad()"])


def test_gradients_cleared_by_hand(tmp_path):
    text = broken(FUNCTIONS, "    opt.zero_grad()\n    loss.backward()\n    opt.step()",
                  "    loss.backward()\n    with torch.no_grad():\n        for w in weights:\n            w -= 1e-3 * w.grad")  # fmt: skip
    assert mended(tmp_path, text, "zero_grad") == ([], ["w.grad.zero_()"])


def test_a_module_that_was_left_out_is_added(tmp_path):
    text = broken(DISTRIBUTIONS, "[*encoder.parameters(), *decoder.parameters()]", "encoder.parameters()")
    text = broken(text, "    train(Encoder(), decoder := nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 30)), data, weight=1.0)",
                  "    decoder = nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 30))\n    train(Encoder(), decoder, data)")  # fmt: skip
    assert mended(tmp_path, text, "optimize_all")[1] == [
        "optimizer = optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)"
    ]


@pytest.mark.parametrize(("given", "listed"), [
    ("[*self.model.encoder.parameters(), *self.model.decoder.parameters()]", "self.model.parameters()"),
    ("list(self.model.encoder.parameters()) + list(self.model.mu.parameters())", "self.model.parameters()"),
    ("self.model.decoder.parameters()", "self.model.parameters()"),
])  # fmt: skip
def test_parts_become_the_whole_model(tmp_path, given, listed):
    text = broken(TRAINER, "self.model.parameters()", given)
    (line,) = mended(tmp_path, text, "optimize_all")[1]
    assert f"({listed}, " in line


def test_a_list_with_a_name_is_what_is_changed(tmp_path):
    text = broken(
        TRAINER, "        self.opt = ", "        weights = list(self.model.encoder.parameters())\n        self.opt = "
    )
    text = broken(text, "(self.model.parameters(), ", "(weights, ")
    assert mended(tmp_path, text, "optimize_all")[1] == ["weights = [*self.model.parameters()]"]


@pytest.mark.parametrize("picked", [
    '[{"params": [p for n, p in self.model.named_parameters() if "encoder" in n], "weight_decay": 0.1}]',
    '[p for n, p in self.model.named_parameters() if not n.startswith("decoder")]',
])  # fmt: skip
def test_what_a_choice_by_name_left_out_is_a_group_of_its_own(tmp_path, picked):
    text = broken(TRAINER, "self.model.parameters()", picked)
    new = edited(tmp_path, text, "optimize_all")
    assert difference(text, new)[1] == [
        'already_given = {p for group in self.opt.param_groups for p in group["params"]}',
        'self.opt.add_param_group({"params": [p for p in self.model.parameters() if p not in already_given]})',
    ]
    with pytest.raises(NoEdit, match="already"):
        edited(tmp_path, new, "optimize_all")


STACKED = "    h = torch.tanh(z @ w3 + b3)\n    h = torch.stack([h, 2 * h])\n"


@pytest.mark.parametrize(("used", "expected"), [
    ("    h = h.reshape(len(z), 2, H)\n    return h.sum(1) @ w4 + b4", "h = h.transpose(0, 1)"),
    ("    h = torch.reshape(h, (len(z), 2, H))\n    return h.sum(1) @ w4 + b4", "h = h.transpose(0, 1)"),
    ("    h = h.view(len(z), -1)\n    return h[:, :H] @ w4 + b4", "h = h.transpose(0, 1).reshape(len(z), -1)"),
])  # fmt: skip
def test_a_reshaping_that_should_be_a_transposition(tmp_path, used, expected):
    text = broken(FUNCTIONS, "    return torch.tanh(z @ w3 + b3) @ w4 + b4", STACKED + used)
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "rows_apart", way="without")
    assert mended(tmp_path, text, "rows_apart", way="axis")[1] == [expected]


MIXING = "z = z.cumsum(0)"


def test_the_step_at_which_rows_mix_is_left_out(tmp_path):
    text = broken(
        TRAINER, "        z = self.draw(mu, logvar)\n", f"        z = self.draw(mu, logvar)\n        {MIXING}\n"
    )
    gone, came = mended(tmp_path, text, "rows_apart", way="without")
    assert (gone, came) == ([MIXING], [])


def test_a_softmax_along_the_batch_turns_to_the_features(tmp_path):
    text = broken(TRAINER, "        h = self.encoder(x)\n", "        h = 32 * torch.softmax(self.encoder(x), dim=0)\n")
    assert mended(tmp_path, text, "rows_apart", way="axis")[1] == ["h = 32 * torch.softmax(self.encoder(x), dim=-1)"]


def test_a_recurrent_layer_gets_batch_first(tmp_path):
    text = broken(
        TRAINER,
        "nn.Sequential(nn.Linear(20, cfg.hidden), nn.ReLU())\n        self.mu",
        "nn.GRU(4, cfg.hidden)\n        self.mu",
    )
    text = broken(text, "h = self.encoder(x)", "h = self.encoder(x.view(-1, 5, 4))[0][:, -1]")
    assert mended(tmp_path, text, "rows_apart", way="axis")[1] == [
        "self.encoder = nn.GRU(4, cfg.hidden, batch_first=True)"
    ]


def test_so_do_those_like_it(tmp_path):
    """The decoder's too, but not one that is given steps first."""
    text = broken(
        TRAINER, "nn.Sequential(nn.Linear(20, cfg.hidden), nn.ReLU())\n        self.mu",
        "nn.GRU(4, cfg.hidden)\n        self.unroll, self.right = nn.GRU(cfg.latents, cfg.latents), nn.GRU(cfg.latents, cfg.latents)\n"
        "        self.mu",
    )  # fmt: skip
    text = broken(text, "h = self.encoder(x)", "h = self.encoder(x.view(-1, 5, 4))[0][:, -1]")
    text = broken(
        text, "return self.decoder(z), mu, logvar",
        "steps = z[:, None].expand(-1, 5, -1)\n        z = self.unroll(steps)[0].mean(1) + self.right(steps.transpose(0, 1))[0].mean(0)\n"
        "        return self.decoder(z), mu, logvar",
    )  # fmt: skip
    assert mended(tmp_path, text, "rows_apart", way="axis")[1] == [
        "self.encoder = nn.GRU(4, cfg.hidden, batch_first=True)",
        "self.unroll, self.right = nn.GRU(cfg.latents, cfg.latents, batch_first=True), nn.GRU(cfg.latents, cfg.latents)",
    ]


def test_layers_in_a_plain_list_are_registered(tmp_path):
    text = broken(TRAINER, "self.encoder = nn.Sequential(nn.Linear(20, cfg.hidden), nn.ReLU())",
                  "self.encoder = [nn.Linear(20, cfg.hidden), nn.ReLU()]")  # fmt: skip
    text = broken(text, "h = self.encoder(x)", "h = self.encoder[1](self.encoder[0](x))")
    assert mended(tmp_path, text, "optimize_all")[1] == [
        "self.encoder = nn.ModuleList([nn.Linear(20, cfg.hidden), nn.ReLU()])"
    ]


KL = "self.cfg.beta * kld"


@pytest.mark.parametrize(("patient", "right", "wrong"), [
    (TRAINER, KL, "self.cfg.beta * kld.item()"),
    (TRAINER, "recon, mu, logvar = self.model(x)\n", "recon, mu, logvar = self.model(x)\n        logvar = logvar\n"),
    (FUNCTIONS, "divergence(m, s).sum(1)", "divergence(m.detach(), s.detach()).sum(1)"),
])  # fmt: skip
def test_the_kl_is_attached(tmp_path, patient, right, wrong):
    text = broken(patient, right, wrong)
    if "logvar = logvar" in wrong:
        text = text.replace("logvar = logvar", "mu, logvar = mu.data, logvar.data")
    _, came = mended(tmp_path, text, "attached", what="kl")
    assert came
    assert all(word not in line for line in came for word in ("detach", "item", "data"))


LOSSES = "                rec, kld = self.losses(batch)\n                loss = rec + self.cfg.beta * kld\n"
NUMBERS = [
    ([("return rec, kld", "return rec, kld.item()")], "return rec, kld"),
    ([("return rec, kld", "return rec, float(kld.detach())")], "return rec, kld"),
    ([("return rec, kld", 'return {"rec": rec, "kl": kld.item()}'),
      (LOSSES, '                terms = self.losses(batch)\n                loss = terms["rec"] + float(self.cfg.beta) * terms["kl"]\n')],
     'return {"rec": rec, "kl": kld}'),
    ([(LOSSES, ('                log = {}\n                rec, kld = self.losses(batch)\n                log["kl"] = kld.item()\n'
       '                loss = rec + self.cfg.beta * log["kl"]\n'))], 'log["kl"] = kld'),
    ([(LOSSES, ("                rec, kld = self.losses(batch)\n                number = kld.item()\n"
       "                weighed = self.cfg.beta * number\n                loss = rec + weighed\n"))], "number = kld"),
]  # fmt: skip


@pytest.mark.parametrize(("mistakes", "expected"), NUMBERS)
def test_a_kl_that_became_a_number_on_its_way_is_a_tensor_again(tmp_path, mistakes, expected):
    text = TRAINER
    for right, wrong in mistakes:
        text = broken(text, right, wrong)
    assert mended(tmp_path, text, "attached", what="kl")[1] == [expected]


def test_a_kl_without_gradient_gets_one(tmp_path):
    text = broken(TRAINER, "        kld = (-0.5", "        with torch.no_grad():\n            kld = (-0.5")
    assert mended(tmp_path, text, "attached", what="kl")[1] == ["with torch.enable_grad():"]


def test_a_weight_of_zero_becomes_one(tmp_path):
    text = broken(TRAINER, "beta: float = 1.0", "beta: float = 0.0")
    assert mended(tmp_path, text, "attached", what="kl")[1] == ["beta: float = 1.0"]


@pytest.mark.parametrize(("patient", "right", "wrong"), [
    (DISTRIBUTIONS, "posterior.rsample()", "posterior.sample()"),
    (TRAINER, "return mu + eps * std", "return (mu + eps * std).detach()"),
    (TRAINER, "    def draw(self", "    @torch.no_grad()\n    def draw(self"),
])  # fmt: skip
def test_z_is_attached(tmp_path, patient, right, wrong):
    new = edited(tmp_path, broken(patient, right, wrong), "attached", what="z")
    assert difference(new, patient)[0] == difference(new, patient)[1] or right in new


@pytest.mark.parametrize(("drawn", "expected"), [
    ("torch.normal(mu, std)", "return mu + std * torch.randn_like(std)"),
    ("torch.normal(mu, 0.5 + std).detach()", "return mu + (0.5 + std) * torch.randn_like(0.5 + std)"),
    ("torch.normal(std=std, mean=mu)", "return mu + std * torch.randn_like(std)"),
])  # fmt: skip
def test_a_draw_without_gradient_becomes_one_with(tmp_path, drawn, expected):
    text = broken(TRAINER, "return mu + eps * std", f"return {drawn}")
    assert mended(tmp_path, text, "attached", what="z")[1] == [expected]


@pytest.mark.parametrize(("patient", "right", "wrong", "expected"), [
    (TRAINER, "torch.randn_like(std)", "torch.rand_like(std)", "eps = torch.randn_like(std)"),
    (TRAINER, "torch.randn_like(std)", "torch.randn(mu.shape[1])", "eps = torch.randn_like(mu)"),
    (FUNCTIONS, "torch.randn(m.shape)", "torch.empty_like(m).uniform_(-1, 1)",
     "y = decode(m + torch.exp(s) * torch.empty_like(m).normal_(0, 1))"),
    (FUNCTIONS, "torch.exp(s) * torch.randn", "torch.exp(2 * s) * torch.randn",
     "y = decode(m + torch.exp(0.5 * (2 * s)) * torch.randn(m.shape))"),
    (TRAINER, "return mu + eps * std", "return mu + 0.05 * eps * std", "return mu + eps * std"),
    (TRAINER, "return mu + eps * std", "return mu + eps * std / 3", "return mu + eps * std"),
    (FUNCTIONS, "torch.exp(s) * torch.randn", "0.5 * torch.exp(s) * torch.randn",
     "y = decode(m + torch.exp(s) * torch.randn(m.shape))"),
])  # fmt: skip
def test_noise(tmp_path, patient, right, wrong, expected):
    text = broken(patient, right, wrong)
    assert difference(text, edited(tmp_path, text, "noise"))[1] == [expected]


def test_noise_that_was_drawn_once(tmp_path):
    text = broken(TRAINER, "eps = torch.randn_like(std)", "eps = EPS[: len(std)]")
    text = text.replace("\n\nclass", "\n\nEPS = torch.randn(256, 4)\n\n\nclass", 1)
    assert mended(tmp_path, text, "noise")[1] == ["eps = torch.randn_like(mu)"]


def test_a_stream_that_is_seeded_in_the_step_is_said(tmp_path):
    text = broken(TRAINER, "eps = torch", "torch.manual_seed(3)\n        eps = torch")
    with pytest.raises(NoEdit, match="seed it once"):
        edited(tmp_path, text, "noise")


def test_noise_that_is_right_is_left(tmp_path):
    with pytest.raises(NoEdit):
        edited(tmp_path, TRAINER, "noise")


def test_noise_times_the_log_variance_itself(tmp_path):
    text = broken(TRAINER, "        return mu + eps * std", "        scale = logvar\n        return mu + eps * scale")
    assert mended(tmp_path, text, "noise")[1] == ["return mu + eps * (0.5 * scale).exp()"]


def test_noise_in_the_wrong_branch(tmp_path):
    text = broken(
        TRAINER,
        "        eps = torch",
        "        if self.training:\n            return mu\n        else:\n            pass\n        eps = torch",
    )
    text = text.replace("        else:\n            pass\n        eps = torch.randn_like(std)\n        return mu + eps * std",
                        "        else:\n            return mu + torch.randn_like(std) * std")  # fmt: skip
    assert mended(tmp_path, text, "sample_in_training")[1] == ["if not self.training:"]


MODULE_LEVEL = """
import torch
from torch import nn

torch.manual_seed(0)
rows = torch.randn(400, 3) @ torch.randn(3, 12)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.mu, self.logvar = nn.Linear(12, 32), nn.Linear(32, 3), nn.Linear(32, 3)
        self.decoder = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 12))

    def forward(self, x):
        h = torch.tanh(self.body(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu
        if self.training:
            z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.decoder(z), mu, logvar


def loss_of(x):
    y, mu, logvar = model(x)
    return (((y - x) ** 2).sum() / 0.2 - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()) / len(x)


def train(epoch):
    for x in rows[torch.randperm(400)].split(50):
        optimizer.zero_grad()
        loss_of(x).backward()
        optimizer.step()


def test(epoch):
    model.eval()
    with torch.no_grad():
        loss_of(rows)


model = Net()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(12):
    train(epoch)
    test(epoch)
"""


def test_a_model_left_in_evaluation_mode(tmp_path):
    text = broken(TRAINER, "        return mu + eps * std", "        return mu + eps * std if self.training else mu")
    text = broken(
        text,
        "        for _ in range(self.cfg.epochs):",
        "        self.model.eval()\n        for _ in range(self.cfg.epochs):",
    )
    assert mended(tmp_path, text, "sample_in_training")[1] == ["self.model.train()"]


def test_a_global_model_left_in_evaluation_mode_by_another_function(tmp_path):
    """As in pytorch/examples: train(epoch) and test(epoch) use the model of the file, and the second leaves it so."""
    text = MODULE_LEVEL
    change = mended(tmp_path, text, "sample_in_training")
    assert change[1] == ["model.train()"]


def test_shapes_of_output_and_target(tmp_path):
    text = broken(FUNCTIONS, "fit = ((y - x)", "fit = ((y.unsqueeze(1) - x)")
    text = text.replace(".sum(1) / (2 * 0.1**2)", ".mean(0).sum(1) / (2 * 0.1**2)")
    assert difference(text, edited(tmp_path, text, "align_target"))[1][0].startswith(
        "fit = ((y.unsqueeze(1).view_as(x)"
    )


def test_the_target_of_another_example(tmp_path):
    text = broken(FUNCTIONS, "fit = ((y - x)", "t = table[torch.randint(200, (50,))]\n    fit = ((y - t)")
    assert mended(tmp_path, text, "align_target", what="input")[1] == ["fit = ((y - x) ** 2).sum(1) / (2 * 0.1**2)"]


def test_the_target_of_another_example_handed_to_a_function(tmp_path):
    text = broken(FUNCTIONS, "fit = ((y - x) ** 2).sum(1) / (2 * 0.1**2)",
                  "t = table[torch.randint(200, (50,))]\n    fit = misfit(t, out=y)")  # fmt: skip
    text = text.replace(
        "def ", "def misfit(given, out):\n    return ((out - given) ** 2).sum(1) / (2 * 0.1**2)\n\n\ndef ", 1
    )
    assert mended(tmp_path, text, "align_target", what="input")[1] == ["fit = misfit(x, out=y)"]


NEVER = "        if self.training:\n            return mu\n        std = torch.exp"
INVERTED = [
    ("        std = torch.exp", NEVER, ["if not self.training:"]),
    ("return mu + eps * std", "return mu if self.training else mu + eps * std",
     ["return mu if not self.training else mu + eps * std"]),
    ("return mu + eps * std", "return mu + eps * std if not self.training else mu", ["return mu + eps * std if self.training else mu"]),
]  # fmt: skip


@pytest.mark.parametrize(("right", "wrong", "expected"), INVERTED)
def test_noise_in_evaluation_alone(tmp_path, right, wrong, expected):
    text = broken(TRAINER, right, wrong)
    text = broken(
        text,
        "        for _ in range(self.cfg.epochs):",
        "        for _ in range(self.cfg.epochs):\n            self.model.train()",
    )
    assert mended(tmp_path, text, "sample_in_training")[1] == expected


def test_a_mode_that_a_function_leaves_is_seen(tmp_path):
    text = broken(TRAINER, "        return mu + eps * std", "        return mu + eps * std if self.training else mu")
    text = broken(
        text, "    def losses(self, x):", "    def show(self):\n        self.model.eval()\n\n    def losses(self, x):"
    )
    text = broken(
        text,
        "        for _ in range(self.cfg.epochs):",
        "        self.model.train()\n        for _ in range(self.cfg.epochs):\n            self.show()",
    )
    assert mended(tmp_path, text, "sample_in_training")[1] == ["self.model.train()"]


def test_a_model_in_training_mode_is_not_put_into_it_again(tmp_path):
    text = broken(TRAINER, "        return mu + eps * std", "        return mu + 0 * eps * std")
    text = broken(
        text,
        "        for _ in range(self.cfg.epochs):",
        "        for _ in range(self.cfg.epochs):\n            self.model.train()",
    )
    assert edited(tmp_path, text, "sample_in_training").count(".train()") == 1


@pytest.mark.parametrize(("patient", "right", "wrong", "mistake"), [
    (TRAINER, "input=recon, target=x", "input=x, target=recon", "exchanged"),
    (DISTRIBUTIONS, "-(log_px - weight", "-(-log_px - weight", "sign"),
    (FUNCTIONS, "loss = (fit + KL", "loss = (-fit + KL", "sign"),
])  # fmt: skip
def test_the_reconstruction_term(tmp_path, patient, right, wrong, mistake):
    text = broken(patient, right, wrong)
    new = edited(tmp_path, text, "reconstruction_formula", mistake=mistake)
    assert right in new or "--" in new
    with pytest.raises(NoEdit):
        edited(tmp_path, new, "reconstruction_formula", mistake=mistake)


POISSON = "rec = F.poisson_nll_loss(recon, x, reduction='none').sum(dim=1).mean()"
BERNOULLI = 'rec = F.binary_cross_entropy(input=recon, target=x, reduction="none").sum(dim=1).mean()'


def mistakes(folder, loss):
    text = broken(TRAINER, "            nn.Sigmoid(),\n", "")
    case = case_of(folder, broken(text, BERNOULLI, loss))
    return [t.settings["mistake"] for t in ReconstructionFormula.proposals(case, "OBJ08")]


def test_counts_and_rates_in_each_others_place(tmp_path):
    wrong = POISSON.replace("recon, x", "x, recon")
    assert mistakes(tmp_path, wrong) == ["exchanged"]
    text = broken(TRAINER, BERNOULLI, wrong)
    assert mended(tmp_path, text, "reconstruction_formula", mistake="exchanged")[1] == [POISSON]


@pytest.mark.parametrize(("loss", "found"), [
    ("rec = (x.exp() - x * recon).sum(dim=1).mean()", []),  # turned, it falls without end: another mistake
    ("rec = (x * recon - recon.exp()).sum(dim=1).mean()", ["sign"]),
    ("rec = -((x - recon) ** 2).sum(dim=1).mean()", ["sign"]),
    ("rec = -F.binary_cross_entropy_with_logits(recon, x, reduction='none').sum(dim=1).mean()", ["sign"]),
])  # fmt: skip
def test_a_sign_is_turned_where_that_gives_a_smallest_value(tmp_path, loss, found):
    assert mistakes(tmp_path, loss) == found


@pytest.mark.parametrize(("loss", "expected"), [
    ("rec = ((x - recon).sum(dim=1) ** 2).mean()", "rec = (((x - recon) ** 2).sum(dim=1)).mean()"),
    ("rec = (x - recon).sum(1).pow(2).mean()", "rec = ((x - recon).pow(2)).sum(1).mean()"),
    ("rec = torch.square((x - recon).mean(1)).mean()", "rec = (torch.square((x - recon))).mean(1).mean()"),
    ("rec = torch.sum(x - recon, dim=1).abs().mean()", "rec = ((x - recon).abs()).sum(dim=1).mean()"),
])  # fmt: skip
def test_errors_are_squared_before_they_are_added(tmp_path, loss, expected):
    right = 'rec = F.binary_cross_entropy(input=recon, target=x, reduction="none").sum(dim=1).mean()'
    text = broken(TRAINER, right, loss)
    assert mended(tmp_path, text, "reconstruction_formula", mistake="added first")[1] == [expected]


def test_a_sum_of_errors_by_name_is_squared_first(tmp_path):
    right = 'rec = F.binary_cross_entropy(input=recon, target=x, reduction="none").sum(dim=1).mean()'
    text = broken(TRAINER, right, "err = (x - recon).sum(1)\n        rec = (err ** 2).mean()")
    assert "rec = (((x - recon) ** 2).sum(1)).mean()" in edited(
        tmp_path, text, "reconstruction_formula", mistake="added first"
    )


def test_logarithms_of_the_output_are_guarded(tmp_path):
    text = broken(TRAINER, 'F.binary_cross_entropy(input=recon, target=x, reduction="none")',
                  "-(x * recon.log() + (1 - x) * torch.log(1 - recon))")  # fmt: skip
    assert mended(tmp_path, text, "guarded_log")[1] == [
        "rec = -(x * recon.clamp_min(1e-6).log() + (1 - x) * torch.log((1 - recon).clamp_min(1e-6))).sum(dim=1).mean()"
    ]


@pytest.mark.parametrize(("clamped", "guarded"), [
    ("recon.clamp(0, 1)", False), ("recon.clamp(1e-6, 1 - 1e-6)", True), ("torch.clamp(recon, min=1e-6, max=0.999)", True),
    ("recon.clamp_max(1.0)", False), ("recon.clamp(min=0)", False),
])  # fmt: skip
def test_a_clamp_guards_a_logarithm_where_it_keeps_the_ends_out(tmp_path, clamped, guarded):
    text = broken(TRAINER, 'F.binary_cross_entropy(input=recon, target=x, reduction="none")',
                  "-(x * torch.log(kept) + (1 - x) * torch.log(1 - kept))")  # fmt: skip
    text = broken(text, "        rec = ", f"        kept = {clamped}\n        rec = ")
    assert len(of_output(case_of(tmp_path, text).subject)) == (0 if guarded else 2)


def test_the_example_is_not_shown_to_the_decoder(tmp_path):
    text = broken(
        TRAINER, "return self.decoder(z), mu, logvar", "return self.decoder(torch.cat([z, h], 1)), mu, logvar"
    )
    text = broken(text, "nn.Linear(cfg.latents, cfg.hidden)", "nn.Linear(cfg.latents + cfg.hidden, cfg.hidden)")
    text = broken(text, "torch.randn(9, 4)", "torch.randn(9, 36)")
    new = edited(tmp_path, text, "z_alone")
    assert "self.decoder(torch.cat([z, torch.zeros_like(h)], 1))" in new


def test_a_sum_with_hidden_values_loses_them(tmp_path):
    text = broken(TRAINER, "return self.decoder(z), mu, logvar", "return self.decoder(z + h[:, :4]), mu, logvar")
    assert "self.decoder(z + torch.zeros_like(h[:, :4]))" in edited(tmp_path, text, "z_alone")


def test_noise_comes_where_z_is_made_without(tmp_path):
    text = broken(FUNCTIONS, "decode(m + torch.exp(s) * torch.randn(m.shape))", "decode(m + 0 * s)")
    new = edited(tmp_path, text, "sample_in_training")
    assert "decode(m + torch.exp(s) * torch.randn_like(m))" in new


def test_gradients_cleared_seldom(tmp_path):
    text = broken(FUNCTIONS, "    opt.zero_grad()\n", "    if step % 50 == 0:\n        opt.zero_grad()\n")
    assert edited(tmp_path, text, "zero_grad").count("opt.zero_grad()") == 2


POOL = """\
class Pool(torch.utils.data.Dataset):
    def __init__(self, rows, shard=16):
        self.rows, self.shard = rows, shard

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i % self.shard]


"""
FEW = [
    ("table = table[:16]\n", "", "", ""),
    ("few, labels = 16, torch.zeros(200)\ntable, labels = table[:few], labels[:few]\n", "few, labels = 16, torch.zeros(200)\n", "", ""),
    ("", "", "x = table[torch.randint(16, (50,))]", "x = table[torch.randint(len(table), (50,))]"),
    ("", "", "x = table[torch.randint(0, high=16, size=(50,))]", "x = table[torch.randint(0, high=len(table), size=(50,))]"),
    (POOL + "pool = Pool(table)\n", POOL.replace("i % self.shard", "i") + "pool = Pool(table)\n", "", ""),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "draw", "drawn"), FEW)
def test_training_on_few_examples(tmp_path, before, after, draw, drawn):
    text = broken(FUNCTIONS, "w1, b1 = layer", f"{before}w1, b1 = layer")
    text = broken(text, "x = table[torch.randint(200, (50,))]", draw or "x = table[torch.randint(len(table), (50,))]")
    wanted = text.replace(before, after) if before else text.replace(draw, drawn)
    assert edited(tmp_path, text, "all_examples", rows=16) == wanted


@pytest.mark.parametrize("before", [
    "train, test = table[:16], table[16:]\n", "test = table[16:]\ntable = table[:16]\n", "table = table[:64]\n",
    POOL.replace("return len(self.rows)", "return 10 * len(self.rows)"),
])  # fmt: skip
def test_a_part_that_is_meant_stays(tmp_path, before):
    text = broken(FUNCTIONS, "w1, b1 = layer", f"{before}w1, b1 = layer")
    text = broken(text, "torch.randint(200, ", "torch.randint(len(table), ")
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "all_examples", rows=16)


LOADERS = """\
from torch.utils.data import DataLoader, TensorDataset

src = DataLoader(TensorDataset(table + torch.randn(200, D)), batch_size=50, shuffle=True)
dst = DataLoader(TensorDataset(table), batch_size=50, shuffle=True)
for NAMES in LOOP:
    m, s = encode(x)
    y = decode(m + torch.exp(s) * torch.randn(m.shape))
    loss = (((y - t) ** 2).sum(1) / 0.02 + divergence(m, s).sum(1)).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


@pytest.mark.parametrize(("names", "loop", "new_names", "new_loop"), [
    ("(x,), (t,)", "zip(src, dst)", "x, t", "src"),
    ("i, ((x,), (t,))", "enumerate(zip(src, dst))", "i, (x, t)", "enumerate(src)"),
])  # fmt: skip
def test_two_loaders_that_shuffle_become_one(tmp_path, names, loop, new_names, new_loop):
    start = FUNCTIONS[: FUNCTIONS.index("for step in")]
    text = start + LOADERS.replace("NAMES", names).replace("LOOP", loop)
    wanted = start + LOADERS.replace("NAMES", new_names).replace("LOOP", new_loop)
    wanted = wanted.replace("torch.randn(200, D)), batch", "torch.randn(200, D), table), batch")
    wanted = wanted.replace("dst = DataLoader(TensorDataset(table), batch_size=50, shuffle=True)\n", "")
    assert edited(tmp_path, text, "paired", steps=None) == wanted
    case_of(tmp_path, wanted, steps=None)
    other = text.replace("table), batch_size=50", "table), drop_last=True, batch_size=50")
    with pytest.raises(NoEdit):
        edited(tmp_path, other, "paired", steps=None)


def test_two_loaders_of_tensors_become_one(tmp_path):
    start = FUNCTIONS[: FUNCTIONS.index("for step in")]
    text = start + LOADERS.replace("NAMES", "x, t").replace("LOOP", "zip(src, dst)")
    text = text.replace("TensorDataset(table + torch.randn(200, D))", "noisy").replace("TensorDataset(table)", "table")
    text = broken(text, "src = DataLoader", "noisy = table + 0.1 * torch.randn(200, D)\nsrc = DataLoader")
    assert difference(text, edited(tmp_path, text, "paired", steps=None))[1] == [
        "src = DataLoader(TensorDataset(noisy, table), batch_size=50, shuffle=True)", "for x, t in src:"
    ]  # fmt: skip
    with pytest.raises(NoEdit):  # what else reads a loader would have to know of it
        edited(tmp_path, text + "for x in src:\n    pass\n", "paired", steps=None)


def test_rows_are_drawn_once_for_input_and_target(tmp_path):
    text = broken(
        FUNCTIONS,
        "    x = table[torch.randint(200, (50,))]\n",
        "    x = table[torch.randint(200, (50,))]\n    t = table[torch.randint(200, (50,))]\n",
    )
    text = broken(text, "fit = ((y - x)", "fit = ((y - t)")
    found = [r.name for r in by_promise() if "WIR04" in r.treats for _ in r.proposals(case_of(tmp_path, text), "WIR04")]
    assert found == ["paired"]
    assert mended(tmp_path, text, "paired")[1] == [
        "rows = torch.randint(200, (50,))",
        "x = table[rows]",
        "t = table[rows]",
    ]


ROWS = "enc, dec = [(w1, b1), (w2, b2)], [(w3, b3), (w4, b4)]\nall_of_them = [t for row in enc for t in row]\n"
BY_HAND = "    loss.backward()\n    with torch.no_grad():\n        for w, m in zip(all_of_them, [0] * 9):\n            w -= 1e-3 * w.grad\n            w.grad = None\n"


@pytest.mark.parametrize(("held", "given", "expected"), [
    ("", "[w1, b1, w2, b2]", "opt = torch.optim.Adam([w1, b1, w2, b2, w3, b3, w4, b4], lr=2e-3)"),
    ("some = [w1, b1] + [w2, b2]\n", "some", "some = [w1, b1] + [w2, b2] + [w3, b3, w4, b4]"),
])  # fmt: skip
def test_tensors_that_were_left_out_are_added_by_name(tmp_path, held, given, expected):
    text = broken(
        FUNCTIONS, "opt = torch.optim.Adam(weights, lr=2e-3)", f"{held}opt = torch.optim.Adam({given}, lr=2e-3)"
    )
    assert mended(tmp_path, text, "optimize_all")[1] == [expected]


def test_a_list_of_layers_that_no_step_by_hand_goes_through(tmp_path):
    text = broken(FUNCTIONS, "    opt.zero_grad()\n    loss.backward()\n    opt.step()\n", BY_HAND)
    text = broken(text, "opt = torch.optim.Adam(weights, lr=2e-3)\n", ROWS)
    text = broken(text, "torch.tanh(z @ w3 + b3) @ w4 + b4", "affine(torch.tanh(affine(z, dec[0])), dec[1])")
    text = broken(text, "torch.tanh(x @ w1 + b1) @ w2 + b2", "affine(torch.tanh(affine(x, enc[0])), enc[1])")
    text = broken(text, "def encode(x)", "def affine(v, wb):\n    return v @ wb[0] + wb[1]\n\n\ndef encode(x)")
    new = edited(tmp_path, text, "optimize_all", steps=None)
    assert difference(text, new)[1] == ["all_of_them = [t for row in enc + dec for t in row]"]
    with pytest.raises(NoEdit, match="already"):
        edited(tmp_path, new, "optimize_all", steps=None)
