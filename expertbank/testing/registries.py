"""Does a registry of your own keep every promise of ``expertbank.registry.registry``?

Subclass ``RegistryConformance`` in a test file, say where registries are made, and run pytest::

    class TestMine(RegistryConformance):
        @pytest.fixture
        def nowhere(self, tmp_path):
            numbers = itertools.count()
            return lambda: MyLocation(tmp_path / str(next(numbers)))

Needs pytest. ``bank_rows`` has the records that the tests are made of.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator

import pytest

from expertbank.errors import NotFoundError, ReadOnlyError
from expertbank.registry.registry import Registry, RegistryLocation
from expertbank.testing.bank_rows import BACKBONE, expert_parts, fill, known, run
from expertbank.testing.registry_experts import ExpertPromises
from expertbank.testing.registry_groups import GroupPromises
from expertbank.testing.registry_growth import GrowthPromises
from expertbank.testing.registry_removal import RemovalPromises
from expertbank.testing.registry_routers import RouterPromises
from expertbank.testing.registry_writers import WriterPromises


class RegistryConformance(
    ExpertPromises,
    RouterPromises,
    GroupPromises,
    GrowthPromises,
    RemovalPromises,
    WriterPromises,
):
    """The tests; ``nowhere`` is yours to give."""

    @pytest.fixture
    def nowhere(self) -> Callable[[], RegistryLocation]:
        """A function that gives another place at every call, at which there is nothing."""
        raise NotImplementedError("give places for registries: override the fixture `nowhere`")

    @pytest.fixture
    def somewhere(self, nowhere: Callable[[], RegistryLocation]) -> Callable[[], RegistryLocation]:
        """The same with a new registry at each; override it where copying one is faster."""

        def make() -> RegistryLocation:
            location = nowhere()
            location.create().close()
            return location

        return make

    @pytest.fixture
    def location(self, somewhere: Callable[[], RegistryLocation]) -> RegistryLocation:
        """Where the registry under test is."""
        return somewhere()

    @pytest.fixture
    def fresh(self, location: RegistryLocation) -> Iterator[Registry]:
        """A registry that knows nothing yet."""
        with location.open() as registry:
            yield registry

    @pytest.fixture
    def empty(self, fresh: Registry) -> Registry:
        """A registry with a backbone and nothing else."""
        fresh.set_backbone(BACKBONE)
        return fresh

    @pytest.fixture
    def full(self, fresh: Registry) -> Registry:
        """A registry with records of every type."""
        fill(fresh)
        return fresh

    def test_where_nothing_is_opening_finds_nothing_and_makes_nothing(
        self, nowhere: Callable[[], RegistryLocation]
    ) -> None:
        location = nowhere()
        for read_only in (False, True):
            with pytest.raises(NotFoundError, match="expertbank init"):
                location.open(read_only=read_only)
        assert not location.exists()

    def test_creating_makes_a_registry_and_opens_the_one_that_exists(
        self, nowhere: Callable[[], RegistryLocation]
    ) -> None:
        location = nowhere()
        with location.create() as registry:
            fill(registry)
            before = known(registry)
        assert location.exists()
        with location.create() as registry:
            assert known(registry) == before
            assert registry.check() == ()

    def test_a_place_can_be_sent_to_other_processes_and_is_named_in_messages(
        self, location: RegistryLocation
    ) -> None:
        assert pickle.loads(pickle.dumps(location)).open().backbone() is None
        assert location.describe()

    def test_a_second_opening_sees_what_the_first_one_wrote(
        self, full: Registry, location: RegistryLocation
    ) -> None:
        with location.open() as other:
            assert known(other) == known(full)
            full.commit_expert(**expert_parts("late"))
            assert other.expert("late").id == "late@1"

    def test_a_closed_registry_can_be_asked_again(self, full: Registry) -> None:
        before = known(full)
        full.close()
        assert known(full) == before

    def test_a_sound_registry_has_no_problems(self, full: Registry) -> None:
        assert full.check() == ()

    def test_a_read_only_registry_answers_everything_and_writes_nothing(
        self, full: Registry, location: RegistryLocation
    ) -> None:
        before = known(full)
        with location.open(read_only=True) as registry:
            assert registry.read_only
            assert not full.read_only
            assert known(registry) == before
            assert registry.check() == ()
            for write in (
                registry.probe_writable,
                lambda: registry.set_alias("x", 1, ""),
                lambda: registry.set_group(["no task"], "g", run("group")),
                lambda: registry.remove_task("no task", run("remove")),
                lambda: registry.commit_expert(**expert_parts("new")),
            ):
                with pytest.raises(ReadOnlyError, match="opened for reading only"):
                    write()
        assert known(full) == before

    def test_probing_leaves_everything_as_it_is(self, full: Registry) -> None:
        before = known(full)
        full.probe_writable()
        assert known(full) == before
