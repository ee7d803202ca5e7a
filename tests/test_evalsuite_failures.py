"""Why replies failed: in the report, on the page, in Markdown and in JUnit; grouped, cut, and without anybody's key."""

import json
import string
from typing import get_args
from xml.etree import ElementTree

import pytest
from evaluation import both, built, evaluated, question_set, reply
from hypothesis import given
from hypothesis import strategies as st
from test_evalsuite_html import text_of

from evalsuite import report
from evalsuite.judging.excerpt import cut, without_secrets
from evalsuite.judging.failures import SHOWN, Failures
from evalsuite.replies.answers import TIMED_OUT, Outcome, Reply
from evalsuite.views import html, summary

KEY = "sk-proj-Ab0Cd1Ef2Gh3Ij4Kl5Mn6"
UNANSWERED = set(get_args(Outcome)) - {"answered", "error", "timeout"}


def failing(errors: list[str], outcomes: tuple[Outcome, ...] = (), **more) -> tuple[report.QuestionSet, list[Reply]]:
    """Tuned ends in these errors at low, one a question, then in these outcomes; all else is right."""
    set_, n = question_set(60), len(errors)
    told = [r for r in both(set_, efforts=("low", "high")) if (r.arm, r.effort) != ("tuned", "low")]
    ends = [reply(q, "tuned", outcome="error") for q in set_.questions[:n]]
    told += [r.model_copy(update={"error": text}) for r, text in zip(ends, errors, strict=True)]
    told += [reply(q, "tuned", outcome=o, **more) for q, o in zip(set_.questions[n:], outcomes, strict=False)]
    told += [reply(q, "tuned") for q in set_.questions[n + len(outcomes) :]]
    return set_, told


def found(errors: list[str], outcomes: tuple[Outcome, ...] = (), **more) -> Failures:
    [only] = built(*failing(errors, outcomes, **more)).failures
    assert (only.arm, only.effort) == ("tuned", "low")
    return only


def test_errors_are_grouped_the_most_frequent_first_and_the_rest_is_counted():
    twice = [f"HTTP 50{i}" for i in range(5)]
    f = found(["HTTP 400: no", *twice, "HTTP 429", *twice, "HTTP 429", "HTTP 429", f"{TIMED_OUT} after 300 s"])
    assert [(e.count, e.text) for e in f.errors] == [(3, "HTTP 429"), *((2, text) for text in twice[:4])]
    assert f.other_errors == 4, "two of one text, and two by themselves"
    assert f.replies == ()


def test_one_cause_with_another_time_and_request_in_each_error_is_one_group():
    f = found([f"HTTP 500: request {i:032x} took {i}.{i} s" for i in range(9)])
    assert [(e.count, e.text) for e in f.errors] == [(9, "HTTP 500: request *** took 0.0 s")]
    assert [e.count for e in found(["HTTP 502", "HTTP 503"]).errors] == [1, 1]


def test_each_outcome_without_an_answer_is_counted_with_one_example():
    f = found([], (*UNANSWERED, *UNANSWERED), reasoning="I shall say A1.")
    assert {(e.outcome, e.count) for e in f.replies} == {(o, 2) for o in UNANSWERED}
    said = {e.outcome: (e.said, e.text) for e in f.replies}
    assert said["unparsed"] == ("text", "tuned does not know")
    assert said["truncated-reasoning"] == ("reasoning", "I shall say A1.")
    [refused] = found([], ("refused",), refusal="I will not.").replies
    assert (refused.said, refused.text, refused.question) == ("refusal", "I will not.", "q0")
    [empty] = found([], ("empty",)).replies
    assert (empty.said, empty.text) == ("nothing", "")


def test_the_example_is_one_that_said_something():
    set_, told = failing([], ("empty", "empty"))
    told = [r.model_copy(update={"reasoning": "Hm."}) if r.question == "q1" and r.arm == "tuned" else r for r in told]
    [f] = [f for f in built(set_, told).failures if f.effort == "low"]
    assert [(e.question, e.text) for e in f.replies] == [("q1", "Hm.")]


