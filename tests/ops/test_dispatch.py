import pytest

from mmeffvit.ops import UnavailableImplementationError, dispatch


@pytest.fixture
def _operator(monkeypatch):
    monkeypatch.setattr(dispatch, "_IMPLEMENTATIONS", {})
    monkeypatch.delenv(dispatch.ENVIRONMENT_VARIABLE, raising=False)
    dispatch.register("add", "quick", lambda x: "quick", lambda x: "x is odd" if x % 2 else None)
    dispatch.register("add", "plain", lambda x: "plain")


@pytest.mark.usefixtures("_operator")
class TestSelect:
    def test_first_that_can_run(self):
        assert dispatch.select("add", None, 2)(2) == "quick"
        assert dispatch.select("add", None, 3)(3) == "plain"

    @pytest.mark.parametrize(
        "value", ["plain", "add=plain", "other=quick, add=plain", "quick,add=plain"]
    )
    def test_environment_before_preference(self, monkeypatch, value):
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, value)
        assert dispatch.select("add", None, 2)(2) == "plain"

    def test_environment_for_another_operator_changes_nothing(self, monkeypatch):
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "other=plain")
        assert dispatch.select("add", None, 2)(2) == "quick"

    def test_argument_before_environment(self, monkeypatch):
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "plain")
        assert dispatch.select("add", "quick", 2)(2) == "quick"

    def test_asked_for_but_cannot_run(self):
        with pytest.raises(UnavailableImplementationError, match="quick: x is odd"):
            dispatch.select("add", "quick", 3)

    def test_unknown_names(self, monkeypatch):
        with pytest.raises(ValueError, match="'fast' of add; it has quick, plain"):
            dispatch.select("add", "fast", 2)
        with pytest.raises(ValueError, match="unknown operator 'sub'"):
            dispatch.select("sub", None, 2)
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "fast")
        with pytest.raises(ValueError, match=dispatch.ENVIRONMENT_VARIABLE):
            dispatch.select("add", None, 2)

    def test_run_calls_what_was_selected(self):
        assert dispatch.run("add", None, 2) == "quick"
        assert dispatch.run("add", "plain", 2) == "plain"

    def test_explain(self):
        assert dispatch.explain("add", 3).splitlines() == [
            "quick: cannot run: x is odd",
            "plain: runs, chosen by the order of preference",
        ]
        assert "plain: can run, comes after quick" in dispatch.explain("add", 2)


class TestByName:
    @pytest.fixture(autouse=True)
    def _special(self, _operator):
        dispatch.register("add", "special", lambda x: "special", by_name="not measured")

    def test_never_by_preference(self, monkeypatch):
        monkeypatch.setattr(dispatch, "_IMPLEMENTATIONS", {})
        dispatch.register("add", "special", lambda x: "special", by_name="not measured")
        with pytest.raises(UnavailableImplementationError, match="special: runs when asked for"):
            dispatch.select("add", None, 2)

    def test_when_asked_for(self, monkeypatch):
        assert dispatch.run("add", "special", 2) == "special"
        monkeypatch.setenv(dispatch.ENVIRONMENT_VARIABLE, "add=special")
        assert dispatch.run("add", None, 2) == "special"

    def test_explain(self):
        line = "special: can run when asked for by name: not measured"
        assert line in dispatch.explain("add", 2).splitlines()
        assert dispatch.explain("add", 2, implementation="special") == (
            "special: runs, chosen by the argument"
        )
