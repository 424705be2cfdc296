"""Other sites as a forest: each finding on the study's own test images, and below it at the site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvme.extras import needed
from dvme.report.figures import style
from dvme.report.figures.forest import ROW, bars
from dvme.text import METRIC_NAMES, difference_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from dvme.study.sites.outcome import Drop, SiteResult, SitesResult

OFFSET = 0.13
"""By how much the two bars of a row lie apart, in rows."""
CHANCE = {"auc": 0.5, "kappa": 0.0}
"""Of metrics whose chance does not depend on how frequent the classes are."""
OWN_LOOK, SITE_LOOK = (style.PALETTE[0], "circle-open"), (style.PALETTE[3], "diamond")


def sites(found: SitesResult) -> Figure:
    """A forest plot of the leading method: for each site the mean over what both have, then every finding.

    Args:
        found: with one site at least.
    """
    graph_objects = needed("plotly.graph_objects")

    rows: list[tuple[float, str, Drop]] = []
    texts, position = list[tuple[float, str]](), 0.0
    for site in found.sites:
        texts.append((position, f"<b>{style.shown(site.name)}</b>"))
        position += 0.55
        for name, each in _rows(found, site):
            texts.append((position, style.shown(name)))
            rows.append((position + 0.4, name, each))
            position += 0.95
    figure = graph_objects.Figure()
    for what, shift, (color, symbol) in (("own test images", -OFFSET, OWN_LOOK), ("at the site", OFFSET, SITE_LOOK)):
        intervals = [each.internal if shift < 0 else each.external for _, _, each in rows]
        figure.add_trace(
            graph_objects.Scatter(
                x=[each.estimate for each in intervals],
                y=[place + shift for place, _, _ in rows],
                error_x=bars(intervals, color) if rows else None,
                mode="markers",
                name=what,
                marker={"color": color, "symbol": symbol, "size": 10, "line": {"width": 2, "color": color}},
                hovertext=[_hover(name, each) for _, name, each in rows],
                hoverinfo="text",
            )
        )
    if found.metric in CHANCE:
        figure.add_vline(x=CHANCE[found.metric], line={"color": style.NEUTRAL, "dash": "dot", "width": 1})
    figure.update_xaxes(title_text=METRIC_NAMES[found.metric])
    figure.update_yaxes(range=[position + 0.1, -0.5], showgrid=False, showticklabels=False, ticks="")
    for place, text in texts:
        figure.add_annotation(x=0.0, y=place, xref="paper", xanchor="left", text=text, font_size=12, align="left")
    figure.update_annotations(showarrow=False)
    figure.update_layout(margin_l=16)
    return style.finished(
        figure,
        title="At other sites",
        subtitle=f"{style.cut(found.leader)}. Bars: 95% intervals, given these heads",
        height=round(ROW * (position + 0.6)) + 60,
        n_legend=2,
    )


def _rows(found: SitesResult, site: SiteResult) -> list[tuple[str, Drop]]:
    """What is drawn of a site; a single finding is its own mean."""
    lead = site.of(found.leader)
    judged = [each for each in site.findings if each.finding in site.judged]
    if lead is None:
        return []
    if len(judged) == 1 and found.metric == "auc":
        return [(judged[0].finding, lead)]
    over = f"{METRIC_NAMES[found.metric]}, all that both have"
    return [(over, lead), *((each.finding, each) for each in judged if found.metric == "auc")]


def _hover(name: str, each: Drop) -> str:
    lines = [
        f"<b>{style.whole(name)}</b>",
        f"own test images {difference_text(each.internal, named='95% interval', signed=False)}",
        f"at the site {difference_text(each.external, named='95% interval', signed=False)}",
        f"{each.word}: {difference_text(each.shown.difference)}",
    ]
    return "<br>".join(lines)
