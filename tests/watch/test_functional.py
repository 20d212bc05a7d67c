"""Trainings by `torch.func`: the bits they have alone, seen as those by `backward` are."""

import random

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, grad_and_value, vmap

from whyvae.watch.replay import Replay
from whyvae.watch.subject import Subject
from whyvae.watch.trainings import NothingSeen
from whyvae.watch.watcher import Watcher

WIDE, HIDDEN, UNITS, STEPS, RATE = 12, 16, 3, 24, 1e-2


def init():
    def dense(i, o):
        return {"w": torch.randn(i, o) / i**0.5, "b": torch.zeros(o)}

    return {
        "encoder": [dense(WIDE, HIDDEN), dense(HIDDEN, 2 * UNITS)],
        "decoder": [dense(UNITS, HIDDEN), dense(HIDDEN, WIDE)],
    }


def mlp(layers, a):
    for layer in layers[:-1]:
        a = torch.tanh(a @ layer["w"] + layer["b"])
    return a @ layers[-1]["w"] + layers[-1]["b"]


def elbo(x, y, mu, logvar):
    return ((y - x).square().sum() - 0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()) / len(x)


def objective(p, x, eps):
    mu, logvar = mlp(p["encoder"], x).chunk(2, 1)
    return elbo(x, mlp(p["decoder"], mu + eps * (0.5 * logvar).exp()), mu, logvar)


def leaves(tree):
    return torch.utils._pytree.tree_leaves(tree)


def batches(steps=STEPS):
    x = torch.randn(64, UNITS) @ torch.randn(UNITS, WIDE)
    return [(x[torch.randperm(64)[:16]], torch.randn(16, UNITS)) for _ in range(steps)]


def tree_map(f, *trees):
    return torch.utils._pytree.tree_map(f, *trees)


# Each yields (parameters, what else it saw) at its end; the parameters by the user's own names.
def new_trees():
    """As in jax: nothing is changed, all is made anew."""
    p, seen = init(), []
    for x, eps in batches():
        gradients, loss = grad_and_value(objective)(p, x, eps)
        p = tree_map(lambda a, g: a - RATE * g, p, gradients)
        seen.append(loss)
    return p, seen


def adam_in_a_dict():
    """Hand-written, with new tensors in the script's own dict."""
    p, seen = {f"{part}.{i}.{k}": t for part, v in init().items() for i, d in enumerate(v) for k, t in d.items()}, []

    def flat(p, x, eps):
        tree = {s: [{k: p[f"{s}.{i}.{k}"] for k in "wb"} for i in range(2)] for s in ("encoder", "decoder")}
        return objective(tree, x, eps)

    m, v = ({k: torch.zeros_like(t) for k, t in p.items()} for _ in range(2))
    for t, (x, eps) in enumerate(batches(), 1):
        gradients = grad(flat)(p, x, eps)
        for k, g in gradients.items():
            m[k], v[k] = 0.9 * m[k] + 0.1 * g, 0.99 * v[k] + 0.01 * g**2
            p[k] = p[k] - RATE * (m[k] / (1 - 0.9**t)) / ((v[k] / (1 - 0.99**t)).sqrt() + 1e-8)
    return p, seen


def in_place_without_gradients():
    p, seen = init(), []
    with torch.no_grad():
        for x, eps in batches():
            for a, g in zip(leaves(p), leaves(grad(objective)(p, x, eps)), strict=True):
                a.sub_(RATE * g)
    return p, seen


def optimiser_on_the_leaves():
    p, seen = init(), []
    optimizer = torch.optim.Adam(leaves(p), RATE)
    for x, eps in batches():
        gradients, loss = grad_and_value(objective)(p, x, eps)
        for a, g in zip(leaves(p), leaves(gradients), strict=True):
            a.grad = g
        optimizer.step()
        seen.append(loss)
    return p, seen


def two_arguments_and_more():
    """argnums, has_aux, keywords, and the parameters behind the data."""
    p, seen = init(), []

    def loss(x, encoder, decoder, *, eps):
        mu, logvar = mlp(encoder, x).chunk(2, 1)
        y = mlp(decoder, mu + eps * (0.5 * logvar).exp())
        return elbo(x, y, mu, logvar), {"mu": mu}

    for x, eps in batches():
        (e, d), (value, aux) = grad_and_value(loss, argnums=(1, -1), has_aux=True)(
            x, p["encoder"], p["decoder"], eps=eps
        )
        p = tree_map(lambda a, g: a - RATE * g, p, {"encoder": e, "decoder": d})
        seen += [value, aux["mu"]]
    return p, seen


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(WIDE, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.GELU(), nn.Dropout(0.1))
        self.head = nn.Linear(HIDDEN, 2 * UNITS)
        self.decoder = nn.Sequential(nn.Linear(UNITS, HIDDEN), nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, WIDE))

    def forward(self, x):
        mu, logvar = self.head(self.body(x)).chunk(2, 1)
        return self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()), mu, logvar


def module_loss(model):
    return lambda p, b, x: elbo(x, *functional_call(model, (p, b), (x,)))


