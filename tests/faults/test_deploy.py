"""A deploy that changes families while the old workers' files and the run live on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .scraper import Scraper, total, view

if TYPE_CHECKING:
    from .bare_writers import Writers


def test_deploy_changes_buckets_mode_and_help(writers: Writers) -> None:
    """The newest declaration wins: no observation is lost, samples of another mode are left out and counted."""
    old = writers.start(deploy=1)
    for size in (0.5, 1.5, 4, 9):
        old.ask("observe", size)
    old.ask("gauge", 10)
    old.ask("inc", "a", 2)
    assert total(writers.samples(), "bare_level") == 10
    assert "Things, deploy 1." in view(writers.directory)()
    with Scraper(view(writers.directory), pause_seconds=0.005) as scraper:
        seen = len(scraper.history)
        new = writers.start(deploy=2)
        for size in (0.5, 2.5):
            new.ask("observe", size)
        new.ask("gauge", 3)
        new.ask("inc", "a", 1)
        assert len(scraper.history) >= seen
    exposition = view(writers.directory)()
    samples = writers.samples()
    assert "Things, deploy 2." in exposition
    assert "deploy 1." not in exposition
    buckets = {bound: total(samples, "bare_sizes_bucket", le=bound) for bound in ("1.0", "2.0", "3.0", "5.0", "+Inf")}
    assert buckets == {"1.0": 2, "2.0": 0, "3.0": 4, "5.0": 5, "+Inf": 6}
    assert total(samples, "bare_sizes_count") == 6
    assert total(samples, "bare_sizes_sum") == 18
    assert total(samples, "bare_level") == 3, "the old mode's sample is left out"
    assert total(samples, "multiproc_mixed_samples", reason="mode") == 1
    assert total(samples, "bare_things_total", kind="a") == 3
    assert not scraper.failures
    falls = [fall for fall in scraper.falls if "'le', '2.0'" not in fall]
    assert not falls, "only the bound that is no more may vanish"
    old.kill()
    samples = writers.samples()
    assert total(samples, "bare_sizes_count") == 6
    assert total(samples, "bare_alive") == 1
