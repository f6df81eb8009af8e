"""Values, classes and exceptions as bytes, and back as the reader's own."""

from __future__ import annotations

import builtins
import enum
import pickle
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import pytest
from cloudpickle import cloudpickle as _internals

from concoord_ray.errors import NoSuchObject
from concoord_ray.rsm import codec, exceptions
from tests.rsm.log import no_handles


class Plain(Exception):
    pass


class Custom(Exception):
    """Does not survive a pickle."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


class NoSuper(ValueError):
    def __init__(self, code: int, why: str) -> None:
        self.code = code


class OddUnicode(UnicodeDecodeError):
    def __init__(self, text: str) -> None:
        self.text = text


class Holder:
    class Plain(Exception):
        """Another than the one of the module."""


def there_and_back(error: BaseException) -> BaseException:
    return exceptions.decode_exception(exceptions.encode_exception(error), no_handles)


def failure(code: Callable[[], Any]) -> BaseException:
    try:
        code()
    except Exception as error:
        return error
    raise AssertionError("it raised nothing")


def _import_nothing() -> None:
    import a_module_that_is_not_there  # type: ignore[import-not-found]  # noqa: F401


@pytest.mark.parametrize(
    "error",
    [
        Plain("a", 1),
        Plain(),
        Custom(7, why="because"),
        NoSuper(7, "because"),
        NoSuchObject("gone"),
        OddUnicode("odd"),
        KeyError("key"),
        StopIteration(5),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        failure(lambda: open("/no/such/file")),  # noqa: SIM115
        failure(lambda: int("x")),
        failure(_import_nothing),
        failure(lambda: [].nope),  # type: ignore[attr-defined]
        failure(lambda: 1 / 0),
        failure(lambda: compile("1 +", "f.py", "exec")),
        OSError(28, "no space", "a", None, "b"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_arrives_as_the_same_type_with_its_message_and_attributes(error: BaseException) -> None:
    arrived = there_and_back(error)
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert repr(arrived.args) == repr(error.args)
    assert {k: v for k, v in vars(arrived).items() if k != "__notes__"} == vars(error)
    assert isinstance(arrived.__cause__, exceptions.RemoteTraceback)
    for name in ("filename", "filename2", "errno", "name", "value", "code", "reason", "lineno"):
        assert getattr(arrived, name, None) == getattr(error, name, None)


def test_the_traceback_tells_where_on_the_replica_it_was_raised() -> None:
    def deep_inside() -> None:
        raise Plain("here")

    arrived = there_and_back(failure(deep_inside))
    assert "deep_inside" in str(arrived.__cause__)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with 3.11")
def test_notes_travel_along() -> None:
    error: Any = Plain("x")
    error.add_note("look at the other log")
    assert vars(there_and_back(error))["__notes__"] == ["look at the other log"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups came with 3.11")
def test_a_group_travels_with_its_members() -> None:
    group = vars(builtins)["ExceptionGroup"]("both", [ValueError(1), KeyError("k")])
    arrived: Any = there_and_back(group)
    assert type(arrived) is type(group)
    assert [repr(one) for one in arrived.exceptions] == ["ValueError(1)", "KeyError('k')"]


def test_an_exception_inside_of_a_value_survives_too() -> None:
    (arrived,) = codec.decode(codec.encode([Custom(7, why="because")]), no_handles)
    assert type(arrived) is Custom
    assert (str(arrived), arrived.code, arrived.why) == ("7: because", 7, "because")


def test_what_cannot_be_pickled_is_told_by_its_repr() -> None:
    generator = (letter for letter in "abc")
    error = Plain("kept", generator)
    error.lock = generator  # type: ignore[attr-defined]
    arrived = there_and_back(error)
    assert type(arrived) is Plain
    shown = repr(generator).partition(" at 0x")[0] + ">"  # An address is another one on every replica.
    assert arrived.args == ("kept", shown)
    assert vars(arrived)["lock"] == shown


@pytest.mark.parametrize(
    "value", [None, 1, "s", b"b", (1, "a"), [1, [2]], {"k": {1, 2}}, (1, (2,)), 10**30, float("inf"), {Plain: 1}]
)
def test_a_value_arrives_as_it_was(value: Any) -> None:
    assert codec.decode(codec.encode(value), no_handles) == value


def test_the_empty_call_takes_no_bytes() -> None:
    assert codec.encode_arguments((), {}) == b""


# The reader's own classes.


SOURCE = """
import enum
class MyError(Exception):
    pass