def detached_module():
    """The module lends its shape only: the parameters are copies, made anew in each step."""
    model, seen = Net(), []
    p = {k: v.detach() for k, v in model.named_parameters()}
    b = dict(model.named_buffers())
    for x, _ in batches():
        gradients, loss = grad_and_value(module_loss(model))(p, b, x)
        p = {k: v - RATE * gradients[k] for k, v in p.items()}
        seen.append(loss)
    return p, [*seen, *b.values()]


def module_under_an_optimiser():
    """The module's own parameters, which require gradients themselves."""
    model, seen = Net(), []
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    for x, _ in batches():
        p, b = dict(model.named_parameters()), dict(model.named_buffers())
        gradients, loss = grad_and_value(module_loss(model))(p, b, x)
        for k, v in p.items():
            v.grad = gradients[k].detach()
        optimizer.step()
        seen += [loss.detach(), torch.tensor([loss.requires_grad, gradients["head.bias"].requires_grad])]
    return dict(model.named_parameters()), seen


def copies_under_an_optimiser():
    """Detached copies, and an optimiser that steps what they share their memory with."""
    model, seen = Net(), []
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    for x, _ in batches():
        p = {k: v.detach() for k, v in model.named_parameters()}
        gradients = grad(module_loss(model))(p, dict(model.named_buffers()), x)
        for k, v in model.named_parameters():
            v.grad = gradients[k]
        optimizer.step()
    return dict(model.named_parameters()), seen


def bound(p, x, eps):
    """Of one example."""
    mu, logvar = mlp(p["encoder"], x).chunk(2)
    return elbo(x[None], mlp(p["decoder"], mu + eps * (0.5 * logvar).exp()), mu, logvar)


def one_example_at_a_time():
    p, seen = init(), []
    optimizer = torch.optim.Adam(leaves(p), RATE)
    for x, eps in batches():
        gradients, loss = grad_and_value(lambda p, x, eps: vmap(bound, (None, 0, 0))(p, x, eps).mean())(p, x, eps)
        for a, g in zip(leaves(p), leaves(gradients), strict=True):
            a.grad = g
        optimizer.step()
        seen.append(loss)
    return p, seen


def noise_of_each_example():
    """Drawn under the map, the examples in the last axis, and a tensor changed in place; by `backward`."""
    p, seen = tree_map(lambda t: t.requires_grad_(), init()), []
    optimizer = torch.optim.SGD(leaves(p), RATE)

    def drawn(p, x):
        mine = torch.zeros_like(x)
        mine += x
        return bound(p, mine, torch.randn(UNITS))

    for x, _ in batches():
        loss = vmap(drawn, (None, 1), randomness="different")(p, x.T.contiguous()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.detach())
    return p, seen


STYLES = [
    new_trees, adam_in_a_dict, in_place_without_gradients, optimiser_on_the_leaves, two_arguments_and_more,
    detached_module, module_under_an_optimiser, copies_under_an_optimiser, one_example_at_a_time,
]  # fmt: skip


def run(train, watcher=None):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        random.seed(5)
        if watcher is None:
            p, seen = train()
        else:
            with watcher:
                p, seen = train()
        return p, [*leaves(p), *seen, torch.get_rng_state()]


@pytest.mark.parametrize("train", [*STYLES, noise_of_each_example], ids=lambda f: f.__name__)
def test_the_same_bits_with_and_without_us(train):
    watcher = Watcher(budget=1.0)
    (_, alone), (_, watched) = run(train), run(train, watcher)

    assert len(alone) == len(watched)
    for a, b in zip(alone, watched, strict=True):
        assert torch.equal(a, b)
        assert (a.requires_grad, a.is_leaf) == (b.requires_grad, b.is_leaf)
    assert watcher.error is None


@pytest.mark.parametrize("train", STYLES, ids=lambda f: f.__name__)
def test_it_is_seen_with_the_parameters_it_ended_with(train):
    watcher = Watcher(ratio=1.3)
    p, _ = run(train, watcher)
    subject = Subject.of(watcher)

    assert subject.lineage.posterior == "diagonal Gaussian"
    assert subject.count == STEPS
    trained = [s for s in subject.tape.slots if s.trainable and s.value is not None]
    assert len(trained) == len(leaves(p))
    named = torch.utils._pytree.tree_flatten_with_path(p)[0]
    names = {".".join(str(getattr(k, "key", getattr(k, "idx", ""))) for k in path): t for path, t in named}
    if train is two_arguments_and_more:  # the tree is that of the arguments
        names = {k.replace("encoder", "0").replace("decoder", "1"): t for k, t in names.items()}
    assert {subject.names[id(s.value)].name for s in trained} == set(names)
    for slot in trained:  # where the tree is made anew, its last step is out of reach
        ended = names[subject.names[id(slot.value)].name]
        assert torch.allclose(slot.value, ended, atol=3 * RATE)
        if train not in (new_trees, two_arguments_and_more, detached_module):
            assert torch.equal(slot.value, ended)
    assert {len(step.parameters) for step in subject.steps} == {len(trained)}
    assert not any(step.without_gradient for step in subject.steps)
    under_optimiser = (module_under_an_optimiser, copies_under_an_optimiser)
    assert subject.model == ("Net" if train in under_optimiser else "functions without a module")
    if train in under_optimiser:
        assert all(id(s.value) in subject.optimizers[0].parameters for s in trained)
    assert all(step.stale != step.stale for step in subject.steps)


