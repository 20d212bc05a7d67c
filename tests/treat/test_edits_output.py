"""What the decoder puts out, what the data is, and what the heads may say."""

from __future__ import annotations

import pytest
from patients import CONVOLUTIONS, DISTRIBUTIONS, FUNCTIONS, TRAINER, broken, case_of, difference, edited

from whyvae.treat.remedy import NoEdit

HEADS = "mu, logvar = self.mu(h), self.logvar(h)"


def changed(folder, text, remedy, **settings):
    new = edited(folder, text, remedy, **settings)
    compile(new, "script", "exec")
    return difference(text, new)


def test_the_last_layer_of_a_sequential_is_left_out(tmp_path):
    assert changed(tmp_path, TRAINER, "output_activation", at="last") == (["nn.Sigmoid(),"], [])


def test_a_function_around_the_output_is_left_out(tmp_path):
    text = broken(
        FUNCTIONS, "return torch.tanh(z @ w3 + b3) @ w4 + b4", "return F.relu(torch.tanh(z @ w3 + b3) @ w4 + b4)"
    )
    assert changed(tmp_path, text, "output_activation")[1] == ["return torch.tanh(z @ w3 + b3) @ w4 + b4"]


def test_a_method_of_the_output_is_left_out(tmp_path):
    text = broken(DISTRIBUTIONS, "Normal(decoder(code), 0.2)", "Normal(decoder(code).sigmoid(), 0.2)")
    assert changed(tmp_path, text, "output_activation")[1] == [
        "likelihood = Independent(Normal(decoder(code), 0.2), 1)"
    ]


def test_a_layer_in_a_list_becomes_an_identity(tmp_path):
    old = "self.decoder = nn.Sequential(\n            nn.Linear(cfg.latents, cfg.hidden),\n            nn.ReLU(),\n            nn.Linear(cfg.hidden, 20),\n            nn.Sigmoid(),\n        )"
    new = "layers = [nn.Linear(cfg.latents, cfg.hidden), nn.Tanh(), nn.Linear(cfg.hidden, 20)]\n        self.decoder = nn.Sequential(*layers, *[nn.Sigmoid()])"
    text = broken(TRAINER, old, new)
    assert changed(tmp_path, text, "output_activation")[1] == [
        "self.decoder = nn.Sequential(*layers, *[nn.Identity()])"
    ]


def test_the_loss_on_probabilities_where_the_decoder_ends_in_a_sigmoid(tmp_path):
    text = broken(TRAINER, "F.binary_cross_entropy(input", "F.binary_cross_entropy_with_logits(input")
    _, came = changed(tmp_path, text, "output_activation", at="loss")
    assert came == ['rec = F.binary_cross_entropy(input=recon, target=x, reduction="none").sum(dim=1).mean()']


@pytest.mark.parametrize(("loss", "mended"), [
    ('F.poisson_nll_loss(recon, x, reduction="none").sum(1).mean()', 'F.poisson_nll_loss(recon, x, reduction="none", log_input=False).sum(1).mean()'),
    ("F.poisson_nll_loss(recon, x, True, reduction='sum') / len(x)", "F.poisson_nll_loss(recon, x, False, reduction='sum') / len(x)"),
    ("F.poisson_nll_loss(recon, x, log_input=True)", "F.poisson_nll_loss(recon, x, log_input=False)"),
    ("nn.PoissonNLLLoss(reduction='sum')(recon, x)", "nn.PoissonNLLLoss(reduction='sum', log_input=False)(recon, x)"),
    ("nn.PoissonNLLLoss()(recon, x)", "nn.PoissonNLLLoss(log_input=False)(recon, x)"),
])  # fmt: skip
def test_a_rate_is_given_to_the_loss_as_one(tmp_path, loss, mended):
    text = broken(TRAINER, "nn.Sigmoid(),", "nn.Softplus(),")
    text = broken(text, 'F.binary_cross_entropy(input=recon, target=x, reduction="none").sum(dim=1).mean()', loss)
    assert changed(tmp_path, text, "output_activation", at="loss")[1] == [f"rec = {mended}"]


