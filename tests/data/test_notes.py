"""What is said of a sample beside its class: captions, boxes, credit for answers; through splits, views and devices."""

import torch
from torch import Tensor, nn

from distill.data.augment import CropFlip
from distill.data.base import ArrayImages, Notes, Views
from distill.objective import Objective
from distill.outputs import Batch, InputSpec, Mix, Outputs, Words
from distill.taps import Tapped, introduce

from .test_base import Made, made

CAPTIONS = tuple(f"caption {i}" for i in range(12))


def noted() -> ArrayImages:
    """Return six questions about three images, three captions or one answer list each."""
    images = (torch.arange(3, dtype=torch.uint8) * 50).view(3, 1, 1, 1).expand(3, 1, 6, 5).clone()
    text = torch.arange(6)[:, None] * 2 + torch.tensor([0, 1])
    box = torch.arange(24).view(6, 4) / 24
    answers = torch.tensor([[0, 1], [1, -1], [2, 3], [3, -1], [0, -1], [-1, -1]])
    credit = torch.tensor([[1.0, 0.3], [0.6, 9.0], [0.3, 1.0], [1.0, 9.0], [1.0, 9.0], [9.0, 9.0]])
    notes = Notes(text, box, answers, credit)
    rows, numbers = torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(6)
    return ArrayImages(images, torch.arange(6) % 4, ("a", "b", "c", "d"), rows, notes, numbers, 6)


def test_views__notes_go_with_their_samples() -> None:
    batch = Views(noted(), None, seed=0).make(torch.tensor([4, 0]), torch.tensor([0, 0]))
    assert batch.inputs[:, 0, 0, 0].tolist() == [100, 0]
    assert batch.scores is not None
    assert batch.box is not None
    assert batch.text is not None
    torch.testing.assert_close(batch.scores, torch.tensor([[1.0, 0, 0, 0], [1.0, 0.3, 0, 0]]))
    assert batch.box[0].tolist() == (torch.arange(16, 20) / 24).tolist()
    assert batch.text.tolist()[0] in (8, 9)
    assert batch.text.tolist()[1] in (0, 1)


def test_views__an_answer_that_is_none_gets_no_credit() -> None:
    scores = Views(noted(), None, seed=0).make(torch.tensor([5, 1]), torch.tensor([0, 0])).scores
    assert scores is not None
    torch.testing.assert_close(scores, torch.tensor([[0.0, 0, 0, 0], [0, 0.6, 0, 0]]))


def test_views__the_view_draws_the_caption_and_nothing_else_does() -> None:
    views, index = Views(noted(), None, seed=3), torch.arange(6)
    drawn = [views.make(index, torch.full((6,), view)).text for view in range(40)]
    chosen = torch.stack([text - 2 * index for text in drawn if text is not None])
    assert set(chosen.flatten().tolist()) == {0, 1}
    assert 80 < int(chosen.sum()) < 160
    again = views.make(torch.tensor([5, 2]), torch.tensor([7, 7])).text
    assert again is not None
    assert drawn[7] is not None
    assert again.tolist() == [drawn[7][5], drawn[7][2]]


def test_views__boxes_do_not_outlive_an_augmentation() -> None:
    views = Views(noted(), CropFlip(padding=1, flip=True), seed=0)
    batch = views.make(torch.arange(6), torch.zeros(6, dtype=torch.int64))
    assert batch.box is None
    assert batch.text is not None


def test_part__samples_keep_their_notes_and_numbers() -> None:
    whole = noted()
    part = whole.part(torch.tensor([5, 2]), torch.tensor([1, 0]), ("x", "y"))
    assert part.ids.tolist() == [5, 2]
    assert part.source_size == 6
    assert part.gather(torch.arange(2))[:, 0, 0, 0].tolist() == [100, 50]
    assert part.notes.text is not None
    assert part.notes.text.tolist() == [[10, 11], [4, 5]]
    moved = part.to(torch.device("cpu"))
    assert len(moved.images) == 2
    assert moved.ids.tolist() == [5, 2]
    assert moved.gather(torch.arange(2))[:, 0, 0, 0].tolist() == [100, 50]


def test_content__tells_other_captions() -> None:
    whole = noted()
    other = ArrayImages(whole.images, whole.target, whole.classes, whole.rows, whole.notes._replace(text=None))
    assert list(whole.content()) != list(other.content())


def test_texts__are_found_by_reading() -> None:
    class Captioned(Made):
        def read(self) -> tuple[ArrayImages, ArrayImages]:
            self._texts = CAPTIONS
            return self.train, self.test

    assert made().texts == ()
    first, second = (Captioned(**vars_of(made())) for _ in range(2))
    assert first.texts == CAPTIONS
    second.share(first)
    assert second.texts == CAPTIONS


def vars_of(data: Made) -> dict[str, object]:
    return {name: getattr(data, name) for name in data.__dataclass_fields__}


class Echo(nn.Module):
    """Says which text it was given."""

    reads_text = True

    def forward(self, images: Tensor, rows: Tensor) -> Tensor:
        return torch.stack([rows, images.flatten(1).sum(1)], 1).float()

    def meet(self, words: Words) -> None:
        self.words = words


def test_tapped__gives_a_reader_its_rows() -> None:
    tapped = Tapped(Echo(), InputSpec((0.0,), (1.0,)))
    images = torch.zeros(2, 1, 3, 3, dtype=torch.uint8)
    assert tapped(images, torch.tensor([4, 2])).logits[:, 0].tolist() == [4, 2]
    assert tapped(images).logits[:, 0].tolist() == [0, 0]
    assert tapped.specs((1, 3, 3))["logits"].shape == (2,)


def test_introduce__looks_words_up_for_readers_only() -> None:
    def none() -> Words:
        raise AssertionError("nobody reads")

    introduce(nn.Linear(2, 2), none)
    echo = Echo()
    introduce(echo, lambda: Words(("a", "b"), CAPTIONS))
    assert echo.words.texts == CAPTIONS


def batch() -> Batch:
    number = torch.arange(4)
    mix = Mix(number, number / 4)
    return Batch(torch.zeros(4, 1, 2, 2), number, number, number, mix, text=number + 10, box=torch.zeros(4, 4))


def test_batch__split_and_take_keep_every_field() -> None:
    first, second = batch().split([1, 3])
    assert first.text is not None
    assert first.text.tolist() == [10]
    assert second.mix is not None
    assert second.mix.share.tolist() == [0.25, 0.5, 0.75]
    taken = batch().take(torch.tensor([3, 3, 0]))
    assert taken.text is not None
    assert taken.text.tolist() == [13, 13, 10]
    assert taken.mix is not None
    assert taken.mix.target.tolist() == [3, 3, 0]
    assert taken.slot is None
    assert taken.box is not None
    assert taken.box.shape == (3, 4)


def test_expand__the_text_goes_with_every_view() -> None:
    from distill.losses.base import Loss

    class Turned(Loss):
        def views(self) -> dict:
            return {"turned": lambda batch: torch.cat([batch.inputs.flip(2), batch.inputs.flip(3)])}

        def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> Tensor:
            return student.logits.sum()

    seen, sizes = Objective({"turned": Turned()}, {"turned": 1.0}).expand(batch()._replace(mix=None))
    assert sizes == {"turned": 8}
    assert seen.text is not None
    assert seen.text.tolist() == [10, 11, 12, 13] * 3
