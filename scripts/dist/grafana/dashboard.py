#!/usr/bin/env python3
"""Writes the dashboard to stdout, built with the types of Grafana's own library (grafana-foundation-sdk).

scripts/dist/check.sh compares it with pingtrace.json, which is what users import.
"""

from grafana_foundation_sdk.builders import (
    common,
    dashboard as grafana,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TableCellHeight,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# Series of a target, and of a node.
TARGET = 'instance=~"$instance",target=~"$target"'
NODE = 'instance=~"$instance"'
RATE = "[$__rate_interval]"
# What a node's process costs: of pingtrace alone.
OWN = "and on (instance, job) pingtrace_build_info"


def query(expr, legend="", letter="A"):
    return prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(letter).range()


def instant(expr, letter):
    asked = prometheus.Dataquery().expr(expr).ref_id(letter).instant()
    return asked.format(PromQueryFormat.TABLE)


def placed(panel, title, help_text, width, height=8):
    panel.title(title).description(help_text).datasource(SOURCE)
    return panel.span(width).height(height)


def lines(title, help_text, queries, unit, width=8, stacked=False):
    panel = placed(timeseries.Panel(), title, help_text, width).unit(unit).min(0)
    legend = common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
    panel.legend(legend.placement(LegendPlacement.BOTTOM).calcs([]))
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    for letter, (expr, legend) in zip("ABCDEF", queries):
        panel.with_target(query(expr, legend, letter))
    return panel


def number(title, help_text, expr, unit, limits=None):
    panel = placed(stat.Panel(), title, help_text, 6, 4).unit(unit)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if limits:
        steps = [Threshold(value=None, color="green")]
        steps += [Threshold(value=value, color=color) for value, color in limits]
        panel.thresholds(grafana.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return panel.with_target(query(expr))


def heat(title, help_text, asked, unit, width=12):
    panel = placed(heatmap.Panel(), title, help_text, width, 9).calculate(False)
    return panel.cell_values(heatmap.CellValues().unit(unit)).with_target(asked)


def share(result):
    lost = f'sum by (instance, target) (rate(pingtrace_probes_total{{{TARGET},result=~"{result}"}}{RATE}))'
    return f"{lost} / sum by (instance, target) (rate(pingtrace_probes_total{{{TARGET}}}{RATE}))"


def overview(board):
    sent = f"sum(rate(pingtrace_probes_total{{{TARGET}}}{RATE}))"
    lost = f'sum(rate(pingtrace_probes_total{{{TARGET},result="lost"}}{RATE}))'
    slow = f"sum(rate(pingtrace_slow_probes_total{{{TARGET}}}{RATE}))"
    p99 = f"histogram_quantile(0.99, sum(rate(pingtrace_rtt_seconds{{{TARGET}}}{RATE})))"
    board.with_panel(number("Probes a second", "Answered or given up.", sent, "reqps"))
    board.with_panel(
        number("Lost", "Share of the probes.", f"{lost} / {sent}", "percentunit", [(0.001, "orange"), (0.01, "red")])
    )
    board.with_panel(
        number("Slow", "Share of the probes.", f"{slow} / {sent}", "percentunit", [(0.01, "orange"), (0.05, "red")])
    )
    board.with_panel(number("Round trip, p99", "From native histograms.", p99, "s"))


def owners(board):
    board.with_row(grafana.Row("Whose it is"))
    by_owner = f"sum by (owner) (rate(pingtrace_slow_probes_total{{{TARGET}}}{RATE}))"
    asked = query(by_owner, "{{owner}}").format(PromQueryFormat.TIME_SERIES)
    board.with_panel(
        heat("Slow probes by owner", "A row for each owner; the colour is slow probes a second.", asked, "reqps")
    )
    rtt = query(f"sum(rate(pingtrace_rtt_seconds{{{TARGET}}}{RATE}))").format(PromQueryFormat.HEATMAP)
    board.with_panel(heat("Round trips", "From native histograms.", rtt, "reqps"))
    board.with_panel(
        lines(
            "Slow probes by segment",
            "Sure: the segment alone explains it.",
            [
                (
                    f"sum by (owner, segment, certainty) (rate(pingtrace_slow_probes_total{{{TARGET}}}{RATE}))",
                    "{{owner}} {{segment}} ({{certainty}})",
                )
            ],
            "reqps",
            12,
            stacked=True,
        )
    )
    mean = (
        f"sum by (segment, owner) (rate(pingtrace_segment_seconds_sum{{{NODE}}}{RATE})) / "
        f"sum by (segment, owner) (rate(pingtrace_segment_seconds_count{{{NODE}}}{RATE}))"
    )
    native = (
        f"histogram_sum(sum by (segment, owner) (rate(pingtrace_segment_seconds{{{NODE}}}{RATE}))) / "
        f"histogram_count(sum by (segment, owner) (rate(pingtrace_segment_seconds{{{NODE}}}{RATE})))"
    )
    board.with_panel(
        lines(
            "Mean time in each segment",
            "All targets of a node together.",
            [(f"{native} or {mean}", "{{owner}} {{segment}}")],
            "s",
            12,
            stacked=True,
        )
    )
    board.with_panel(
        lines(
            "What had the CPU in slow segments",
            "With --explain.",
            [(f"sum by (host, class) (rate(pingtrace_blame_seconds_total{{{NODE}}}{RATE}))", "{{host}} {{class}}")],
            "s",
            12,
            stacked=True,
        )
    )


def peers(board):
    board.with_row(grafana.Row("Peers"))
    rate = f"sum by (instance, target) (rate(pingtrace_slow_probes_total{{{TARGET}}}{RATE}))"
    all_probes = f"sum by (instance, target) (rate(pingtrace_probes_total{{{TARGET}}}{RATE}))"
    p99 = f"histogram_quantile(0.99, sum by (instance, target) (rate(pingtrace_rtt_seconds{{{TARGET}}}{RATE})))"
    panel = placed(table.Panel(), "Worst peers", "By slow probes, then by loss.", 24, 10)
    panel.cell_height(TableCellHeight.SM)
    panel.with_target(instant(f"topk(20, {rate} / {all_probes})", "A"))
    panel.with_target(instant(f"topk(20, {share('lost')})", "B"))
    panel.with_target(instant(f"topk(20, {p99})", "C"))
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    names = {"Value #A": "slow", "Value #B": "lost", "Value #C": "p99", "instance": "from", "target": "to"}
    organized = {"excludeByName": {"Time": True}, "renameByName": names}
    panel.with_transformation(DataTransformerConfig(id_val="organize", options=organized))
    for column, unit in [("slow", "percentunit"), ("lost", "percentunit"), ("p99", "s")]:
        panel.override_by_name(column, [DynamicConfigValue(id_val="unit", value=unit)])
    panel.sort_by([common.TableSortByFieldState().display_name("slow").desc(True)])
    board.with_panel(panel)


def losses(board):
    board.with_row(grafana.Row("Loss"))
    by_place = f"sum by (place, reason) (rate(pingtrace_lost_probes_total{{{TARGET}}}{RATE}))"
    board.with_panel(
        lines(
            "Lost probes by place",
            "With the kernel's reason for the drop.",
            [(by_place, "{{place}} {{reason}}")],
            "reqps",
            12,
            stacked=True,
        )
    )
    results = f'sum by (result) (rate(pingtrace_probes_total{{{TARGET},result!="ok"}}{RATE}))'
    board.with_panel(
        lines("Not answered in time", "Late, lost or forgotten.", [(results, "{{result}}")], "reqps", 12, stacked=True)
    )


def trust(board):
    board.with_row(grafana.Row("What it rests on"))
    board.with_panel(
        lines(
            "State of the servers' clocks",
            "Targets in each state. The direction of a slow wire is told in the state lock only.",
            [(f"sum by (state) (pingtrace_clock_targets{{{NODE}}})", "{{state}}")],
            "none",
            stacked=True,
        )
    )
    board.with_panel(
        lines(
            "Events of clocks and paths",
            "A second.",
            [(f"sum by (event) (rate(pingtrace_clock_events_total{{{NODE}}}{RATE}))", "{{event}}")],
            "ops",
        )
    )
    board.with_panel(
        lines(
            "Irregularities",
            "What was lost, refused or odd in the measurement, a second.",
            [(f"sum by (kind) (rate(pingtrace_irregularities_total{{{NODE}}}{RATE}))", "{{kind}}")],
            "ops",
        )
    )
    board.with_panel(
        lines(
            "Servers: clients, and stamps a second",
            "Stamps by the way in which they return.",
            [
                (f"sum by (instance) (pingtrace_server_clients{{{NODE}}})", "clients of {{instance}}"),
                (f"sum by (way) (rate(pingtrace_server_stamps_total{{{NODE}}}{RATE}))", "stamps, {{way}}"),
            ],
            "short",
        )
    )
    board.with_panel(
        lines(
            "Servers: withheld and lost",
            "A second.",
            [
                (
                    f"sum by (reason) (rate(pingtrace_server_withheld_total{{{NODE}}}{RATE}))",
                    "withheld: {{reason}}",
                ),
                (f"sum by (kind) (rate(pingtrace_server_lost_total{{{NODE}}}{RATE}))", "{{kind}}"),
            ],
            "ops",
        )
    )
    board.with_panel(
        lines(
            "Own cost: CPU",
            "Of each process.",
            [
                (f"rate(process_cpu_seconds_total{{{NODE}}}{RATE}) {OWN}", "{{instance}}"),
                (
                    f"sum by (instance, program) (rate(pingtrace_program_seconds_total{{{NODE}}}{RATE}))",
                    "{{instance}} {{program}} (--debug)",
                ),
            ],
            "percentunit",
        )
    )
    board.with_panel(
        lines(
            "Own cost: memory",
            "Resident.",
            [(f"process_resident_memory_bytes{{{NODE}}} {OWN}", "{{instance}}")],
            "bytes",
        )
    )


def variable(name, label, expr):
    chosen = grafana.QueryVariable(name).label(label).query(expr).datasource(SOURCE)
    chosen.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    return chosen.multi(True).include_all(True).all_value(".*")


def main():
    board = grafana.Dashboard("pingtrace").uid("pingtrace").tags(["pingtrace", "network", "latency"])
    board.description("Which segment made probes slow, and where they were lost.")
    board.tooltip(DashboardCursorSync.CROSSHAIR).refresh("1m").time("now-3h", "now").timezone("browser")
    board.with_variable(grafana.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    board.with_variable(variable("instance", "From", "label_values(pingtrace_build_info, instance)"))
    of_instance = 'label_values(pingtrace_probes_total{instance=~"$instance"}, target)'
    board.with_variable(variable("target", "To", of_instance))
    for part in (overview, owners, peers, losses, trust):
        part(board)
    print(JSONEncoder(sort_keys=True, indent=2).encode(board.build()))


main()
