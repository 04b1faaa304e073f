//! The report of a run: medians over its rounds, with the minimum and the maximum.

use serde_json::{Value, json};

use crate::machine::Machine;
use crate::rows::{Round, Row, Wanted};
use crate::scenario::Scenario;
use crate::stage::Measured;

/// Holds the median of some values, with the minimum and the maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Sorts the values, of which there must be one.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (lower, upper) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Self {
            median: f64::midpoint(lower, upper),
            least: values[0],
            most: values[values.len() - 1],
        }
    }
}

/// Holds a table for the terminal or a document.
pub(crate) struct Table {
    pub(crate) header: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// Holds a row with its figure.
pub(crate) struct Found {
    pub(crate) row: &'static Row,
    pub(crate) ratio: Spread,
    /// Unexpected answers in the scenarios that it needs.
    pub(crate) failed: u64,
}

impl Found {
    pub(crate) fn is_good(&self) -> bool {
        self.failed == 0 && self.row.wanted.is_met_by(self.ratio.median)
    }
}

/// Reminds readers of a limit of all figures.
pub(crate) const SHARED: &str =
    "The generator of the load runs on the same cores as what it measures.";

/// Holds the figures of a whole run.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rounds: Vec<Round>,
    /// Duration of each scenario in each round.
    pub(crate) seconds: f64,
    pub(crate) found: Vec<Found>,
}

impl Report {
    pub(crate) fn new(
        machine: Machine,
        rows: &[&'static Row],
        rounds: Vec<Round>,
        seconds: f64,
    ) -> Self {
        let found = rows.iter().map(|row| Found {
            row,
            ratio: Spread::of(rounds.iter().map(row.ratio)),
            failed: failed(row, &rounds),
        });
        Self {
            machine,
            found: found.collect(),
            rounds,
            seconds,
        }
    }

    /// Lists the rows with their targets.
    pub(crate) fn ratios(&self) -> Table {
        let header = vec!["row", "ratio of", "median", "spread", "wanted", ""];
        let rows = self.found.iter().map(|found| {
            let Spread {
                median,
                least,
                most,
            } = found.ratio;
            let wanted = match (found.row.wanted, found.row.aim) {
                (Wanted::AtLeast(wanted), None) => format!("≥ {wanted:.2}"),
                (Wanted::AtLeast(wanted), Some(aim)) => format!("≥ {wanted:.2}, aim {aim:.2}"),
                (Wanted::AtMost(wanted), _) => format!("≤ {wanted:.2}"),
            };
            let verdict = match (found.failed, found.is_good()) {
                (0, true) => "met".to_owned(),
                (0, false) => "missed".to_owned(),
                (failed, _) => format!("{failed} failed"),
            };
            vec![
                found.row.key.to_owned(),
                found.row.about.to_owned(),
                format!("{median:.2}"),
                format!("{least:.2} to {most:.2}"),
                wanted,
                verdict,
            ]
        });
        Table {
            header,
            rows: rows.collect(),
        }
    }

    /// Lists the scenarios with medians of what was measured.
    pub(crate) fn scenarios(&self) -> Table {
        let header = vec![
            "scenario", "per s", "CPU µs", "p50 ms", "p99 ms", "commits", "bytes",
        ];
        let rows = self.names().into_iter().map(|scenario| {
            let over = |of: &dyn Fn(&Measured) -> f64| self.over(scenario, of).median;
            let millis = |quantile| {
                over(&|measured| measured.latency.value_at_quantile(quantile) as f64 / 1000.0)
            };
            let or_nothing = |value: f64, digits: usize| match value {
                0.0 => String::new(),
                value => format!("{value:.digits$}"),
            };
            vec![
                scenario.name().to_owned(),
                format!("{:.0}", over(&|measured| measured.rate)),
                or_nothing(over(&Measured::cpu), 1),
                or_nothing(millis(0.5), 2),
                or_nothing(millis(0.99), 2),
                or_nothing(over(&|m| m.per_operation(m.used.commits as f64)), 3),
                or_nothing(over(&|m| m.per_operation(m.used.written as f64)), 0),
            ]
        });
        Table {
            header,
            rows: rows.collect(),
        }
    }

    /// Returns the spread of one figure of a scenario over all rounds.
    pub(crate) fn over(&self, scenario: Scenario, of: &dyn Fn(&Measured) -> f64) -> Spread {
        Spread::of(self.rounds.iter().map(|round| of(&round[&scenario])))
    }

    pub(crate) fn names(&self) -> Vec<Scenario> {
        let first = self.rounds.first();
        first.map_or(Vec::new(), |round| round.keys().copied().collect())
    }

    /// Returns all figures for programs.
    pub(crate) fn json(&self) -> Value {
        let rows = self.found.iter().map(|found| {
            json!({
                "row": found.row.key,
                "about": found.row.about,
                "median": found.ratio.median,
                "least": found.ratio.least,
                "most": found.ratio.most,
                "threshold": found.row.wanted.threshold(),
                "at_least": matches!(found.row.wanted, Wanted::AtLeast(_)),
                "aim": found.row.aim,
                "headline": found.row.headline,
                "failed": found.failed,
                "good": found.is_good(),
            })
        });
        let scenarios = self.names().into_iter().map(|scenario| {
            let rounds = self.rounds.iter().map(|round| described(&round[&scenario]));
            json!({"scenario": scenario.name(), "rounds": rounds.collect::<Vec<_>>()})
        });
        json!({
            "machine": self.machine.json(),
            "seconds": self.seconds,
            "rows": rows.collect::<Vec<_>>(),
            "scenarios": scenarios.collect::<Vec<_>>(),
        })
    }
}

fn failed(row: &Row, rounds: &[Round]) -> u64 {
    rounds
        .iter()
        .flat_map(|round| {
            row.needs
                .iter()
                .map(move |scenario| (*scenario, &round[scenario]))
        })
        .flat_map(|(scenario, measured)| {
            measured.failed.iter().map(move |failed| (scenario, failed))
        })
        // Load shedding is the right answer to overload.
        .filter(|(scenario, (status, _))| *scenario != Scenario::Overload || *status != 503)
        .map(|(_, (_, number))| number)
        .sum()
}

fn described(measured: &Measured) -> Value {
    let quantile = |quantile| measured.latency.value_at_quantile(quantile);
    json!({
        "per_second": measured.rate,
        "offered_per_second": measured.offered,
        "done": measured.done,
        "failed": measured.failed.iter().map(|(status, number)| json!({"status": status, "number": number})).collect::<Vec<_>>(),
        "first_failure": measured.first_failure,
        "latency_us": {
            "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99), "p999": quantile(0.999),
            "max": measured.latency.max(),
        },
        "latency_of_failed_us": {
            "p50": measured.latency_of_failed.value_at_quantile(0.5),
            "p99": measured.latency_of_failed.value_at_quantile(0.99),
            "max": measured.latency_of_failed.max(),
        },
        "cpu_us": measured.cpu(),
        "commits": measured.used.commits,
        "writes": measured.used.writes,
        "bytes_written": measured.used.written,
        "resident_kib": measured.memory.map(|memory| memory.resident),
        "anonymous_kib": measured.memory.map(|memory| memory.anonymous),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_the_spread_goes_to_the_ends() {
        let odd = Spread::of([0.5, 0.1, 0.3]);
        assert_eq!((odd.median, odd.least, odd.most), (0.3, 0.1, 0.5));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert_eq!(Spread::of([7.0]).median, 7.0);
    }
}
