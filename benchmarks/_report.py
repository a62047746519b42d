"""How the benchmarks print: one line per figure, the median of paired ratios with its quartiles, and the bar where there is one."""

from __future__ import annotations

import statistics


class Report:
    """Prints figures and remembers whether one missed its bar."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def head(self, text: str) -> None:
        """Begin a table."""
        print(f"\n{text}")

    def ratio(
        self,
        what: str,
        pairs: list[tuple[float, float]],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        milli: bool = True,
    ) -> None:
        """Print the first of each pair over the second; the pairs are of one round each, in seconds or (not `milli`) as they are."""
        ratios = [first / second for first, second in pairs]
        ratio = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratio, ratio, ratio)
        scale = 1000 if milli else 1
        first, second = (statistics.median(side) * scale for side in zip(*pairs, strict=True))
        figures = f"{first:>9.2f} / {second:>8.2f} {'ms' if milli else '  '}"
        line = f"  {what:<44} {figures} = {ratio:>7.2f}   quartiles {low:.2f} to {high:.2f} of {len(ratios)}"
        print(line + self._verdict(what, ratio, at_least, at_most), flush=True)

    def figure(self, what: str, value: float, unit: str, *, at_most: float | None = None, note: str = "") -> None:
        """Print one number."""
        print(f"  {what:<44} {value:>9.2f} {unit}{note}{self._verdict(what, value, None, at_most)}", flush=True)

    def _verdict(self, what: str, value: float, at_least: float | None, at_most: float | None) -> str:
        if at_least is None and at_most is None:
            return ""
        met = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        if not met:
            self.missed.append(what)
        bar = f">= {at_least:g}" if at_least is not None else f"<= {at_most:g}"
        return f"   bar {bar}: {'met' if met else 'MISSED'}"

    def code(self, *, enforced: bool) -> int:
        """Say what was missed; give the exit code, which is 1 for it only where bars are enforced."""
        if self.missed:
            print(f"\nmissed: {'; '.join(self.missed)}")
        return 1 if self.missed and enforced else 0
