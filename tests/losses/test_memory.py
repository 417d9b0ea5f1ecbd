"""Memories: written when the backward pass is over, saved whole, of no interest to DDP and weight averaging."""

import copy
import io

import pytest
import torch
from torch import nn

from distill.losses.memory import Memory, Queue, require_room
from distill.losses.tap_pair import head, unit


def test_memory__is_written_after_the_backward_pass() -> None:
    memory, x = Memory(torch.zeros(3, 2) + 1), torch.ones(1, 2, requires_grad=True)
    product = (x @ memory.read().T).sum()
    memory.put(torch.tensor([2]), torch.tensor([[5.0, 7.0]]))
    product.backward()
    assert x.grad.tolist() == [[3, 3]]  # of what was there
    assert memory.read().tolist() == [[1, 1], [1, 1], [5, 7]]


def test_queue__replaces_the_oldest_and_goes_round() -> None:
    queue = Queue(torch.zeros(5, 1))
    for start in (1.0, 4.0, 7.0):
        queue.push(torch.arange(start, start + 3)[:, None])
        queue.read()
    assert queue.read().flatten().tolist() == [6, 7, 8, 9, 5]


def test_queue__batch_that_is_too_large() -> None:
    queue = Queue(torch.zeros(3, 1))
    queue.push(torch.arange(7.0)[:, None])
    assert queue.read().flatten().tolist() == [4, 5, 6]
    queue.push(torch.tensor([[9.0]]))
    assert queue.read().flatten().tolist() == [9, 5, 6]


def test_state__holds_what_waits_and_where_it_goes_on() -> None:
    queue, other = Queue(torch.zeros(4, 2)), Queue(torch.ones(4, 2))
    queue.push(torch.randn(3, 2))
    file = io.BytesIO()
    torch.save(queue.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    for each in (queue, other):
        each.push(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert torch.equal(queue.read(), other.read())
    assert other.bank.data_ptr() != queue.bank.data_ptr()
    assert queue.read()[[3, 0]].tolist() == [[1, 2], [3, 4]]


def test_state__of_another_size() -> None:
    with pytest.raises(ValueError, match=r"holds a memory of \(4, 2\) and this run has \(5, 2\)"):
        Memory(torch.zeros(5, 2)).load_state_dict(Memory(torch.zeros(4, 2)).state_dict())


def test_memory__is_no_buffer_and_one_for_all_copies() -> None:
    module = nn.ModuleDict({"memory": Memory(torch.zeros(4, 2))})
    assert [*module.buffers(), *module.parameters()] == []
    assert copy.deepcopy(module)["memory"] is module["memory"]


def test_memory__follows_the_module_in_float32() -> None:
    memory = Memory(torch.zeros(4, 2))
    assert nn.ModuleList([memory]).to("meta", torch.bfloat16)[0].bank.device.type == "meta"
    assert memory.bank.dtype == torch.float32


def test_require_room__says_how_large() -> None:
    require_room("a bank", 1000, 250, 0.001)
    message = "a bank of 1,281,167 x 128 float32 take 0.656 GB on each device and in every checkpoint, and limit_gb=0.5"
    with pytest.raises(ValueError, match=message):
        require_room("a bank", 1281167, 128, 0.5)


def test_unit__no_direction_no_gradient() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    value = unit(x)
    assert value.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]
    value.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([[(1 - 0.6 * 1.4) / 5, (1 - 0.8 * 1.4) / 5], [0.0, 0.0]]))


def test_head__kinds() -> None:
    assert head("linear", 3, 5)(torch.randn(2, 3)).shape == head("mlp", 3, 5)(torch.randn(2, 3)).shape == (2, 5)
    with pytest.raises(ValueError, match="head=identity: the student's vector has length 3 and the teacher's 5"):
        head("identity", 3, 5)
    with pytest.raises(ValueError, match="head must be one of linear, mlp, identity, got 'conv'"):
        head("conv", 3, 5)