class Colour(enum.Enum):
    RED = 1
class Outer:
    class MyError(Exception):
        pass
def local():
    class MyError(Exception):
        pass
    return MyError
class Decorated:
    where = WHERE
class Handle:
    __wrapped__ = Decorated
if WHERE == "reader":
    Decorated = Handle()
"""


@pytest.fixture
def shipped() -> Iterator[Callable[[str], Any]]:
    """Ships something out of a module that the writer has, to a reader who has another copy of that module."""
    name = "a_users_own_module"

    def load(where: str) -> types.ModuleType:
        module = types.ModuleType(name)
        module.__file__ = f"/somewhere/{name}.py"
        vars(module)["WHERE"] = where
        exec(SOURCE, vars(module))
        sys.modules[name] = module
        return module

    def ship(expression: str) -> Any:
        load("writer")
        encoded = codec.encode(eval(expression, vars(sys.modules[name])))
        _internals._DYNAMIC_CLASS_TRACKER_BY_ID.clear()  # The reader is another process.
        load("reader")
        return codec.decode(encoded, no_handles)

    yield ship
    del sys.modules[name]
    codec._by_value.pop(name, None)
    cloudpickle.unregister_pickle_by_value(types.ModuleType(name))


def test_code_that_is_not_installed_goes_by_value(shipped: Callable[[str], Any]) -> None:
    cls = shipped("MyError")
    assert cls is sys.modules["a_users_own_module"].MyError


@pytest.mark.parametrize("expression", ["MyError", "Colour", "Outer", "Outer.MyError"])
def test_the_readers_own_class_is_preferred(shipped: Callable[[str], Any], expression: str) -> None:
    cls = shipped(expression)
    assert cls is eval(expression, vars(sys.modules["a_users_own_module"]))


def test_an_enum_member_is_the_readers_own(shipped: Callable[[str], Any]) -> None:
    assert shipped("Colour.RED") is sys.modules["a_users_own_module"].Colour.RED


def test_a_local_class_is_not_taken_for_the_modules_class_of_that_name(shipped: Callable[[str], Any]) -> None:
    assert shipped("local()") is not sys.modules["a_users_own_module"].MyError


def test_a_decorated_class_stands_for_the_class_that_it_was_made_from(shipped: Callable[[str], Any]) -> None:
    one = shipped("Decorated()")
    assert type(one) is sys.modules["a_users_own_module"].Decorated.__wrapped__


def test_a_class_of_a_nested_name_is_not_the_one_at_the_top() -> None:
    error = there_and_back(Holder.Plain("nested"))
    assert type(error) is Holder.Plain


@pytest.mark.parametrize(
    ("file", "by_value"),
    [
        ("/srv/project/pkg/__init__.py", True),
        ("/srv/me/.local/lib/python3.11/site-packages/pkg/__init__.py", False),
        ("/usr/lib/python3/dist-packages/pkg.py", False),
        (enum.__file__, False),
        (pickle.__file__ + "-and-more/pkg.py", False),
        (None, False),
    ],
)
def test_only_what_is_not_installed_goes_by_value(file: str | None, by_value: bool) -> None:
    name = "a_package_somewhere"
    module = types.ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    try:
        codec._ship_by_value(name)
        assert codec._by_value[name] is by_value
    finally:
        del sys.modules[name], codec._by_value[name]
        if by_value:
            cloudpickle.unregister_pickle_by_value(module)