def test_so_it_is_where_the_loss_is_made(tmp_path):
    text = broken(TRAINER, "nn.Sigmoid(),", "nn.Softplus(),")
    text = broken(
        text, 'F.binary_cross_entropy(input=recon, target=x, reduction="none").sum(dim=1).mean()', "criterion(recon, x)"
    )
    text = text.replace("\nclass Net", "\ncriterion = nn.PoissonNLLLoss()\n\n\nclass Net")
    assert changed(tmp_path, text, "output_activation", at="loss")[1] == [
        "criterion = nn.PoissonNLLLoss(log_input=False)"
    ]


def test_where_no_activation_is_there_is_nothing_to_leave_out(tmp_path):
    with pytest.raises(NoEdit):
        edited(tmp_path, FUNCTIONS, "output_activation")


@pytest.mark.parametrize(("wrong", "right"), [
    ("mu, logvar = torch.tanh(self.mu(h)), F.softplus(self.logvar(h))", HEADS),
    ("mu, logvar = self.mu(h).relu(), self.logvar(h).clamp(-1, 1)", HEADS),
    ("mu, logvar = self.mu(h), torch.clamp(self.logvar(h), min=0)", HEADS),
])  # fmt: skip
def test_heads_are_freed(tmp_path, wrong, right):
    assert changed(tmp_path, broken(TRAINER, HEADS, wrong), "free_heads")[1] == [right]


def test_a_clamp_far_out_stays_beside_a_head_that_is_confined(tmp_path):
    text = broken(TRAINER, HEADS, "mu, logvar = F.relu(self.mu(h)), self.logvar(h).clamp(-12, 8)")
    new = edited(tmp_path, text, "free_heads")
    assert difference(text, new)[1] == ["mu, logvar = self.mu(h), self.logvar(h).clamp(-12, 8)"]


def test_a_sigmoid_of_a_helper_is_taken_out_of_its_row(tmp_path):
    text = broken(DISTRIBUTIONS, "if __name__", HELPER.replace("nn.Linear(3, 30)", "nn.Linear(3, 30), nn.Sigmoid()"))
    text = broken(text, "nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 30))", "nn.ModuleList([narrow()])[0]")
    _, came = changed(tmp_path, text, "output_activation", at="last")
    assert came == ["return nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 30))"]


def test_a_head_built_with_its_activation_loses_it(tmp_path):
    text = broken(
        TRAINER,
        "self.mu = nn.Linear(cfg.hidden, cfg.latents)",
        "self.mu = nn.Sequential(nn.Linear(cfg.hidden, cfg.latents), nn.Tanh())",
    )
    assert changed(tmp_path, text, "free_heads")[1] == ["self.mu = nn.Sequential(nn.Linear(cfg.hidden, cfg.latents))"]


def test_softplus_that_makes_a_standard_deviation_is_no_fence(tmp_path):
    with pytest.raises(NoEdit):
        edited(tmp_path, DISTRIBUTIONS, "free_heads")


@pytest.mark.parametrize(("patient", "expected"), [
    (TRAINER, "trainer = Trainer(Config(), (torch.rand(128, 20) > 0.5).float() / 255)"),
    (FUNCTIONS, "table = (torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)) / 255"),
    (DISTRIBUTIONS, "data = (torch.randn(300, 5) @ torch.randn(5, 30) + 0.2 * torch.randn(300, 30)) / 255"),
])  # fmt: skip
def test_data_is_scaled_where_it_is_made(tmp_path, patient, expected):
    (line,) = changed(tmp_path, patient, "scale_data", how="range", low=0, high=255)[1]
    assert line.split("  #")[0] == expected


def test_a_range_around_zero(tmp_path):
    (line,) = changed(tmp_path, TRAINER, "scale_data", how="range", low=-1, high=1)[1]
    assert line.split("  #")[0] == "trainer = Trainer(Config(), ((torch.rand(128, 20) > 0.5).float() + 1) / 2)"


