//! Charts as plain SVG: bars with what they stand for written beside them.

use std::fmt::Write;

use crate::report::{Found, Report};
use crate::rows::Wanted;
use crate::scenario::Scenario;

/// Every ratio as a share of what is wanted. Those that should be large come first, those that should be small below.
pub(crate) fn ratios(found: &[Found]) -> String {
    let mut chart = Chart::new(LABEL, BARS);
    for (heading, large) in [
        ("More is better: the line is the least", true),
        ("Less is better: the line is the most", false),
    ] {
        let group = found.iter().filter(|found| {
            let is_large = matches!(found.row.wanted, Wanted::AtLeast(_));
            is_large == large && found.row.wanted.threshold() > 0.0
        });
        let group: Vec<_> = group.collect();
        if group.is_empty() {
            continue;
        }
        chart.heading(heading);
        let top = chart.height;
        for found in group {
            let threshold = found.row.wanted.threshold();
            let share = |ratio: f64| (ratio / threshold / FULL).min(1.0);
            let color = if found.is_good() { GOOD } else { BAD };
            let spread = found.ratio;
            let text = format!("{:.2} (wanted {threshold:.2})", spread.median);
            chart.bar(found.row.about, &text, share(spread.median), color);
            chart.range(share(spread.least), share(spread.most));
            if let Some(aim) = found.row.aim {
                chart.mark(share(aim), chart.height - ROW, chart.height - 4.0, AIM);
            }
        }
        chart.mark(1.0 / FULL, top, chart.height - 4.0, INK);
    }
    chart.finish("What Guestpass does, as a share of what is wanted")
}

/// Median and p99 of what has a latency.
pub(crate) fn latency(report: &Report) -> String {
    let shown = [
        Scenario::Sync,
        Scenario::EmptyHalfLoad,
        Scenario::HalfLoad,
        Scenario::Refresh,
        Scenario::SignUp,
    ];
    let names = report.names();
    let shown: Vec<_> = shown.into_iter().filter(|s| names.contains(s)).collect();
    let millis = |scenario, quantile| {
        let spread = report.over(scenario, &|measured| {
            measured.latency.value_at_quantile(quantile) as f64 / 1000.0
        });
        spread.median
    };
    let most = shown.iter().map(|s| millis(*s, 0.99)).fold(0.1, f64::max);
    let mut chart = Chart::new(LABEL, BARS);
    chart.heading("Milliseconds: median, then p99");
    for scenario in shown {
        for (quantile, name, color) in [(0.5, scenario.name(), GOOD), (0.99, "", SLOW)] {
            let value = millis(scenario, quantile);
            chart.bar(name, &format!("{value:.2}"), value / most, color);
        }
    }
    chart.finish("How long it takes")
}

/// A bar of full length is so many times what is wanted.
const FULL: f64 = 2.0;
const LABEL: f64 = 360.0;
const BARS: f64 = 320.0;
const VALUE: f64 = 150.0;
const ROW: f64 = 24.0;

const INK: &str = "#1f2328";
const GOOD: &str = "#2f7d5b";
const SLOW: &str = "#9ec7b4";
const BAD: &str = "#b5533c";
const AIM: &str = "#8a6d1d";

struct Chart {
    label: f64,
    bars: f64,
    height: f64,
    body: String,
}

impl Chart {
    const fn new(label: f64, bars: f64) -> Self {
        Self {
            label,
            bars,
            height: 40.0,
            body: String::new(),
        }
    }

    fn heading(&mut self, text: &str) {
        self.height += 10.0;
        let y = self.height + 10.0;
        self.text(
            12.0,
            y,
            "start",
            &format!("<tspan font-weight=\"bold\">{text}</tspan>"),
        );
        self.height += ROW;
    }

    /// A bar of that share of the full length.
    fn bar(&mut self, label: &str, value: &str, share: f64, color: &str) {
        let (y, width) = (self.height, (self.bars * share.max(0.0)).max(1.0));
        self.text(self.label - 8.0, y + 14.0, "end", label);
        let (x, top, high) = (self.label, y + 3.0, ROW - 10.0);
        self.add(format_args!(
            r#"<rect x="{x}" y="{top}" width="{width:.1}" height="{high}" fill="{color}"/>"#
        ));
        self.text(self.label + self.bars + 12.0, y + 14.0, "start", value);
        self.height += ROW;
    }

    /// Where the rounds of the last bar lie.
    fn range(&mut self, least: f64, most: f64) {
        let y = self.height - ROW + 10.0;
        let (from, to) = (
            self.label + self.bars * least,
            self.label + self.bars * most,
        );
        self.add(format_args!(
            r##"<line x1="{from:.1}" y1="{y}" x2="{to:.1}" y2="{y}" stroke="#ffffff" stroke-width="2" stroke-opacity="0.7"/>"##
        ));
    }

    fn mark(&mut self, share: f64, from: f64, to: f64, color: &str) {
        let x = self.label + self.bars * share;
        self.add(format_args!(
            r#"<line x1="{x:.1}" y1="{from}" x2="{x:.1}" y2="{to}" stroke="{color}" stroke-width="2"/>"#
        ));
    }

    /// The text may hold markup, but nothing that came from outside.
    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        self.add(format_args!(
            r#"<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        writeln!(self.body, "{element}").expect("writing to a string doesn't fail");
    }

    fn finish(self, title: &str) -> String {
        let (width, height) = (self.label + self.bars + VALUE, self.height + 12.0);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"13\" fill=\"{INK}\">\n\
             <title>{title}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"12\" y=\"26\" font-size=\"16\" font-weight=\"bold\">{title}</text>\n{}</svg>\n",
            self.body
        )
    }
}
