from types import SimpleNamespace

import pytest
import torch

from ddpm_bench.datasets.digits import Digits
from ddpm_bench.datasets.gaussian import Gaussian
from ddpm_bench.diffusion.predictions.epsilon import Epsilon
from ddpm_bench.diffusion.process import Process
from ddpm_bench.errors import FieldError
from ddpm_bench.networks import Problem
from ddpm_bench.networks._blocks import Attention, num_groups, sinusoids
from ddpm_bench.networks.unet import Unet

SMALL = Unet(channels=8, channel_multipliers=(1, 2), residual_blocks=1, attention_resolutions=(4,))


def problem(shape, outputs=None, timesteps=1000):
    process = Process.from_betas(torch.full((timesteps,), 0.01, dtype=torch.float64))
    return Problem(shape, 256, outputs or shape[0], process, Epsilon(), Gaussian())


def build(network=SMALL, shape=(1, 8, 8), perturbed=True, **kwargs):
    """A module in evaluation mode; perturbed: what is zero at initialisation is not."""
    torch.manual_seed(0)
    module = network.build(problem(shape, **kwargs)).eval()
    if perturbed:
        for parameter in module.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    return module


def batch(shape=(1, 8, 8), num=5):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num, *shape, generator=generator), torch.arange(num) * 199


def test_the_default_is_hos_network():
    # 35 746 307: the count of Ho et al.'s code for CIFAR-10 ("35.7 million", their appendix B), and here by hand.
    def convolution(a, b, kernel=3):
        return kernel * kernel * a * b + b

    def block(a, b):
        skip = convolution(a, b, kernel=1) if a != b else 0
        return 2 * a + convolution(a, b) + (512 * b + b) + 2 * b + convolution(b, b) + skip

    def attention(c):
        return 2 * c + 4 * convolution(c, c, kernel=1)

    expected = (128 * 512 + 512) + (512 * 512 + 512) + convolution(3, 128)
    expected += 2 * block(128, 128) + convolution(128, 128)  # down, 32×32
    expected += block(128, 256) + block(256, 256) + 2 * attention(256) + convolution(256, 256)  # 16×16
    expected += 2 * block(256, 256) + convolution(256, 256)  # 8×8
    expected += 2 * block(256, 256)  # 4×4
    expected += 2 * block(256, 256) + attention(256)  # middle
    expected += 3 * block(512, 256) + convolution(256, 256)  # up, 4×4
    expected += 3 * block(512, 256) + convolution(256, 256)  # 8×8
    expected += 2 * block(512, 256) + block(384, 256) + 3 * attention(256) + convolution(256, 256)  # 16×16
    expected += block(384, 128) + 2 * block(256, 128)  # 32×32
    expected += 2 * 128 + convolution(128, 3)
    assert expected == 35_746_307
    task = problem((3, 32, 32))
    with torch.device("meta"):
        module = Unet(dropout=0.1).build(task)
    assert sum(parameter.numel() for parameter in module.parameters()) == expected


@pytest.mark.parametrize("network", [SMALL, Unet(channels=8, channel_multipliers=(1,), residual_blocks=2)])
def test_the_output_is_exactly_zero_at_initialisation(network):
    output = build(network, perturbed=False)(*batch())
    assert output.shape == (5, 1, 8, 8)
    assert torch.count_nonzero(output) == 0


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (SMALL, (1, 8, 8)),
        (Unet(channels=4, channel_multipliers=(1, 1, 1, 1, 1, 1), residual_blocks=1), (3, 256, 256)),
        (Unet(channels=8, channel_multipliers=(1, 3, 5), attention_resolutions=(8, 16)), (3, 16, 16)),
        (Unet(channels=6, channel_multipliers=(1, 2), attention_heads=3, attention_resolutions=(14,)), (1, 28, 28)),
        (Unet(channels=4, channel_multipliers=(2, 1), residual_blocks=3), (2, 12, 20)),
    ],
)
def test_shapes(network, shape):
    x_t, t = batch(shape, num=2)
    assert build(network, shape)(x_t, t).shape == (2, *shape)
    assert build(network, shape, outputs=2 * shape[0])(x_t, t).shape == (2, 2 * shape[0], *shape[1:])


def test_a_shape_that_cannot_be_halved_is_refused_with_a_sentence():
    network = Unet(channels=8, channel_multipliers=(1, 2, 2, 2))
    sentence = "halves images 3 times, and 28×28 is not divisible by 8: use fewer channel_multipliers or another size"
    with pytest.raises(ValueError, match=sentence):
        network.build(problem((1, 28, 28)))
    assert sentence in network.refuse(SimpleNamespace(dataset=Gaussian(size=28)))
    assert network.refuse(SimpleNamespace(dataset=Digits())) is None


def test_every_parameter_learns():
    module = build()
    x_t, t = batch()
    module(x_t, t).square().sum().backward()
    idle = [
        name
        for name, p in module.named_parameters()
        if p.grad is None or not torch.isfinite(p.grad).all() or not p.grad.any()
    ]
    # The bias of a key shifts every attention score of a row alike: softmax ignores it, its gradient is rounding.
    assert [name for name in idle if not name.endswith("key.bias")] == []