def test_what_lies_beyond_a_range_that_was_seen_is_cut_off(tmp_path):
    """Of other examples than those recorded, some reach a little further: a sigmoid, or a BCE, never takes them."""
    (line,) = changed(tmp_path, TRAINER, "scale_data", how="range", low=-0.5, high=4.75)[1]
    scaled = "(((torch.rand(128, 20) > 0.5).float() + 0.5) / 5.25).clip(0, 1)"
    assert line.split("  #")[0] == f"trainer = Trainer(Config(), {scaled})"


def test_each_feature_is_scaled_by_its_own_spread(tmp_path):
    _, came = changed(tmp_path, FUNCTIONS, "scale_data", how="standardise")
    assert came == ["table = (table - table.mean(0)) / (table.std(0) + 1e-6)"]


@pytest.mark.parametrize(("made", "after"), [
    ("table = (table - table.mean()) / table.std()", "table = (table - table.mean(0)) / table.std(0)"),
    ("mid, far = torch.mean(table), torch.std(table, correction=0)\ntable = (table - mid) / far",
     "mid, far = torch.mean(table, dim=0), torch.std(table, dim=0, correction=0)\ntable = (table - mid) / far"),
    ("mid, far = table.mean(0), table.std(keepdim=True)\ntable = (table - mid) / far\nprint(table.std())",
     "mid, far = table.mean(0), table.std(0, keepdim=True)\ntable = (table - mid) / far\nprint(table.std())"),
    ("def scaled(t):\n    return (t - t.mean()) / t.std()\n\n\ntable = scaled(table)",
     "def scaled(t):\n    return (t - t.mean(0)) / t.std(0)\n\n\ntable = scaled(table)"),
])  # fmt: skip
def test_one_spread_of_a_whole_table_becomes_one_a_column(tmp_path, made, after):
    last = "table = torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)\n"
    text = broken(FUNCTIONS, last, f"{last}{made}\n")
    assert edited(tmp_path, text, "scale_data", how="standardise") == text.replace(made, after)


@pytest.mark.parametrize("made", [
    "far = float(table.std())", "far = table.std(1)", "other = table * 2\nfar, near = table.std(), other.std()",
])  # fmt: skip
def test_a_spread_that_is_no_scale_of_one_table_is_left(tmp_path, made):
    last = "table = torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)\n"
    text = broken(FUNCTIONS, last, f"{last}{made}\n")
    assert made in edited(tmp_path, text, "scale_data", how="standardise")


MADE = """\
class Table:
    def make(self, n):
        return 100 * (torch.randn(n, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(n, D))


source = Table()
"""


@pytest.mark.parametrize(("made", "after"), [
    ("table, test = source.make(200), source.make(50)\n", "table, test = source.make(200), source.make(50)\n"),
    ("table = source.make(200)\ntest = source.make(50)\ntest = test[:40]\n", "test = test[:40]\n"),
    (("def prepare(raw):\n    return raw - 1.0, 1.0\n\n\nrows, shift = prepare(source.make(250).numpy())\n"
      "table, test = torch.tensor(rows[:200]), torch.tensor(rows[200:])\n"),
     "table, test = torch.tensor(rows[:200]), torch.tensor(rows[200:])\n"),
    (("whole = source.make(250).numpy()\nkept, left = whole[:200], whole[200:]\nfar = kept.mean(0)\n"
      "table = torch.from_numpy(kept - far)\ntest = torch.from_numpy(left - far)\n"), "test = torch.from_numpy(left - far)\n"),
])  # fmt: skip
def test_test_data_is_scaled_by_the_numbers_of_the_training_data(tmp_path, made, after):
    text = broken(
        FUNCTIONS, "table = torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)\n", MADE + made
    )
    new = edited(tmp_path, text, "scale_data", how="standardise")
    added = "table_mean, table_std = table.mean(0), table.std(0) + 1e-6\ntable, test = (table - table_mean) / table_std, (test - table_mean) / table_std  # new examples come out on this scale\n"
    assert new == text.replace(after, after + added)