def test_long_texts_are_cut_and_of_a_reply_both_ends_are_kept():
    f = found(["x y " * 1000], ("unparsed",), text="begin " + "z " * 999 + "end")
    assert [len(e.text) for e in f.errors] == [SHOWN]
    assert f.replies[0].text.startswith("begin")
    assert f.replies[0].text.endswith("z end")
    assert len(f.replies[0].text) < SHOWN + 40
    assert cut("abcdefgh", 4) == "ab […4 more characters…] gh"
    assert cut("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        f"401 Authorization: Bearer {KEY}",
        "Authorization: Basic dXNlcjpwYXNzd29yZA==",
        '{"api_key": "hunter2hunter2"}',
        "x-api-key=hunter2hunter2&x=1",
        "access_token=hunter2hunter2",
        "could not reach http://user:hunter2hunter2@10.0.0.1/v1",
        "token hf_AbCdEfGhIjKlMnOp is not valid",
        "key eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9 refused",
        "Incorrect API key provided: hunter2",
        "http://h/v1?x=1&key=hunter2",
        "http://h/v1?sig=hunter2&x=1",
        "http://h/v1?X-Amz-Signature=hunter2",
        "AWS_SECRET_ACCESS_KEY=hunter2",
        "api key: 'foo hunter2'",
        'password = "foo \\"bar\\" hunter2"',
        '{\\"token\\": \\"foo hunter2\\"}',
        "{'clientSecret': 'hunter2'}",
        "credentials were: hunter2",
        "API key hunter2 is not known",
        "the password is hunter2",
        "secret of this user 'foo hunter2",
        "auth=basic hunter2",
        "passphrase=a,b;hunter2",
        "refused: zzHunter2AbCdEfGh9Kl",
        "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_key_is_left_out(text):
    f = found([text])
    for secret in (KEY, "unter2", "dXNlcjpwYXNzd29yZA", "AbCdEf", "eyJhb"):
        assert secret not in f.errors[0].text
    assert "***" in f.errors[0].text


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 4096 is over 2048",
        "HTTP 400: tokenizer said basic no",
        "read timed out",
        "HTTP 401: Unauthorized",
        "model python-docs@d2fd34aa867a4aa1 is not openai/gpt-oss-120b",
        "Qwen2ForCausalLM is not supported",
        "token limit of 256: raise max_tokens",
        "prompt_tokens=12, token_count=3",
        "key error: 'choices'",
        "KeyError: 'choices'",
        "no such file: /home/user/key/token.py:12",
        "The api key is invalid",
        "find your API key at https://platform.example/account",
        "token 2048 is beyond the end",
        "auth failed: the server is down",
    ],
)
def test_what_is_no_key_stays(text):
    assert without_secrets(text, 200) == text


KEYS = st.text(string.ascii_letters + string.digits + "-_.~+/=", min_size=1, max_size=40).map("ZQ".__add__)
AROUND = st.text(st.characters(exclude_characters="Q"), max_size=20)
NAMES = ["api_key", "API key", "x-api-key", "token", "accessToken", "client_secret", "PASSWORD", "credential", "sig"]
PLACES = ["{}={}", "{}: {}", '"{}": "{}"', "invalid {} provided: '{}'", "http://h/v1?x=1&{}={}&y=2", "{}=Bearer {}"]


@given(st.sampled_from(NAMES), st.sampled_from(PLACES), KEYS, AROUND, AROUND)
def test_a_key_behind_its_name_never_survives_and_nothing_more_goes_the_second_time(name, place, key, before, after):
    found = without_secrets(f"{before} {place.format(name, key)} {after}", 1000)
    assert "Q" not in found
    assert without_secrets(found, 1000) == found


def test_controls_of_a_server_are_spelled_out():
    text = without_secrets("a\x1b[2Jb\n\u202ec", 200)
    assert text.isprintable()
    assert "\n" not in text


def test_it_comes_back_from_the_file_and_stands_in_every_view(tmp_path):
    errors, hostile = ["HTTP 502: <b>|bad|</b>\x00"] * 4, "</code><script>x</script>| `y`"
    set_, told = failing(errors, ("unparsed",), text=hostile)
    path = tmp_path / "report.json"
    r = evaluated(path, set_, told)
    assert report.read(path) == r
    assert json.loads(path.read_text())["failures"][0]["errors"][0]["count"] == 4

    text, page = text_of(r), html.render(r)
    assert "4 × HTTP 502: <b>|bad|</b>" in text
    assert "1 unparsed · q4, text: </code><script>x</script>| `y`" in text
    assert "<script>x" not in page

    [line] = [line for line in summary.markdown(r).splitlines() if line.startswith("- tuned at low")]
    assert r"4 × HTTP 502: \<b\>\|bad\|\</b\>" in line
    assert "1 unparsed, such as q4" in line


def test_junit_says_it_beside_the_check_that_failed():
    set_, told = failing(["HTTP 502\x00"], ("unparsed",))
    elsewhere = [
        r.model_copy(update={"error": "HTTP 418"} if r.effort == "high" and r.question == "q9" else {}) for r in told
    ]
    suite = ElementTree.fromstring(summary.junit(built(set_, elsewhere)))
    low, high = (suite.findall(f"testcase[@classname='evalsuite.{effort}']") for effort in ("low", "high"))
    red = [case for case in low if case.find("failure") is not None]
    assert red
    assert {case.findtext("system-out") for case in red} == {
        "tuned at low, replies without an answer: 1 × HTTP 502\\x00; 1 unparsed, such as q1: tuned does not know"
    }
    assert high
    assert not any("HTTP 502" in (case.findtext("system-out") or "") for case in high)


def test_a_measurement_that_is_void_says_why_in_junit():
    r = built(*failing(["HTTP 502"] * 30))
    assert r.verdict.outcome == "INVALID"
    case = ElementTree.fromstring(summary.junit(r)).find("testcase[@name='measurement']")
    assert case is not None
    assert "tuned at low, replies without an answer: 30 × HTTP 502" in (case.findtext("system-out") or "")


def test_nothing_is_said_where_nothing_failed():
    set_ = question_set(60)
    r = built(set_, both(set_))
    assert r.failures == ()
    assert "Why replies failed" not in html.render(r)
    assert "without an answer" not in summary.markdown(r)
