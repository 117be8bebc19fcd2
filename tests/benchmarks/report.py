"""How a benchmark tells its figures: beside what they are measured against, and beside their goal."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """Rows of figure, goal and verdict; nothing here fails a build."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, what: str, figure: str, goal: str = "", *, reached: bool | None = None) -> None:
        verdict = "" if reached is None else ("reached" if reached else "SHORT")
        self.rows.append((what, figure, goal, verdict))
        print(f"  {what:<62} {figure:>16}  {goal:<28} {verdict}", flush=True)

    def title(self, text: str) -> None:
        print(f"\n{text}", flush=True)