def test_labels_and_what_is_made_of_another_array_are_left_as_they_are(tmp_path):
    made = (
        "whole, other = source.make(250).numpy(), source.make(250).numpy()\nkept, left = whole[:200], other[200:]\n"
        "table = torch.from_numpy(kept - 1.0)\ntest = torch.from_numpy(left - 1.0)\n"
    )
    text = broken(
        FUNCTIONS, "table = torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)\n", MADE + made
    )
    new = edited(tmp_path, text, "scale_data", how="standardise")
    assert "table = (table - table.mean(0)) / (table.std(0) + 1e-6)\n" in new
    assert new.count("test") == text.count("test")


def test_data_that_is_used_before_all_of_it_is_made_is_left(tmp_path):
    made = "table = source.make(200)\nrows = torch.utils.data.TensorDataset(table)\ntest = source.make(50)\n"
    text = broken(
        FUNCTIONS, "table = torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)\n", MADE + made
    )
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "scale_data", how="standardise")


def test_arrays_that_become_several_tensors_are_scaled_before(tmp_path):
    text = broken(FUNCTIONS, "import math\n", "import math\n\nimport numpy as np\n")
    text = broken(text, "table = torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)\n",
                  "array = np.random.rand(250, D).astype('float32')\narray = array[np.random.permutation(250)]\n"
                  "table, test = torch.tensor(array[:200]), torch.tensor(array[200:])\n")  # fmt: skip
    (line,) = changed(tmp_path, text, "scale_data", how="range", low=0, high=255)[1]
    assert line.split("  #")[0] == "array = np.random.rand(250, D).astype('float32') / 255"


GIVEN = """\
def batches():
    RETURNED


for step in range(3):
    for x in batches():
        m, s = encode(x)
        y = decode(m + torch.exp(s) * torch.randn(m.shape))
        loss = (((y - x) ** 2).sum(1) / 0.02 + divergence(m, s).sum(1)).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
"""


@pytest.mark.parametrize("given", [
    "return torch.utils.data.DataLoader(table, batch_size=50)", "return table.split(50)",
    "loader = torch.utils.data.DataLoader(table, batch_size=50)\n    return loader",
])  # fmt: skip
def test_data_is_found_behind_a_function_that_gives_loaders(tmp_path, given):
    text = FUNCTIONS[: FUNCTIONS.index("for step in")] + GIVEN.replace("RETURNED", given)
    assert edited(tmp_path, text, "scale_data", how="range", low=0, high=2) == text.replace(
        "table = torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)",
        "table = (torch.randn(200, Z) @ torch.randn(Z, D) + 0.1 * torch.randn(200, D)) / 2",
    )


DATA_SET = """\
class Rows(torch.utils.data.Dataset):
    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        row = self.rows[i]
        return ROW


loader = torch.utils.data.DataLoader(Rows(table), batch_size=50)
for step in range(3):
    for OVER in GOES:
        m, s = encode(x)
        y = decode(m + torch.exp(s) * torch.randn(m.shape))
        loss = (((y - x) ** 2).sum(1) / 0.02 + divergence(m, s).sum(1)).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
"""


@pytest.mark.parametrize(
    ("row", "over", "goes", "scaled"),
    [
        ("row.float()", "x", "loader", "row.float() / 2"),
        ("i % 3, row + 0.5", "_, x", "loader", "i % 3, (row + 0.5) / 2"),
        ("row.clone(), i % 3", "k, (x, label)", "enumerate(loader)", "row.clone() / 2, i % 3"),
    ],
)
def test_what_a_data_set_returns_is_scaled_there(tmp_path, row, over, goes, scaled):
    text = FUNCTIONS[: FUNCTIONS.index("for step in")]
    text += DATA_SET.replace("ROW", row).replace("OVER", over).replace("GOES", goes)
    wanted = text.replace(f"return {row}\n", f"return {scaled}  # new examples come out on this scale\n")
    assert edited(tmp_path, text, "scale_data", how="range", low=0, high=2) == wanted


def test_what_gives_batch_after_batch_is_not_divided(tmp_path):
    text = FUNCTIONS[: FUNCTIONS.index("for step in")] + GIVEN.replace("RETURNED", "yield from table.split(50)")
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "scale_data", how="range", low=0, high=2)


