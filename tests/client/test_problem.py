"""Answers that are not 2xx become problems, whoever wrote them."""

from hub.client.problem import problem_of


def test_a_problem_of_the_hub() -> None:
    problem = problem_of(503, {"retry-after": "2"}, b'{"code": "recovering", "detail": "Soon."}', "x")
    assert (problem.status, problem.code, problem.detail) == (503, "recovering", "Soon.")
    assert problem.retry_after == 2


def test_the_page_of_a_proxy() -> None:
    problem = problem_of(502, {}, b"<h1>Bad Gateway</h1>", "Bad Gateway")
    assert (problem.status, problem.code, problem.detail) == (502, "unreadable", "Bad Gateway")
    assert problem.retry_after is None


def test_json_that_is_no_problem() -> None:
    for body in (b"[]", b"null", b'"no"', b"{}", b"\xff"):
        assert problem_of(500, {}, body, "Error").code == "unreadable"


def test_a_date_to_retry_after_says_nothing() -> None:
    headers = {"retry-after": "Fri, 31 Dec 2027 23:59:59 GMT"}
    assert problem_of(503, headers, b"", "Busy").retry_after is None