def test_the_first_step_from_zero_moves_the_output():
    module = build(perturbed=False)
    x_t, t = batch()
    (module(x_t, t) - x_t).square().mean().backward()
    assert module.conv_out.weight.grad.any()


def test_the_output_depends_on_time():
    module = build()
    x_t, _ = batch()
    early, late = (module(x_t, torch.full((5,), t)) for t in (0, 999))
    assert (early - late).abs().max() > 1e-2


def test_chains_of_different_length_share_one_range_of_time():
    # The modules have equal weights: t = 300 of 1000 is t = 30 of 100.
    x_t, _ = batch()
    long, short = build(timesteps=1000), build(timesteps=100)
    torch.testing.assert_close(long(x_t, torch.full((5,), 300)), short(x_t, torch.full((5,), 30)), rtol=0, atol=0)
    assert not torch.equal(long(x_t, torch.full((5,), 30)), short(x_t, torch.full((5,), 30)))


def test_the_seed_of_torch_fixes_the_weights():
    first, second = (build(perturbed=False).state_dict() for _ in range(2))
    torch.manual_seed(1)
    other = SMALL.build(problem((1, 8, 8))).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["conv_in.weight"], other["conv_in.weight"])


def test_rows_do_not_depend_on_the_rest_of_the_batch():
    module = build()
    x_t, t = batch(num=7)
    padded_x_t, padded_t = torch.cat([x_t[:3], torch.zeros(4, 1, 8, 8)]), torch.cat([t[:3], torch.zeros(4).long()])
    whole = module(x_t, t)
    # Rounding differs with the batch; outputs are of order 1 and a few dozen float32 operations deep.
    torch.testing.assert_close(module(padded_x_t, padded_t)[:3], whole[:3], rtol=0, atol=1e-5)
    torch.testing.assert_close(module(x_t[2:3], t[2:3]), whole[2:3], rtol=0, atol=1e-5)


def test_the_memory_layout_of_the_input_changes_nothing():
    module = build()
    x_t, t = batch((3, 8, 8))
    module = build(shape=(3, 8, 8))
    other = module(x_t.contiguous(memory_format=torch.channels_last), t)
    torch.testing.assert_close(other, module(x_t, t), rtol=0, atol=1e-5)


def test_weights_are_contiguous():
    # safetensors writes nothing else.
    assert all(parameter.is_contiguous() for parameter in build().parameters())


def test_dropout_acts_in_training_only():
    module = build(Unet(channels=8, channel_multipliers=(1, 2), dropout=0.5))
    x_t, t = batch()
    assert torch.equal(module(x_t, t), module(x_t, t))
    module.train()
    assert not torch.equal(module(x_t, t), module(x_t, t))


def test_attention_is_where_it_is_asked_for():
    def count(resolutions):
        network = Unet(channels=8, channel_multipliers=(1, 2), attention_resolutions=resolutions)
        return sum(name.endswith("query.weight") for name, _ in build(network).named_parameters())

    # The middle always; two blocks on the way down and three on the way up at each resolution.
    assert [count(()), count((16,)), count((4,)), count((4, 8))] == [1, 1, 6, 11]


def test_attention_is_the_softmax_formula_of_every_head():
    torch.manual_seed(0)
    module = Attention(6, heads=2, groups=32)
    torch.nn.init.normal_(module.out.weight)
    x = torch.randn(2, 6, 3, 5)
    expected = x.clone()
    for b in range(2):
        rows = ((x[b] - x[b].mean()) / (x[b].var(correction=0) + 1e-5).sqrt()).reshape(6, 15).T  # one group
        query, key, value = (rows @ layer.weight.T for layer in (module.query, module.key, module.value))
        mixed = torch.empty(15, 6)
        for head in (slice(0, 3), slice(3, 6)):
            scores = query[:, head] @ key[:, head].T / 3**0.5
            mixed[:, head] = scores.exp() / scores.exp().sum(dim=1, keepdim=True) @ value[:, head]
        expected[b] += (mixed @ module.out.weight.T).T.reshape(6, 3, 5)
    # Values of order 1 through half a dozen float32 operations.
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "most", "expected"), [(128, 32, 32), (256, 32, 32), (16, 32, 4), (24, 32, 6), (20, 32, 5), (6, 32, 1)]
)
def test_groups_have_at_least_four_channels(channels, most, expected):
    assert num_groups(channels, most) == expected


def test_sinusoids():
    features = sinusoids(torch.tensor([0.0, 250.0]), 8)
    angles = 250.0 * torch.tensor([1.0, 10 ** (-4 / 3), 10 ** (-8 / 3), 1e-4], dtype=torch.float64)
    expected = torch.cat([angles.sin(), angles.cos()])
    torch.testing.assert_close(features[0], torch.tensor([0.0] * 4 + [1.0] * 4), rtol=0, atol=0)
    # float32 angles up to 250 are rounded by up to 250 · 2⁻²⁴ · (a few operations) ≈ 6e-5.
    torch.testing.assert_close(features[1].double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", 7),
        ("channels", 2),
        ("channel_multipliers", ()),
        ("channel_multipliers", (1, 0)),
        ("residual_blocks", 0),
        ("attention_heads", 3),
        ("groups", 0),
        ("dropout", 1.0),
    ],
)
def test_ranges(field, value):
    with pytest.raises(FieldError, match=field):
        Unet(**{field: value})