@pytest.mark.parametrize("train", [one_example_at_a_time, noise_of_each_example], ids=lambda f: f.__name__)
def test_under_a_map_whole_batches_are_seen(train):
    watcher = Watcher(ratio=1.3)
    run(train, watcher)
    lineage = Subject.of(watcher).lineage
    slots = lineage.tape.slots
    assert slots[lineage.z].shape == (16, UNITS)
    assert sorted(slots[lineage.data].shape) == [WIDE, 16]
    for replayed in (lineage.output, lineage.tape.roots[0]):
        batch = Replay(lineage.tape).run([replayed])[replayed]
        assert batch.shape == slots[replayed].shape
        assert bool(batch.isfinite().all())


def test_every_transform_inside_another_stays_as_it_is():
    """Gradients of each example (vmap), second derivatives, and a slope inside of a loss."""

    def square(a):
        return (a**3).sum()

    points = torch.randn(5, 4)
    tested = [
        lambda: vmap(grad(square))(points),
        lambda: grad(lambda a: grad(square)(a).sum())(points),
        lambda: grad_and_value(lambda t: grad(square)(t["a"]).square().sum() + t["b"].sum())(
            {"a": points, "b": points}
        )[0]["a"],
    ]
    expected = [f() for f in tested]
    with Watcher() as watcher:
        found = [f() for f in tested]
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a, b)
    assert watcher.error is None
    assert watcher.functional.unseen == 1  # of vmap: the others are asked for inside a function that we call


def test_gradients_of_each_example_are_said_not_to_be_followed():
    def train():
        p = init()
        for x, eps in batches(4):
            each = vmap(grad(objective), in_dims=(None, 0, 0))(p, x[:, None], eps[:, None])
            p = tree_map(lambda a, g: a - RATE * g.mean(0), p, each)
        return p, []

    watcher = Watcher()
    run(train, watcher)
    with pytest.raises(NothingSeen, match="inside another transform"):
        Subject.of(watcher)


def test_a_slope_beside_an_optimiser_is_no_training_step():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), RATE)
        with Watcher() as watcher:
            for x, eps in batches(5):
                optimizer.zero_grad()
                elbo(x, *model(x)).backward()
                optimizer.step()
                grad(lambda z: model.decoder(z).sum())(eps)
    assert watcher.backwards == watcher.count == 5


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda t: t["a"], "scalar"),
        (lambda t: 3.0, "Tensor"),
        (lambda t: t["a"].nothing(), "nothing"),
    ],
)
def test_what_torch_refuses_is_refused_in_its_own_words(function, says):
    with Watcher() as watcher, pytest.raises((RuntimeError, AttributeError), match=says):
        grad(function)({"a": torch.ones(3), "b": torch.ones(2)})
    assert watcher.error is None


def test_it_is_put_back():
    from torch._functorch import eager_transforms

    before = eager_transforms.grad_and_value_impl
    with Watcher():
        assert eager_transforms.grad_and_value_impl is not before
    assert eager_transforms.grad_and_value_impl is before


def test_variables_of_the_users_keep_their_history():
    """A weight that the function takes from around it: the value it returns can be differentiated by it."""
    outer = torch.tensor(2.0, requires_grad=True)
    p = {"a": torch.ones(3), "b": torch.ones(3)}

    def returned():
        outer.grad = None
        gradients, loss = grad_and_value(lambda p: (outer * p["a"] + p["b"].square()).sum())(p)
        loss.backward()
        return gradients["a"].requires_grad, gradients["b"].requires_grad, outer.grad.clone()

    alone = returned()
    with Watcher():
        assert returned() == alone == (True, False, torch.tensor(3.0))


def test_what_was_evaluated_is_known_by_its_place():
    """Held-out data meet the encoder of the moment, and reconstructions are no samples."""

    def train():
        p, test = init(), torch.randn(32, WIDE)
        for x, eps in batches():
            gradients = grad(objective)(p, x, eps)
            for a in ("encoder", "decoder"):
                p[a] = tree_map(lambda t, g: t - RATE * g, p[a], gradients[a])
        with torch.no_grad():
            mu, logvar = mlp(p["encoder"], test).chunk(2, 1)
            mlp(p["decoder"], mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            mlp(p["decoder"], torch.randn(8, UNITS))
        return p, []

    watcher = Watcher()
    run(train, watcher)
    subject = Subject.of(watcher)
    assert [tuple(value.shape) for _, value in subject.held_out_inputs] == [(32, WIDE)]
    assert len(subject.held_out) == 2
    assert [tuple(call.z.shape) for call in subject.decoded] == [(8, UNITS)]
