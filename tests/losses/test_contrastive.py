"""Contrast of images and captions: naive loops in float64, captions that are the same, open_clip's form, two ranks."""

import math
import multiprocessing
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed

from distill.losses.contrastive import Contrastive, contrastive
from distill.losses.siglip import SigLIP, siglip
from distill.outputs import Batch, Outputs, Spec

SHAPES = [(1, 3, [0]), (4, 5, [0, 1, 2, 3]), (6, 2, [0, 1, 0, 2, 1, 0]), (3, 4, [7, 7, 7])]


def embeddings(n: int, d: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    both = torch.randn(2, n, d, generator=random, dtype=torch.float64)
    image, text = (torch.nn.functional.normalize(x, dim=1).requires_grad_() for x in both)
    return image, text, torch.full((n,), 7.5, dtype=torch.float64, requires_grad=True)


def naive_contrastive(image: Tensor, text: Tensor, scale: Tensor, group: list[int]) -> Tensor:
    n, total = len(group), torch.zeros((), dtype=torch.float64)
    for one, other in ((image, text), (text, image)):
        for i in range(n):
            logits = [scale[i] * (one[i] * other[j]).sum() for j in range(n)]
            log_sum = torch.stack([logit.exp() for logit in logits]).sum().log()
            same = [j for j in range(n) if group[j] == group[i]]
            for j in same:
                total = total - (logits[j] - log_sum) / len(same) / (2 * n)
    return total


def naive_siglip(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor, group: list[int]) -> Tensor:
    n, total = len(group), torch.zeros((), dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            z = 1.0 if group[i] == group[j] else -1.0
            logit = scale[i] * (image[i] * text[j]).sum() + bias
            total = total + (1 + (-z * logit).exp()).log() / n
    return total


@pytest.mark.parametrize("n, d, group", SHAPES)
def test_contrastive__is_the_naive_loop_with_its_gradient(n: int, d: int, group: list[int]) -> None:
    leaves = embeddings(n, d)
    value = contrastive(*leaves, torch.tensor(group))
    expected = naive_contrastive(*leaves, group)
    torch.testing.assert_close(value, expected)
    found, wanted = (torch.autograd.grad(v, leaves, retain_graph=True) for v in (value, expected))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("n, d, group", SHAPES)
def test_siglip__is_the_naive_loop_with_its_gradient(n: int, d: int, group: list[int]) -> None:
    leaves = (*embeddings(n, d), torch.tensor(-3.0, dtype=torch.float64, requires_grad=True))
    value = siglip(*leaves, torch.tensor(group))
    expected = naive_siglip(*leaves, group)
    torch.testing.assert_close(value, expected)
    found, wanted = (torch.autograd.grad(v, leaves, retain_graph=True) for v in (value, expected))
    torch.testing.assert_close(found, wanted)


@pytest.mark.slow
def test_both__as_open_clip_has_them_where_captions_differ() -> None:
    losses = pytest.importorskip("open_clip.loss", reason="pip install 'distill[open_clip]'")
    image, text, scale = embeddings(5, 8)
    group = torch.arange(5)
    theirs = losses.ClipLoss()(image, text, scale[0])
    torch.testing.assert_close(contrastive(image, text, scale, group), theirs)
    bias = torch.tensor(-10.0, dtype=torch.float64)
    torch.testing.assert_close(
        siglip(image, text, scale, bias, group), losses.SigLipLoss()(image, text, scale[0], bias)
    )


def test_contrastive__one_caption_for_all_leaves_nothing_to_learn() -> None:
    image, text, scale = embeddings(4, 3)
    same = text[:1].expand(4, -1)
    value = contrastive(image, same, scale, torch.zeros(4, dtype=torch.int64))
    assert value.item() >= math.log(4) - 1e-12
    alone = contrastive(image[:1], text[:1], scale[:1], torch.zeros(1, dtype=torch.int64))
    assert alone.item() == pytest.approx(0, abs=1e-12)


def outputs(n: int = 4) -> Outputs:
    image, text, scale = (x.detach().float() for x in embeddings(n, 6))
    return Outputs(torch.zeros(n, 3), {"image_embedding": 2 * image, "text_embedding": text, "scale": scale})


def batch(text: list[int] | None, target: list[int]) -> Batch:
    number = torch.arange(len(target))
    rows = None if text is None else torch.tensor(text)
    images = torch.zeros(len(target), 3, 4, 4, dtype=torch.uint8)
    return Batch(images, torch.tensor(target), number, 0 * number, text=rows)


def test_forward__positives_are_captions_or_classes() -> None:
    said = outputs()
    features = (*said.features.values(),)
    by_caption = Contrastive()(said, None, batch([5, 5, 8, 9], [0, 1, 1, 2]))
    by_class = Contrastive(positives="class")(said, None, batch([5, 5, 8, 9], [0, 1, 1, 2]))
    alone = Contrastive()(said, None, batch(None, [0, 0, 0, 0]))
    unit = (torch.nn.functional.normalize(features[0], dim=1), *features[1:])
    for found, group in ((by_caption, [0, 0, 1, 2]), (by_class, [0, 1, 1, 2]), (alone, [0, 1, 2, 3])):
        torch.testing.assert_close(found, contrastive(*unit, torch.tensor(group)))


def test_siglip__its_bias_is_learned_from_minus_ten() -> None:
    loss = SigLIP()
    assert {name: p.item() for name, p in loss.named_parameters()} == {"b": -10.0}
    loss(outputs(), None, batch(None, [0, 0, 0, 0])).backward()
    assert loss.b.grad is not None
    assert loss.b.grad < 0


def test_prepare__mistakes() -> None:
    with pytest.raises(ValueError, match="positives must be one of caption, class, got 'image'"):
        Contrastive(positives="image")
    specs = {"image_embedding": Spec((6,)), "text_embedding": Spec((5,)), "scale": Spec(())}
    with pytest.raises(ValueError, match="'image_embedding' of shape \\(6,\\) and text_tap 'text_embedding' of shape"):
        Contrastive().prepare(specs, {})
    with pytest.raises(ValueError, match="the student gives no 'image_embedding'"):
        Contrastive().prepare({"logits": Spec((3,))}, {})


def work(folder: Path, rank: int) -> None:
    """Compute both losses of half a batch in one of two processes, and leave value and gradients in a file."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save({type(loss).__name__: half(loss, rank) for loss in (Contrastive(), SigLIP())}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def half(loss: Contrastive | SigLIP, rank: int | None) -> tuple[Tensor, list[Tensor]]:
    mine = slice(None) if rank is None else slice(2 * rank, 2 * rank + 2)
    whole, said = batch([5, 5, 8, 5], [0, 1, 1, 2]), outputs()
    part = whole._replace(text=whole.text[mine], target=whole.target[mine], index=whole.index[mine])  # type: ignore[index]
    leaves = [value[mine].clone().requires_grad_() for value in said.features.values()]
    value = loss(Outputs(said.logits[mine], dict(zip(said.features, leaves, strict=True))), None, part)
    gradients = torch.autograd.grad(value, [*leaves, *loss.parameters()])
    return value.detach(), list(gradients)


def test_forward__two_processes_are_one_with_the_whole_batch(tmp_path: Path) -> None:
    expected = {type(loss).__name__: half(loss, None) for loss in (Contrastive(), SigLIP())}

    def child(rank: int) -> None:
        work(tmp_path, rank)
        os._exit(0)  # without what pytest does at the end of its process

    processes = [multiprocessing.get_context("fork").Process(target=child, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, (value, gradients) in expected.items():
        for rank in range(2):
            torch.testing.assert_close(found[rank][name][0], value)
        for i, whole in enumerate(gradients):
            parts = [found[rank][name][1][i] for rank in range(2)]
            # DDP takes the mean over the processes, of a parameter as of what comes to one through an embedding
            joined = torch.cat(parts) / 2 if whole.dim() else sum(parts) / 2
            torch.testing.assert_close(joined, whole)