STANDARDISED = [
    ("images = torch.rand(9, 9)\nimages = (images - 0.1307) / 0.3081\n", "images = torch.rand(9, 9)\n"),
    ("MEAN, SD = 0.1307, 0.3081\nimages = (torch.rand(9, 9) - MEAN) / SD\n", "MEAN, SD = 0.1307, 0.3081\nimages = torch.rand(9, 9)\n"),
    ("if False:\n    way = T.Compose([T.ToTensor(), T.Normalize((0.1307,), (0.3081,))])\n",
     "if False:\n    way = T.Compose([T.ToTensor()])\n"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), STANDARDISED)
def test_pixels_that_were_standardised_are_pixels_again(tmp_path, before, after):
    text = broken(FUNCTIONS, "\n\n\ndef layer", f"\n{before}\n\ndef layer") + "pictures = new * 0.3081 + 0.1307\n"
    wanted = text.replace(before, after).replace("new * 0.3081 + 0.1307", "new")
    assert edited(tmp_path, text, "not_standardised", low=-0.4242, high=2.821) == wanted


@pytest.mark.parametrize("range_", [(-0.4242, 1.0), (-2.0, 2.821), (-0.4242, 4.0)])
def test_numbers_that_do_not_lead_to_pixels_stay(tmp_path, range_):
    text = broken(FUNCTIONS, "\n\n\ndef layer", "\nimages = (torch.rand(9, 9) - 0.1307) / 0.3081\n\n\ndef layer")
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "not_standardised", low=range_[0], high=range_[1])


@pytest.mark.parametrize(("patient", "part", "expected"), [
    (TRAINER, "decoder", ["hidden: int = 256"]),
    (TRAINER, "encoder", ["hidden: int = 256"]),
    (DISTRIBUTIONS, "encoder", ["def __init__(self, width=256, code=5):"]),
])  # fmt: skip
def test_hidden_layers_get_a_width(tmp_path, patient, part, expected):
    assert changed(tmp_path, patient, "wider", part=part, width=256)[1] == expected


def test_written_widths_are_changed_on_both_sides(tmp_path):
    (line,) = changed(tmp_path, DISTRIBUTIONS, "wider", part="decoder", width=256)[1]
    assert "nn.Sequential(nn.Linear(5, 256), nn.Tanh(), nn.Linear(256, 30))" in line


def test_norms_between_layers_follow(tmp_path):
    text = broken(TRAINER, "nn.Linear(cfg.latents, cfg.hidden),\n            nn.ReLU(),\n            nn.Linear(cfg.hidden, 20)",
                  "nn.Linear(cfg.latents, 7),\n            nn.BatchNorm1d(7),\n            nn.ReLU(),\n            nn.Linear(7, 20)")  # fmt: skip
    _, came = changed(tmp_path, text, "wider", part="decoder", width=64)
    assert came == ["nn.Linear(cfg.latents, 64),", "nn.BatchNorm1d(64),", "nn.Linear(64, 20),"]


def test_a_linear_decoder_gets_a_hidden_layer(tmp_path):
    hidden = "nn.Linear(cfg.latents, cfg.hidden),\n            nn.ReLU(),\n            nn.Linear(cfg.hidden, 20)"
    text = broken(TRAINER, hidden, "nn.Linear(cfg.latents, 20, bias=False)")
    three = "nn.Linear(cfg.latents, 64, bias=False), nn.ReLU(), nn.Linear(64, 20, bias=False)"
    assert changed(tmp_path, text, "wider", part="decoder", width=64)[1] == [f"{three},"]
    alone = broken(DISTRIBUTIONS, "nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 30))", "nn.Linear(5, 30)")
    (line,) = changed(tmp_path, alone, "wider", part="decoder", width=64)[1]
    assert "nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 30))" in line


