import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib.experiments import EXPERIMENTS, Network
from wbc_lib.operations import count_operations, operations_per_image


def brute_force(network: Network, shape: tuple[int, int]) -> int:
    """Multiplications and additions of a forward pass, output by output."""
    height, width, channels, total = *shape, 3, 0
    for filters in network.convolutions:
        height, width = height - 2, width - 2
        total += sum(2 * 9 * channels for _ in range(height * width * filters))
        height, width, channels = height // 2, width // 2, filters
    units = height * width * channels
    for wanted in [*network.dense, 5]:
        total += 2 * units * wanted
        units = wanted
    return total


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=2),
    st.lists(st.integers(1, 9), max_size=3),
    st.tuples(st.integers(10, 16), st.integers(10, 16)),
)
def test_the_forward_operations_are_those_counted_one_by_one(convolutions, dense, shape):
    network = Network(convolutions=tuple(convolutions), dense=tuple(dense))
    assert count_operations(network, shape).forward.sum() == brute_force(network, shape)


def test_tensorflow_counts_the_same_for_the_final_network():
    from wbc_lib.images import INPUT_SHAPE, choose_scale
    from wbc_lib.models import build, tf

    network = EXPERIMENTS["final"].network
    model = build(network, (*INPUT_SHAPE, 3), choose_scale("[0, 1]", None))
    call = tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec((1, *INPUT_SHAPE, 3)))
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    graph = tf.compat.v1.profiler.profile(call.graph, cmd="op", options=options)
    products = count_operations(network).forward.sum()
    # TensorFlow counts biases, ReLU and the like, too: a few operations per number.
    assert products < graph.total_float_ops < 1.03 * products


def test_a_step_costs_thrice_the_forward_pass_less_what_the_first_layer_spares():
    table = count_operations(EXPERIMENTS["final"].network)
    expected = 3 * table.forward.sum() - table.forward.iloc[0]
    assert operations_per_image(EXPERIMENTS["final"].network) == expected


def test_a_frozen_base_is_not_counted():
    with pytest.raises(ValueError, match="frozen base"):
        count_operations(EXPERIMENTS["vgg16"].network)
