"""The plan of a mix: its order is fixed for good by seed and names."""

from cook.pack.mix_plan import plan_stream


def test_the_order_of_a_mix_is_the_one_that_it_always_was():
    assert plan_stream(["a", "b"], [3, 4], [7, 2], 5).tolist() == [4, 0, 5, 1, 2, 1, 1, 2, 0]
    assert plan_stream(["a", "b"], [3, 4], [7, 2], 6).tolist() == [2, 0, 6, 5, 1, 2, 0, 1, 1]