@pytest.mark.parametrize(("built", "expected"), [
    ("inner = cfg.hidden // 16\n        self.decoder = nn.Sequential(nn.Linear(cfg.latents, inner), nn.ReLU(), nn.Linear(inner, 20), nn.Sigmoid())",
     ["inner = max(64, cfg.hidden // 16)"]),
    ("self.decoder = nn.Sequential(nn.Linear(cfg.latents, cfg.hidden // 16), nn.ReLU(), nn.Linear(cfg.hidden // 16, 20), nn.Sigmoid())",
     ["self.decoder = nn.Sequential(nn.Linear(cfg.latents, max(64, cfg.hidden // 16)), nn.ReLU(), nn.Linear(max(64, cfg.hidden // 16), 20), nn.Sigmoid())"]),
])  # fmt: skip
def test_a_width_that_is_computed_is_that_at_least(tmp_path, built, expected):
    start, end = TRAINER.index("self.decoder = nn.Sequential("), TRAINER.index("\n\n    def forward")
    text = TRAINER[:start] + built + TRAINER[end:]
    assert changed(tmp_path, text, "wider", part="decoder", width=64)[1] == expected


HELPER = """\
def narrow():
    return nn.Sequential(nn.Linear(5, 3), nn.Tanh(), nn.Linear(3, 30))


if __name__"""


def test_layers_that_a_function_makes_once_are_changed_there(tmp_path):
    text = broken(DISTRIBUTIONS, "if __name__", HELPER)
    text = broken(text, "nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 30))", "narrow()")
    text = broken(
        text,
        "    train(Encoder(), decoder := narrow(), data",
        "    first, decoder = Encoder(), narrow()\n    train(first, decoder, data",
    )
    _, came = changed(tmp_path, text, "wider", part="decoder", width=64)
    assert came == ["return nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 30))"]
    with pytest.raises(NoEdit):
        edited(
            tmp_path,
            broken(text, "    torch.manual_seed(2)", "    other = narrow()\n    torch.manual_seed(2)"),
            "wider",
            part="decoder",
            width=64,
        )


def test_functions_without_layers_are_widened_where_the_number_stands(tmp_path):
    assert changed(tmp_path, FUNCTIONS, "wider", part="decoder", width=64)[1] == ["D, H, Z = 16, 64, 3"]


def test_functions_without_layers_whose_width_may_be_two_numbers_are_left(tmp_path):
    text = broken(FUNCTIONS, "D, H, Z = 16, 24, 3", "D, H, Z = 16, 24, 3\nBATCH = 24")
    with pytest.raises(NoEdit, match="matmul"):
        edited(tmp_path, text, "wider", part="decoder", width=64)


def test_more_latents_reach_heads_decoder_and_draws(tmp_path):
    assert changed(tmp_path, TRAINER, "more_latents", latents=16)[1] == [
        "latents: int = 16", "images = trainer.model.decoder(torch.randn(9, 16))"
    ]  # fmt: skip


def test_noise_of_a_written_size_follows(tmp_path):
    text = broken(
        DISTRIBUTIONS,
        "posterior.rsample()",
        "posterior.base_dist.loc + posterior.base_dist.scale * torch.randn(len(x), 5)",
    )
    new = edited(tmp_path, text, "more_latents", latents=9)
    assert "* torch.randn(len(x), 9)" in new


def test_a_name_of_a_loader_is_no_name_of_data(tmp_path):
    text = FUNCTIONS.replace(
        "for step in range(40):\n    x = table[torch.randint(200, (50,))]",
        "loader = torch.utils.data.DataLoader(torch.randn(200, D) * 9, batch_size=50)\nfor x in loader:",
    )
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "scale_data", how="standardise")


def test_the_name_of_a_parameter_is_none_where_its_value_is_made(tmp_path):
    text = broken(
        TRAINER,
        "trainer = Trainer(Config(), (torch.rand(128, 20) > 0.5).float())",
        "trainer = Trainer(Config(), torch.rand(128, 20))",
    )
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "scale_data", how="standardise")


def test_an_optimiser_without_weight_decay_gets_none(tmp_path):
    text = broken(FUNCTIONS, "torch.optim.Adam(weights, lr=2e-3)", "torch.optim.LBFGS(weights, lr=2e-3)")
    text = broken(
        text,
        "    opt.zero_grad()\n    loss.backward()\n    opt.step()",
        "    opt.zero_grad()\n    loss.backward()\n    opt.step(lambda: loss)",
    )
    with pytest.raises(NoEdit, match="LBFGS"):
        edited(tmp_path, text, "weight_decay", decay=0.01)


