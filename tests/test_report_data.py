"""What the report says of an artifact, from the facts that its export left."""

from edgegen.report_data import delegated_in_words


def test_a_file_on_one_delegate_says_so() -> None:
    facts = {"delegated_share": 1.0, "partitions": 1, "left_out": {}}
    assert delegated_in_words(facts) == "XNNPACK runs 100 % in 1 delegate"


def test_operations_that_a_delegate_leaves_are_named_and_a_share_is_never_rounded_up() -> None:
    facts = {"delegated_share": 0.998, "partitions": 11, "left_out": {"ADD": 5, "RSQRT": 5}}
    assert delegated_in_words(facts) == "XNNPACK runs 99 % in 11 delegates; left to slow kernels: 5 ADD, 5 RSQRT"


def test_other_back_ends_and_a_litert_that_hides_its_plan_say_nothing() -> None:
    assert delegated_in_words({}) == delegated_in_words({"delegated_share": None, "partitions": None, "left_out": None}) == ""
