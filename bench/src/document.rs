//! Writes the report into docs/performance.md, between two marks.

use std::fs;
use std::path::Path;

use crate::failure::Failure;
use crate::report::{Report, SHARED, Table};
use crate::scenario::Scenario;

/// Replaces what stands between the marks by the report.
///
/// # Errors
/// [`Failure`] if the document can't be read or written, or has no marks.
pub(crate) fn write(report: &Report, docs: &Path) -> Result<(), Failure> {
    let file = docs.join("performance.md");
    let document = fs::read_to_string(&file)?;
    let spliced = splice(&document, &markdown(report))
        .ok_or_else(|| Failure(format!("{} has no {BEGIN} before {END}", file.display())))?;
    Ok(fs::write(file, spliced)?)
}

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Returns the document with another text between the marks, or `None` if it has no marks.
fn splice(document: &str, text: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{text}\n{END}{after}"))
}

fn markdown(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "Measured at {} on {} cores of {}, Linux {}, commit {}, in {} rounds of {} s for each scenario. {SHARED}",
        machine.at,
        machine.cores,
        machine.processor,
        machine.kernel,
        machine.commit,
        report.rounds.len(),
        report.seconds,
    );
    if report.names().contains(&Scenario::Sync) {
        let millis = |quantile| {
            let of = |m: &crate::stage::Measured| m.latency.value_at_quantile(quantile) as f64;
            report.over(Scenario::Sync, &of).median / 1000.0
        };
        text += &format!(
            " An fsync of 4 KiB took {:.2} ms, p99 {:.2} ms.",
            millis(0.5),
            millis(0.99)
        );
    }
    format!(
        "\n{}\n\n{}\n{}",
        wrapped(&text),
        table(&report.ratios()),
        table(&report.scenarios())
    )
}

fn table(table: &Table) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<_> = cells.collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&mut table.header.iter().copied());
    text += &line(&mut table.header.iter().map(|_| "---"));
    for row in &table.rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// Breaks a text into lines of at most 120 columns.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one from the start");
        if last.is_empty() {
            last.push_str(word);
        } else if last.len() + 1 + word.len() <= 120 {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let document = format!("# A\n\nprose\n{BEGIN}\nold\n{END}\nmore prose\n");
        let once = splice(&document, "new").unwrap();
        assert_eq!(
            once,
            format!("# A\n\nprose\n{BEGIN}\nnew\n{END}\nmore prose\n")
        );
        assert_eq!(splice(&once, "new").unwrap(), once);
        assert_eq!(splice("no marks", "new"), None);
        assert_eq!(splice(&format!("{END} {BEGIN}"), "new"), None);
    }
}