@pytest.mark.parametrize("steps", [3, None])
def test_other_draws_of_as_many_numbers_stay(tmp_path, steps):
    text = TRAINER.replace("class Net(", "SHIFT = torch.randn(20, 4)\n\n\nclass Net(")
    assert difference(text, edited(tmp_path, text, "more_latents", steps=steps, latents=16))[1] == [
        "latents: int = 16", "images = trainer.model.decoder(torch.randn(9, 16))"
    ]  # fmt: skip


def test_convolutions_get_more_channels_on_both_sides(tmp_path):
    assert changed(tmp_path, CONVOLUTIONS, "wider", part="decoder", width=64)[1] == [
        "self.fc = nn.Linear(z_dim, 64)", "nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),",
        "nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1),",
        "return self.up(F.relu(self.fc(z)).view(z.size(0), 16, 2, 2))",
    ]  # fmt: skip


def test_a_narrow_layer_between_wide_convolutions_is_widened_alone(tmp_path):
    text = CONVOLUTIONS.replace("self.head = nn.Linear(8 * 2 * 2, 2 * z_dim)",
                                "self.neck = nn.Linear(8 * 2 * 2, 3)\n        self.head = nn.Linear(3, 2 * z_dim)")  # fmt: skip
    text = text.replace("return self.head(x)", "return self.head(F.relu(self.neck(x)))")
    assert changed(tmp_path, text, "wider", part="encoder", width=24)[1] == [
        "self.neck = nn.Linear(8 * 2 * 2, 24)", "self.head = nn.Linear(24, 2 * z_dim)",
    ]  # fmt: skip


@pytest.mark.parametrize(("patient", "remedy", "settings"), [
    (CONVOLUTIONS, "wider", {"part": "encoder", "width": 64}), (CONVOLUTIONS, "wider", {"part": "decoder", "width": 64}),
    (CONVOLUTIONS, "more_latents", {"latents": 12}), (TRAINER, "wider", {"part": "decoder", "width": 64}),
    (TRAINER, "more_latents", {"latents": 12}), (DISTRIBUTIONS, "wider", {"part": "encoder", "width": 64}),
    (CONVOLUTIONS, "scale_data", {"how": "range", "low": 0, "high": 2}), (CONVOLUTIONS, "calibrated", {}),
    (CONVOLUTIONS, "kl_weight", {"factor": 0.5}), (CONVOLUTIONS, "longer", {"times": 2}),
    (CONVOLUTIONS, "learning_rate", {"factor": 0.5}), (CONVOLUTIONS, "clip_gradients", {"norm": 10.0}),
])  # fmt: skip
def test_what_was_edited_still_trains(tmp_path, patient, remedy, settings):
    new = edited(tmp_path, patient, remedy, **settings)
    subject = case_of(tmp_path, new, steps=None).subject
    assert subject.count >= 6
    if remedy == "more_latents":
        assert subject.lineage.latents == 12


SCALE = (
    "log_scale = torch.full((D,), -1.0, requires_grad=True)\nopt = torch.optim.Adam([*weights, log_scale], lr=2e-3)\n"
)
HELD = [
    ("ls = log_scale.clamp(0.0, 3.0)", "((y - x) / ls.exp()) ** 2 / 2 + ls", "min", "ls = log_scale.clamp(-6.0, 3.0)"),
    ("ls = torch.clamp(log_scale, max=-5)", "((y - x) / ls.exp()) ** 2 / 2 + ls", "max", "ls = torch.clamp(log_scale, max=1)"),
    ("v = (0.1 + log_scale).clamp_min(0.5)", "(y - x) ** 2 / (2 * v) + v.log() / 2", "min", "v = (0.1 + log_scale).clamp_min(5e-4)"),
]  # fmt: skip


