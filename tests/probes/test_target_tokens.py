"""Targets that are classes, against the sequences of classes that the encoder is shown."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from whyvae.probe import Bench
from whyvae.probes.target import TargetMatch
from whyvae.rules.wiring.target_misaligned import TargetMisaligned
from whyvae.testing import kl
from whyvae.verdict import Finding, Healthy, Skipped
from whyvae.watch.direct import watch_model

CLASSES, LENGTH = 12, 9
_generator = torch.Generator().manual_seed(0)
_words = torch.distributions.Dirichlet(3 / torch.arange(1.0, CLASSES + 1) ** 1.5)  # a few common words
torch.manual_seed(5)
SENTENCES = torch.stack([torch.multinomial(_words.sample(), LENGTH, replacement=True) for _ in range(64)])


class Sentences(nn.Module):
    """Embeds, averages, draws z, and decodes all places at once; `told` makes (input, target) from the batch."""

    def __init__(self, told, loss=None):
        super().__init__()
        self.told, self.loss = told, loss or cross_entropy
        self.embedding = nn.Embedding(CLASSES, 8)
        self.encoder, self.decoder = nn.Linear(8, 6), nn.Linear(3, LENGTH * CLASSES)

    def forward(self, tokens):
        shown, target = self.told(tokens)
        mu, logvar = self.encoder(self.embedding(shown).mean(1)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        logits = self.decoder(z).view(-1, LENGTH, CLASSES)[:, : target.shape[1]]
        return (self.loss(logits, target) + kl(mu, logvar)) / len(tokens)


def cross_entropy(logits, target):
    return F.cross_entropy(logits.transpose(1, 2), target, reduction="sum")


def flattened(logits, target):
    return F.cross_entropy(logits.reshape(-1, CLASSES), target.reshape(-1), reduction="sum")


def time_first(logits, target):
    return F.cross_entropy(logits.transpose(0, 1).reshape(-1, CLASSES), target.T.reshape(-1), reduction="sum")


def by_hand(logits, target):
    return -(F.one_hot(target, CLASSES) * logits.log_softmax(-1)).sum()


def padded(logits, target):
    """The classes 0 and 1, the commonest, are padding: the input has it, of the target the loss leaves it out."""
    return F.cross_entropy(logits.transpose(1, 2), target.clamp_min(1), ignore_index=1, reduction="sum")


def verdict(told, loss=None):
    bench = Bench(watch_model(Sentences(told, loss), SENTENCES.split(32), lambda model, x: model(x)))
    return TargetMisaligned.check(bench.get(TargetMatch))


@pytest.mark.parametrize("loss", [cross_entropy, flattened, time_first, by_hand, padded])
def test_own_sentences(loss):
    assert isinstance(verdict(lambda x: (x, x), loss), Healthy)


def test_the_next_token_is_of_the_own_sentence():
    assert isinstance(verdict(lambda x: (x[:, :-1], x[:, 1:])), Healthy)


@pytest.mark.parametrize("loss", [cross_entropy, flattened, time_first, by_hand, padded])
def test_sentences_sorted_apart_from_their_targets(loss):
    found = verdict(lambda x: (x[x[:, 0].argsort()], x), loss)
    assert isinstance(found, Finding)
    assert found.severity == "error"


def test_another_language_is_not_compared():
    foreign = torch.randperm(CLASSES, generator=_generator)
    assert isinstance(verdict(lambda x: (x, foreign[x])), Skipped)