@pytest.mark.parametrize(("held", "nll", "bound", "expected"), HELD)
def test_a_bound_that_holds_the_scale_moves(tmp_path, held, nll, bound, expected):
    text = broken(FUNCTIONS, "opt = torch.optim.Adam(weights, lr=2e-3)\n", SCALE)
    text = broken(text, "fit = ((y - x) ** 2).sum(1) / (2 * 0.1**2)", f"{held}\n    fit = ({nll}).sum(1)")
    text = broken(text, "    m, s = encode(x)\n    y", "    m, s = encode(x)\n    s = s.clamp(0.0, 9.0)\n    y")
    assert changed(tmp_path, text, "free_scale", bound=bound)[1] == [expected]
    with pytest.raises(NoEdit):
        edited(tmp_path, text, "free_scale", bound="max" if bound == "min" else "min")


@pytest.mark.parametrize(("before", "after"), [
    ("likelihood = Independent(Normal(decoder(code), 0.2), 1)", "likelihood = Independent(Normal(decoder(code), 0.06), 1)"),
    ("likelihood = Independent(Normal(scale=0.1 + 0.1, loc=(mean := decoder(code))), 1)", None),
    ("mean = decoder(code)\n        likelihood = Independent(Normal(mean, torch.full_like(x, 0.2)), 1)",
     "likelihood = Independent(Normal(mean, torch.full_like(x, 0.2) * 0.3), 1)"),
    ("mean = decoder(code)\n        likelihood = Independent(Normal(mean, scale=0.1 + 0.1), 1)",
     "likelihood = Independent(Normal(mean, scale=(0.1 + 0.1) * 0.3), 1)"),
])  # fmt: skip
def test_a_stated_scale_is_brought_to_the_residual(tmp_path, before, after):
    text = broken(DISTRIBUTIONS, "likelihood = Independent(Normal(decoder(code), 0.2), 1)", before)
    if after is None:
        with pytest.raises(NoEdit):
            edited(tmp_path, text, "stated_scale", factor=0.3)
        return
    assert changed(tmp_path, text, "stated_scale", factor=0.3)[1] == [after]


def test_a_head_built_by_a_helper_loses_its_activation_where_it_is_called(tmp_path):
    text = broken(TRAINER, "self.mu = nn.Linear(cfg.hidden, cfg.latents)", "self.mu = block(cfg.hidden, cfg.latents)")
    helper = "\n\ndef block(i, o):\n    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(i, o)), nn.Tanh())\n\n\nclass"
    text = text.replace("\n\nclass", helper, 1)
    text = text.replace("nn.ReLU()", "nn.Tanh()")
    (line,) = changed(tmp_path, text, "free_heads")[1]
    assert "self.mu[0](" in line


ROW = """

def row(*sizes, act=nn.Tanh):
    layers = []
    for i, o in zip(sizes[:-1], sizes[1:]):
        layers += [nn.Linear(i, o), act()]
    return nn.Sequential(*layers)


def other():
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh())


class"""


def test_a_row_of_layers_built_by_a_helper_loses_its_last_activation_where_it_is_called(tmp_path):
    """And no activation of another helper."""
    text = broken(TRAINER, "self.mu = nn.Linear(cfg.hidden, cfg.latents)", "self.mu = row(cfg.hidden, 16, cfg.latents)")
    went, came = changed(tmp_path, text.replace("\n\nclass", ROW, 1), "free_heads")
    assert came == [line.replace("self.mu(", "self.mu[:-1](") for line in went]
    assert "self.mu(" in went[0]


@pytest.mark.parametrize(("held", "divisor", "after"), [
    ("SPREAD = 0.5", "SPREAD", "SPREAD = 0.15"), ("SPREAD = 1 / math.sqrt(4)", "SPREAD", "SPREAD = 1 / math.sqrt(4) * 0.3"),
    ("", "0.5", "fit = (((x - y) / 0.15) ** 2).sum(1) / 2"),
])  # fmt: skip
def test_what_residuals_are_divided_by_is_brought_to_them(tmp_path, held, divisor, after):
    text = broken(FUNCTIONS, "KL_WEIGHT = 1.0", f"KL_WEIGHT = 1.0\n{held}")
    text = broken(text, "fit = ((y - x) ** 2).sum(1) / (2 * 0.1**2)", f"fit = (((x - y) / {divisor}) ** 2).sum(1) / 2")
    assert changed(tmp_path, text, "stated_scale", factor=0.3)[1] == [after]
